"""HiFi-GAN (Kong, Kim and Bae, 2020): a generator from mel to audio, and the discriminators that train it.

The generator comes first, from its smallest part to the whole, then the multi-period and the multi-scale
discriminator. Layers have the official names wherever possible. `generators/` has variants of these parts.
"""

import math
from collections.abc import Callable, Iterable, Iterator

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.utils import parametrize
from torch.nn.utils.parametrizations import spectral_norm, weight_norm

from config import HiFiGANConfig
from generators.streaming import Streaming

LEAKY_SLOPE = 0.1

# Generator (section 2.2 of the paper). The official code initializes these layers with N(0, 0.01), but under
# its weight norm that has no effect on the parameters: its published models started from PyTorch's default
# initialization, as these layers do.


def same_padding(kernel_size: int, dilation: int = 1) -> int:
    """Return the padding on either side that keeps the length of the input, for an odd kernel."""
    return dilation * (kernel_size - 1) // 2


def WNConv1d(in_channels: int, out_channels: int, kernel_size: int, dilation: int = 1) -> nn.Conv1d:
    padding = same_padding(kernel_size, dilation)
    return weight_norm(nn.Conv1d(in_channels, out_channels, kernel_size, dilation=dilation, padding=padding))


def WNConvTranspose1d(in_channels: int, out_channels: int, kernel_size: int, rate: int) -> nn.Module:
    """(B, in_channels, N) -> (B, out_channels, N * rate)"""
    padding = (kernel_size - rate) // 2
    return weight_norm(
        nn.ConvTranspose1d(in_channels, out_channels, kernel_size, stride=rate, padding=padding)
    )


class ResBlock1(nn.Module):
    """Residual block of V1 and V2: for each dilation, a dilated and an undilated convolution with a shortcut.

    (B, channels, N) -> (B, channels, N)
    """

    def __init__(self, channels: int, kernel_size: int, dilations: tuple[int, ...]):
        super().__init__()
        self.convs1 = nn.ModuleList(WNConv1d(channels, channels, kernel_size, d) for d in dilations)
        self.convs2 = nn.ModuleList(WNConv1d(channels, channels, kernel_size) for _ in dilations)
        self.reach = sum(conv.padding[0] for conv in (*self.convs1, *self.convs2))

    def forward(self, x: Tensor) -> Tensor:
        for dilated, undilated in zip(self.convs1, self.convs2, strict=True):
            y = dilated(F.leaky_relu(x, LEAKY_SLOPE))
            y = undilated(F.leaky_relu(y, LEAKY_SLOPE))
            x = x + y
        return x


class ResBlock2(nn.Module):
    """Residual block of V3: for each dilation, one convolution with a shortcut.

    (B, channels, N) -> (B, channels, N)
    """

    def __init__(self, channels: int, kernel_size: int, dilations: tuple[int, ...]):
        super().__init__()
        self.convs = nn.ModuleList(WNConv1d(channels, channels, kernel_size, d) for d in dilations)
        self.reach = sum(conv.padding[0] for conv in self.convs)

    def forward(self, x: Tensor) -> Tensor:
        for dilated in self.convs:
            x = x + dilated(F.leaky_relu(x, LEAKY_SLOPE))
        return x


RESBLOCKS = {"1": ResBlock1, "2": ResBlock2}


class MultiReceptiveFieldFusion(nn.Module):
    """Mean of parallel residual blocks with different kernel sizes, which see patterns of different lengths.

    (B, channels, N) -> (B, channels, N)
    """

    def __init__(self, config: HiFiGANConfig, channels: int):
        super().__init__()
        resblock = RESBLOCKS[config.resblock]
        sizes = zip(config.resblock_kernel_sizes, config.resblock_dilation_sizes, strict=True)
        self.blocks = nn.ModuleList(
            resblock(channels, kernel_size, dilations) for kernel_size, dilations in sizes
        )
        self.reach = max(block.reach for block in self.blocks)

    def forward(self, x: Tensor) -> Tensor:
        return sum(block(x) for block in self.blocks) / len(self.blocks)


class WaveformHead(nn.Module):
    """Output layer: features (B, channels, N) to audio (B, 1, N) in (-1, 1), in float32 under autocast."""

    def __init__(self, config: HiFiGANConfig, channels: int):
        super().__init__()
        self.conv_post = WNConv1d(channels, 1, kernel_size=7)
        self.reach = self.conv_post.padding[0]

    def forward(self, x: Tensor) -> Tensor:
        # Samples rounded to bfloat16 have noise at 55 dB SNR, which a spectral discriminator detects.
        with torch.autocast(x.device.type, enabled=False):
            # The official code uses PyTorch's default slope here, and its weights expect it.
            x = F.leaky_relu(x.to(self.conv_post.bias.dtype), 0.01)
            return torch.tanh(self.conv_post(x))


