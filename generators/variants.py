"""Variants of the paper's generator: resize-convolution, MISRNet's fusion and iSTFTNet's output layer."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from config import HiFiGANConfig
from generators.vocos import InverseSTFT
from model import RESBLOCKS, Generator, WNConv1d


class ResizeConvolution(nn.Sequential):
    """Upsampling by repeating samples, then a convolution (Odena, Dumoulin and Olah, 2016).

    Avoids the checkerboard artifacts of transposed convolutions, whose kernels overlap unevenly.
    (B, in_channels, N) -> (B, out_channels, N * rate)
    """

    def __init__(self, in_channels: int, out_channels: int, kernel_size: int, rate: int):
        super().__init__(nn.Upsample(scale_factor=rate), WNConv1d(in_channels, out_channels, kernel_size))
        self.padding = self[1].padding


class MultiInputSharedResidual(nn.Module):
    """Fusion of MISRNet (Kaneko et al., Interspeech 2022): one residual block for `resblock_num` signals.

    A convolution expands the input into the signals, the block processes them as items of one batch, and
    another convolution merges them. This takes fewer weights than one block per signal, and larger matrix
    products. (B, channels, N) -> (B, channels, N)
    """

    def __init__(self, config: HiFiGANConfig, channels: int):
        super().__init__()
        self.num = config.resblock_num
        self.expand = nn.Conv1d(channels, channels * self.num, kernel_size=1)
        self.block = RESBLOCKS[config.resblock](
            channels, config.resblock_kernel_size, config.resblock_dilation_sizes
        )
        self.reduce = nn.Conv1d(channels * self.num, channels, kernel_size=1)
        self.reach = self.block.reach

    def forward(self, x: Tensor) -> Tensor:
        x = self.expand(x).unflatten(1, (self.num, -1)).flatten(0, 1)  # (B * num, channels, N)
        x = self.block(x)
        return self.reduce(x.unflatten(0, (-1, self.num)).flatten(1, 2))  # (B, channels, N)


class InverseSTFTHead(nn.Module):
    """Output layer of iSTFTNet (Kaneko et al., ICASSP 2022), in float32 under autocast.

    Predicts magnitudes and phases in place of the last upsampling stages.
    (B, channels, N) -> (B, 1, N * gen_istft_hop_size)
    """

    def __init__(self, config: HiFiGANConfig, channels: int):
        super().__init__()
        n_fft = config.gen_istft_n_fft
        self.conv_post = WNConv1d(channels, n_fft + 2, kernel_size=7)
        hop_size, edges = config.gen_istft_hop_size, (n_fft // 2, n_fft // 2)
        self.istft = InverseSTFT(n_fft, hop_size, edges, real_valued=True)
        # the reflected frame and the overlapping windows
        self.reach = self.conv_post.padding[0] + 1 + (n_fft // 2 - 1) // hop_size

    def forward(self, x: Tensor) -> Tensor:
        with torch.autocast(x.device.type, enabled=False):
            x = F.leaky_relu(x.to(self.conv_post.bias.dtype), 0.01)
            # N + 1 centered frames span N hops; the additional one is a reflection, or the only one again
            x = torch.cat([x[..., :2][..., -1:], x], dim=2)
            log_magnitude, phase = self.conv_post(x).chunk(2, dim=1)  # (B, n_fft / 2 + 1, N + 1) each
            return self.istft(torch.exp(log_magnitude), torch.sin(phase))


class GeneratorVariant(Generator):
    """`Generator` with the parts that `config.upsampling`, `config.fusion` and the iSTFT sizes name."""

    def __init__(self, config: HiFiGANConfig):
        if config.upsampling == "resize":
            self.make_upsampling = ResizeConvolution
        if config.fusion == "misr":
            self.make_fusion = MultiInputSharedResidual
        if config.gen_istft_n_fft:
            self.make_head = InverseSTFTHead
        super().__init__(config)
