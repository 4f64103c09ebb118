"""HiFi-GAN (Kong, Kim and Bae, 2020): a generator from mel to audio, and the discriminators that train it.

Bottom up: the configuration, the generator's residual blocks, the generator, the multi-period discriminator,
the multi-scale discriminator. Layers carry the names of the official implementation, so that its checkpoints
fit.
"""

import math
from dataclasses import dataclass
from functools import partial

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.utils import parametrize
from torch.nn.utils.parametrizations import spectral_norm, weight_norm

from common import UserError
from tacotron2.mel import MelConfig

LEAKY_SLOPE = 0.1


@dataclass(frozen=True)
class HiFiGANConfig(MelConfig):
    """The mel that the generator reads (see `MelConfig`) and the networks' sizes; the defaults are V1.

    Raises UserError, with the arithmetic, for sizes that can't work together.
    """

    resblock: str = "1"
    upsample_rates: tuple[int, ...] = (8, 8, 2, 2)
    upsample_kernel_sizes: tuple[int, ...] = (16, 16, 4, 4)
    upsample_initial_channel: int = 512
    resblock_kernel_sizes: tuple[int, ...] = (3, 7, 11)
    resblock_dilation_sizes: tuple[tuple[int, ...], ...] = ((1, 3, 5), (1, 3, 5), (1, 3, 5))
    mpd_periods: tuple[int, ...] = (2, 3, 5, 7, 11)
    msd_num_downsamples: int = 2
    discriminator_channels: int = 1024  # of the widest layers; the others keep their proportion to it
    fmax_loss: float | None = None  # upper edge in Hz of the mel that the loss compares; None: half the rate

    def __post_init__(self):
        super().__post_init__()
        if not isinstance(self.resblock, str):  # some JSON files say 1
            object.__setattr__(self, "resblock", str(self.resblock))
        rates, kernels = self.upsample_rates, self.upsample_kernel_sizes
        if self.resblock not in ("1", "2"):
            raise UserError(f'resblock is {self.resblock!r}; it must be "1" (V1, V2) or "2" (V3)')
        for name in ("upsample_rates", "upsample_kernel_sizes", "resblock_kernel_sizes", "mpd_periods"):
            values = getattr(self, name)
            if not values or min(values) < 1:
                raise UserError(
                    f"{name} is {list(values)}; it needs at least one number, all of them positive"
                )
        if math.prod(rates) != self.hop_size:
            product = " x ".join(map(str, rates))
            raise UserError(
                f"upsample_rates multiply to {product} = {math.prod(rates)}, but hop_size is "
                f"{self.hop_size}: "
                "each frame must become hop_size samples"
            )
        if len(kernels) != len(rates):
            raise UserError(
                f"upsample_kernel_sizes has {len(kernels)} entries and upsample_rates {len(rates)}: one "
                "kernel a rate"
            )
        for rate, kernel in zip(rates, kernels, strict=True):
            if kernel < rate or (kernel - rate) % 2:
                raise UserError(
                    f"upsampling by {rate} with kernel {kernel}: kernel - rate = {kernel - rate}, which "
                    "must be even "
                    "and not negative, half of it being trimmed from either side"
                )
        if len(self.resblock_dilation_sizes) != len(self.resblock_kernel_sizes):
            raise UserError(
                f"resblock_dilation_sizes has {len(self.resblock_dilation_sizes)} entries and "
                "resblock_kernel_sizes "
                f"{len(self.resblock_kernel_sizes)}: one list of dilations a kernel"
            )
        for dilations in self.resblock_dilation_sizes:
            if not dilations or min(dilations) < 1:
                raise UserError(
                    f"resblock_dilation_sizes holds {list(dilations)}; dilations are positive numbers"
                )
        for kernel in self.resblock_kernel_sizes:
            if kernel % 2 == 0:
                raise UserError(
                    f"resblock kernel {kernel} is even: only an odd one keeps the length of its input"
                )
        if self.upsample_initial_channel < 1 or self.upsample_initial_channel % 2 ** len(rates):
            raise UserError(
                f"upsample_initial_channel {self.upsample_initial_channel} is halved {len(rates)} times: "
                "it must be a "
                f"positive multiple of {2 ** len(rates)}"
            )
        if self.discriminator_channels < 32 or self.discriminator_channels % 32:
            raise UserError(
                f"discriminator_channels is {self.discriminator_channels}; it must be a multiple of 32"
            )
        if self.msd_num_downsamples < 0:
            raise UserError(f"msd_num_downsamples is {self.msd_num_downsamples}; it can't be negative")
        if self.fmax_loss is not None and not self.fmin < self.fmax_loss <= self.sampling_rate / 2:
            raise UserError(
                f"fmax_loss {self.fmax_loss} must lie between fmin {self.fmin} and half the sampling rate, "
                f"{self.sampling_rate / 2}"
            )