class Generator(nn.Module, Streaming):
    """Mel (B, num_mels, T) in `config.mel_scale` to audio (B, 1, T * hop_size) in (-1, 1).

    Each stage upsamples the signal, halves its channels and passes it through a fusion of residual blocks.
    """

    # the parts that variants replace
    make_upsampling = staticmethod(WNConvTranspose1d)
    make_fusion, make_head = MultiReceptiveFieldFusion, WaveformHead

    def __init__(self, config: HiFiGANConfig):
        super().__init__()
        self.config = config
        channels = config.upsample_initial_channel
        self.conv_pre = WNConv1d(config.num_mels, channels, kernel_size=7)
        self.ups, self.fusions = nn.ModuleList(), nn.ModuleList()
        for rate, kernel_size in zip(config.upsample_rates, config.upsample_kernel_sizes, strict=True):
            self.ups.append(self.make_upsampling(channels, channels // 2, kernel_size, rate))
            channels //= 2
            self.fusions.append(self.make_fusion(config, channels))
        self.head = self.make_head(config, channels)

    def forward(self, mel: Tensor) -> Tensor:
        x = self.conv_pre(mel)  # (B, upsample_initial_channel, T)
        for upsample, fuse in zip(self.ups, self.fusions, strict=True):
            x = upsample(F.leaky_relu(x, LEAKY_SLOPE))  # (B, channels / 2, N * rate)
            x = fuse(x)
        return self.head(x)  # (B, 1, T * hop_size)

    @property
    def context_frames(self) -> int:
        """Number of frames before and after a frame that its audio depends on."""
        reach = self.head.reach  # samples on either side, at the rate of each stage's output
        stages = list(zip(self.config.upsample_rates, self.ups, self.fusions, strict=True))
        for rate, upsample, fuse in reversed(stages):
            # the last of the `rate` samples of one input is the farthest from the input's first sample
            reach = (reach + fuse.reach + upsample.padding[0] + rate - 1) // rate
        return reach + self.conv_pre.padding[0]

    def fold_weight_norm(self) -> "Generator":
        """Replace weight norm by plain weights, for faster inference. Return the generator."""
        for module in self.modules():
            if parametrize.is_parametrized(module, "weight"):
                parametrize.remove_parametrizations(module, "weight")
                module._load_state_dict_pre_hooks.clear()  # weight norm's, which can't be pickled
        return self


# Discriminators (section 2.3). Each maps audio (B, 1, N) to (scores, feature_maps), with one list entry per
# sub-discriminator. Scores (B, positions) should be 1 for real and 0 for generated audio. Feature maps
# are the outputs of all layers.

Judgment = tuple[list[Tensor], list[list[Tensor]]]  # (scores, feature_maps)


class SubDiscriminator(nn.Module):
    """Convolutions with leaky ReLUs and a last one for the scores; every output is a feature map."""

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


class MultiDiscriminator(nn.Module):
    """Sub-discriminators that judge the same audio independently."""

    def __init__(self, discriminators: Iterable[nn.Module]):
        super().__init__()
        self.discriminators = nn.ModuleList(discriminators)

    def inputs(self, audio: Tensor) -> Iterable[Tensor]:
        """Return the input of each sub-discriminator."""
        return [audio] * len(self.discriminators)

    def forward(self, audio: Tensor) -> Judgment:
        pairs = zip(self.discriminators, self.inputs(audio), strict=True)
        scores, feature_maps = zip(*(judge(x) for judge, x in pairs), strict=True)
        return list(scores), list(feature_maps)


class PeriodDiscriminator(SubDiscriminator):
    """Audio folded into an image with rows of `period` samples. Each kernel covers a single column."""

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


class MultiPeriodDiscriminator(MultiDiscriminator):
    """One sub-discriminator per period.

    A column of its image holds every 2nd, 3rd, 5th, 7th or 11th sample, so that a kernel compares samples
    that are far apart. The periods are prime, so that their columns overlap as little as possible (section
    2.3). They are much shorter than those of a voice, of about 70 to 300 samples.
    """

    def __init__(self, config: HiFiGANConfig):
        super().__init__(
            PeriodDiscriminator(period, config.discriminator_channels) for period in config.mpd_periods
        )


class ScaleDiscriminator(SubDiscriminator):
    """Strided grouped convolutions with long kernels over consecutive samples (MelGAN's discriminator)."""

    def __init__(self, width: int, norm: Callable[[nn.Module], nn.Module]):
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
                # a narrow layer may have fewer channels than groups
                norm(nn.Conv1d(c_in, c_out, k, stride, same_padding(k), groups=math.gcd(groups, c_in)))
                for c_in, c_out, k, stride, groups in layers
            ],
            norm(nn.Conv1d(width, 1, 3, padding=1)),
        )


class MultiScaleDiscriminator(MultiDiscriminator):
    """One sub-discriminator for the audio, and one for each of `msd_num_downsamples` halvings of its rate."""

    def __init__(self, config: HiFiGANConfig):
        # spectral norm on the raw audio stabilizes training (section 2.3); the others have weight norm
        norms = [spectral_norm] + [weight_norm] * config.msd_num_downsamples
        super().__init__(ScaleDiscriminator(config.discriminator_channels, norm) for norm in norms)
        self.pool = nn.AvgPool1d(kernel_size=4, stride=2, padding=2)

    def inputs(self, audio: Tensor) -> Iterator[Tensor]:
        yield audio
        for _ in range(len(self.discriminators) - 1):
            audio = self.pool(audio)  # (B, 1, N / 2 ** scale)
            yield audio
