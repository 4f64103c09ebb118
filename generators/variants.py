"""Variants of the paper's generator: resize-convolution, MISRNet's fusion, other output layers."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from config import HiFiGANConfig
from generators.vocos import InverseSTFT
from mel import mel_filter_bank
from model import RESBLOCKS, Generator, WNConv1d

MOST_MATCHED = 2.0  # natural logarithm of the largest change of an amplitude by MelMatch


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


def reflect(audio: Tensor, before: int, after: int, hop_size: int) -> Tensor:
    """Return audio (..., N) with reflected ends, back and forth where it is short, which `F.pad` refuses.

    N is a multiple of `hop_size`.
    """
    last = audio.shape[-1] - 1
    places = torch.arange(-before, audio.shape[-1] + after, device=audio.device).abs()
    for _ in range(max(before, after) // hop_size + 1):  # no remainder, which ONNX's exporter lacks here
        places = (last - (places - last).abs()).abs()
    return audio.index_select(-1, places)


class MelMatch(nn.Module):
    """Last layer, without weights, which scales the bands of the audio to their levels in the mel.

    Audio (B, 1, N) and mel (B, num_mels, T) to audio (B, 1, N), in float32 under autocast. In each frame of
    an STFT, each bin is multiplied by the weighted geometric mean of the ratios between wanted and actual
    levels in the mel bands that contain it. Frames overlap, so the result has nearly, not exactly, the wanted
    mel. Bins outside all bands and the phases of each frame stay as they are. No amplitude changes by a
    factor above 7.4, but samples are no longer bounded.
    """

    def __init__(self, config: HiFiGANConfig):
        super().__init__()
        self.config = config
        self.istft = InverseSTFT(config.n_fft, config.hop_size, config.stft_padding)
        filters = torch.from_numpy(mel_filter_bank(config))  # (num_mels, n_fft / 2 + 1)
        # of equal height, so that a bin's weights depend only on its distance from the centers of the bands
        weights = filters / filters.amax(1, keepdim=True).clamp(min=1e-9)
        self.register_buffer("filters", filters, persistent=False)
        self.register_buffer("weights", (weights / weights.sum(0).clamp(min=1e-3)).T, persistent=False)
        frames = torch.eye(config.n_fft, device="cpu") * self.istft.window
        spectra = torch.fft.rfft(frames)  # (n_fft, n_fft / 2 + 1)
        basis = torch.cat([spectra.real, spectra.imag], dim=1).T  # (n_fft + 2, n_fft)
        self.register_buffer("basis", basis.unsqueeze(1).contiguous(), persistent=False)
        # the samples of all frames that contain the first or the last sample of a hop, beyond this hop
        n_fft, hop_size, left = config.n_fft, config.hop_size, config.stft_padding[0]
        before = (n_fft - left - 1) // hop_size * hop_size + left
        after = (left + hop_size - 1) // hop_size * hop_size + n_fft - left - hop_size
        self.context_frames = (max(before, after) + hop_size - 1) // hop_size

    def forward(self, audio: Tensor, mel: Tensor) -> Tensor:
        config = self.config
        with torch.autocast(audio.device.type, enabled=False):
            padded = reflect(audio.float(), *config.stft_padding, config.hop_size)
            spectrum = F.conv1d(padded, self.basis.float(), stride=config.hop_size)  # (B, n_fft + 2, T)
            real, imaginary = spectrum.chunk(2, dim=1)
            magnitude = torch.sqrt(real.square() + imaginary.square() + 1e-9)
            amplitude = torch.matmul(self.filters.float(), magnitude)  # (B, num_mels, T)
            ratio = config.to_ln(mel.float()) - torch.log(amplitude.clamp(min=config.min_amplitude))
            gain = torch.exp(torch.matmul(self.weights.float(), ratio.clamp(-MOST_MATCHED, MOST_MATCHED)))
            return self.istft.from_parts(real * gain, imaginary * gain).to(audio.dtype)


class GeneratorVariant(Generator):
    """`Generator` with the parts that `config` names: upsampling, fusion, inverse STFT, `match_mel`."""

    def __init__(self, config: HiFiGANConfig):
        if config.upsampling == "resize":
            self.make_upsampling = ResizeConvolution
        if config.fusion == "misr":
            self.make_fusion = MultiInputSharedResidual
        if config.gen_istft_n_fft:
            self.make_head = InverseSTFTHead
        super().__init__(config)
        self.match = MelMatch(config) if config.match_mel else None

    def forward(self, mel: Tensor) -> Tensor:
        audio = super().forward(mel)
        return self.match(audio, mel) if self.match else audio

    @property
    def context_frames(self) -> int:
        return super().context_frames + (self.match.context_frames if self.match else 0)