def same_padding(kernel_size: int, dilation: int = 1) -> int:
    """Padding on either side that keeps the length of the input, for an odd kernel."""
    return dilation * (kernel_size - 1) // 2


# ---- Generator (section 2.2) ----
#
# The official code draws the weights of these layers from N(0, 0.01), but under its weight norm that never
# reaches the parameters: PyTorch's own initialisation is what its published models started from, and what
# stands here.


def WNConv1d(in_channels: int, out_channels: int, kernel_size: int, dilation: int = 1) -> nn.Conv1d:
    padding = same_padding(kernel_size, dilation)
    return weight_norm(nn.Conv1d(in_channels, out_channels, kernel_size, dilation=dilation, padding=padding))


class ResBlock1(nn.Module):
    """Residual block of V1 and V2: for each dilation a dilated convolution, an undilated one, a shortcut."""

    def __init__(self, channels: int, kernel_size: int, dilations: tuple[int, ...]):
        super().__init__()
        self.convs1 = nn.ModuleList(
            WNConv1d(channels, channels, kernel_size, dilation) for dilation in dilations
        )
        self.convs2 = nn.ModuleList(WNConv1d(channels, channels, kernel_size) for _ in dilations)

    def forward(self, x: Tensor) -> Tensor:
        """(B, channels, N) -> (B, channels, N)"""
        for dilated, undilated in zip(self.convs1, self.convs2, strict=True):
            y = dilated(F.leaky_relu(x, LEAKY_SLOPE))
            y = undilated(F.leaky_relu(y, LEAKY_SLOPE))
            x = x + y
        return x


class ResBlock2(nn.Module):
    """Residual block of V3: for each dilation one convolution, and a shortcut."""

    def __init__(self, channels: int, kernel_size: int, dilations: tuple[int, ...]):
        super().__init__()
        self.convs = nn.ModuleList(
            WNConv1d(channels, channels, kernel_size, dilation) for dilation in dilations
        )

    def forward(self, x: Tensor) -> Tensor:
        """(B, channels, N) -> (B, channels, N)"""
        for dilated in self.convs:
            x = x + dilated(F.leaky_relu(x, LEAKY_SLOPE))
        return x


class Generator(nn.Module):
    """Mel (B, num_mels, T) in `config.mel_scale` to audio (B, 1, T * hop_size) in (-1, 1).

    Transposed convolutions stretch the frames to samples in several stages, halving the channels each time.
    After each stage residual blocks of several kernel sizes look at the same signal side by side, and the
    mean of what they see goes on: the paper's multi-receptive field fusion, patterns of many lengths at every
    resolution.
    """

    def __init__(self, config: HiFiGANConfig):
        super().__init__()
        self.config = config
        block = {"1": ResBlock1, "2": ResBlock2}[config.resblock]
        channels = config.upsample_initial_channel
        self.conv_pre = WNConv1d(config.num_mels, channels, kernel_size=7)
        self.ups = nn.ModuleList()
        self.resblocks = (
            nn.ModuleList()
        )  # flat, as in the official code: all blocks of stage 0, of stage 1, …
        for rate, kernel_size in zip(config.upsample_rates, config.upsample_kernel_sizes, strict=True):
            stretch = nn.ConvTranspose1d(
                channels, channels // 2, kernel_size, stride=rate, padding=(kernel_size - rate) // 2
            )
            self.ups.append(weight_norm(stretch))
            channels //= 2
            for size, dilations in zip(
                config.resblock_kernel_sizes, config.resblock_dilation_sizes, strict=True
            ):
                self.resblocks.append(block(channels, size, dilations))
        self.conv_post = WNConv1d(channels, 1, kernel_size=7)

    def forward(self, mel: Tensor) -> Tensor:
        x = self.conv_pre(mel)  # (B, upsample_initial_channel, T)
        blocks_per_stage = len(self.config.resblock_kernel_sizes)
        for stage, stretch in enumerate(self.ups):
            x = stretch(F.leaky_relu(x, LEAKY_SLOPE))  # (B, channels / 2, N * rate)
            blocks = self.resblocks[stage * blocks_per_stage : (stage + 1) * blocks_per_stage]
            x = sum(block(x) for block in blocks) / blocks_per_stage
        # 0.01 and not LEAKY_SLOPE: the official code leaves this one at PyTorch's default, and its weights
        # expect it
        x = self.conv_post(F.leaky_relu(x, 0.01))  # (B, 1, T * hop_size)
        return torch.tanh(x)

    def fold_weight_norm(self) -> "Generator":
        """Replace each layer's direction and length by the weight they make: faster, for inference alone."""
        for module in self.modules():
            if parametrize.is_parametrized(module, "weight"):
                parametrize.remove_parametrizations(module, "weight")
        return self


# ---- Discriminators (section 2.3) ----
#
# A discriminator maps audio (B, 1, N) to (scores, feature_maps), a list entry for each of its
# sub-discriminators: scores (B, positions), to be 1 for real audio and 0 for generated; feature maps, the
# outputs of all its layers.


class LayeredDiscriminator(nn.Module):
    """Convolutions with leaky ReLUs, whose every output is a feature map, and a last one that scores."""

    def __init__(self, convs: list[nn.Module], conv_post: nn.Module):
        super().__init__()
        self.convs = nn.ModuleList(convs)
        self.conv_post = conv_post

    def forward(self, x: Tensor) -> tuple[Tensor, list[Tensor]]:
        feature_maps = []
        for conv in self.convs:
            x = F.leaky_relu(conv(x), LEAKY_SLOPE)
            feature_maps.append(x)
        x = self.conv_post(x)
        feature_maps.append(x)
        return x.flatten(1), feature_maps


class PeriodDiscriminator(LayeredDiscriminator):
    """Sees audio as an image of `period` columns, every `period`-th sample in one; kernels span a column."""

    def __init__(self, period: int, width: int):
        channels = (1, width // 32, width // 8, width // 2, width, width)
        strides = (3, 3, 3, 3, 1)
        super().__init__(
            [
                weight_norm(nn.Conv2d(channels[i], channels[i + 1], (5, 1), (strides[i], 1), padding=(2, 0)))
                for i in range(len(strides))
            ],
            weight_norm(nn.Conv2d(width, 1, (3, 1), padding=(1, 0))),
        )
        self.period = period

    def forward(self, audio: Tensor) -> tuple[Tensor, list[Tensor]]:
        missing = -audio.shape[-1] % self.period
        audio = F.pad(audio, (0, missing), mode="reflect") if missing else audio
        return super().forward(audio.unflatten(-1, (-1, self.period)))  # (B, 1, N / period, period)


class MultiPeriodDiscriminator(nn.Module):
    """One sub-discriminator a period: speech is a sum of periodic signals, and each shows another part."""

    def __init__(self, config: HiFiGANConfig):
        super().__init__()
        self.discriminators = nn.ModuleList(
            PeriodDiscriminator(period, config.discriminator_channels) for period in config.mpd_periods
        )

    def forward(self, audio: Tensor) -> tuple[list[Tensor], list[list[Tensor]]]:
        scores, feature_maps = zip(
            *(discriminator(audio) for discriminator in self.discriminators), strict=True
        )
        return list(scores), list(feature_maps)


class ScaleDiscriminator(LayeredDiscriminator):
    """Sees consecutive samples, through long strided convolutions in groups (MelGAN's discriminator)."""

    def __init__(self, width: int, norm):
        eighth, quarter, half = width // 8, width // 4, width // 2
        layers = (  # in, out, kernel, stride, groups
            (1, eighth, 15, 1, 1),
            (eighth, eighth, 41, 2, 4),
            (eighth, quarter, 41, 2, 16),
            (quarter, half, 41, 4, 16),
            (half, width, 41, 4, 16),
            (width, width, 41, 1, 16),
            (width, width, 5, 1, 1),
        )
        super().__init__(
            [
                # a narrow layer may have fewer channels than groups: then as many groups as divide its
                # channels
                norm(
                    nn.Conv1d(c_in, c_out, k, stride, groups=math.gcd(groups, c_in), padding=same_padding(k))
                )
                for c_in, c_out, k, stride, groups in layers
            ],
            norm(nn.Conv1d(width, 1, 3, padding=1)),
        )


class MultiScaleDiscriminator(nn.Module):
    """The audio as it is, then halved again and again by average pooling: one sub-discriminator a scale."""

    def __init__(self, config: HiFiGANConfig):
        super().__init__()
        width = config.discriminator_channels
        # spectral norm on the raw audio steadies the training (section 2.3), weight norm does for the pooled
        # scales
        norms = [partial(spectral_norm, n_power_iterations=1)] + [weight_norm] * config.msd_num_downsamples
        self.discriminators = nn.ModuleList(ScaleDiscriminator(width, norm) for norm in norms)
        self.pool = nn.AvgPool1d(kernel_size=4, stride=2, padding=2)

    def forward(self, audio: Tensor) -> tuple[list[Tensor], list[list[Tensor]]]:
        scores, feature_maps = [], []
        for scale, discriminator in enumerate(self.discriminators):
            audio = self.pool(audio) if scale > 0 else audio
            score, maps = discriminator(audio)
            scores.append(score)
            feature_maps.append(maps)
        return scores, feature_maps


class Discriminators(nn.Module):
    """Both critics as one: the lists of their scores and feature maps, joined."""

    def __init__(self, config: HiFiGANConfig):
        super().__init__()
        self.mpd = MultiPeriodDiscriminator(config)
        self.msd = MultiScaleDiscriminator(config)

    def forward(self, audio: Tensor) -> tuple[list[Tensor], list[list[Tensor]]]:
        (mpd_scores, mpd_maps), (msd_scores, msd_maps) = self.mpd(audio), self.msd(audio)
        return mpd_scores + msd_scores, mpd_maps + msd_maps
