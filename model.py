"""HiFi-GAN (Kong, Kim and Bae, 2020): a generator from mel to audio and the discriminators that train it.

The file contains the generator of the paper, then variants of its parts, then the discriminators. Layers have
the official names wherever possible. `build_generator` and `Discriminators` build the networks that a
configuration names. The generator "vocos" is in `vocos.py`.
"""

import math
from collections.abc import Callable, Iterable, Iterator

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.utils import parametrize
from torch.nn.utils.parametrizations import spectral_norm, weight_norm

from config import HiFiGANConfig
from streaming import Streaming, same_padding
from vocos import InverseSTFT, Vocos

LEAKY_SLOPE = 0.1


def build_generator(config: HiFiGANConfig) -> "Generator | Vocos":
    """Return the generator that `config.generator` names, with random weights.

    It maps a mel (B, num_mels, T) to audio (B, 1, T * hop_size), or one hop less with `padding="center"`.
    Every generator has `config`, `context_frames`, `stream` and `fold_weight_norm`.
    """
    return GENERATORS[config.generator](config)


def sensitive_layers(config: HiFiGANConfig) -> tuple[str, ...]:
    """Return the first parts of the names of a generator's layers that need float32 in inference.

    Rounding noise in the head and in the last fusion of a HiFi-GAN generator is audible. In bfloat16, it
    lowers PESQ by 0.07 for V2 on LJSpeech, and by 0.01 with this exception.
    """
    if config.generator == "hifigan" and not config.gen_istft_n_fft:
        return "head", f"fusions.{len(config.upsample_rates) - 1}."
    return ("head",)


# Generator (section 2.2 of the paper). The official code initialises these layers with N(0, 0.01), but under
# its weight norm that has no effect on the parameters: its published models started from PyTorch's default
# initialisation, as these layers do.


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

    def forward(self, x: Tensor) -> Tensor:
        return sum(block(x) for block in self.blocks) / len(self.blocks)


class WaveformHead(nn.Module):
    """Output layer: features (B, channels, N) to audio (B, 1, N) in (-1, 1), in float32 under autocast."""

    def __init__(self, config: HiFiGANConfig, channels: int):
        super().__init__()
        self.conv_post = WNConv1d(channels, 1, kernel_size=7)

    def forward(self, x: Tensor) -> Tensor:
        # Samples rounded to bfloat16 have noise at 55 dB SNR, which a spectral discriminator detects.
        with torch.autocast(x.device.type, enabled=False):
            # The official code uses PyTorch's default slope here, and its weights expect it.
            x = F.leaky_relu(x.to(self.conv_post.bias.dtype), 0.01)
            return torch.tanh(self.conv_post(x))


class Generator(nn.Module, Streaming):
    """Mel (B, num_mels, T) in `config.mel_scale` to audio (B, 1, T * hop_size) in (-1, 1).

    Each stage upsamples the signal and halves its channels. V1 to V3 consist of transposed convolutions,
    `MultiReceptiveFieldFusion` and `WaveformHead`. The variants of these parts are below.
    """

    def __init__(self, config: HiFiGANConfig):
        super().__init__()
        self.config = config
        upsampling, fusion = UPSAMPLINGS[config.upsampling], FUSIONS[config.fusion]
        head = InverseSTFTHead if config.gen_istft_n_fft else WaveformHead
        channels = config.upsample_initial_channel
        self.conv_pre = WNConv1d(config.num_mels, channels, kernel_size=7)
        self.ups, self.fusions = nn.ModuleList(), nn.ModuleList()
        for rate, kernel_size in zip(config.upsample_rates, config.upsample_kernel_sizes, strict=True):
            self.ups.append(upsampling(channels, channels // 2, kernel_size, rate))
            channels //= 2
            self.fusions.append(fusion(config, channels))
        self.head = head(config, channels)

    def forward(self, mel: Tensor) -> Tensor:
        x = self.conv_pre(mel)  # (B, upsample_initial_channel, T)
        for upsample, fuse in zip(self.ups, self.fusions, strict=True):
            x = upsample(F.leaky_relu(x, LEAKY_SLOPE))  # (B, channels / 2, N * rate)
            x = fuse(x)
        return self.head(x)  # (B, 1, T * hop_size)

    def fold_weight_norm(self) -> "Generator":
        """Replace weight norm by plain weights, for faster inference. Return the generator."""
        for module in self.modules():
            if parametrize.is_parametrized(module, "weight"):
                parametrize.remove_parametrizations(module, "weight")
        return self


GENERATORS = {"hifigan": Generator, "vocos": Vocos}

# Variants of the generator's parts.


class ResizeConvolution(nn.Sequential):
    """Upsampling by repeating samples, then a convolution (Odena, Dumoulin and Olah, 2016).

    Avoids the checkerboard artefacts of transposed convolutions, whose kernels overlap unevenly.
    (B, in_channels, N) -> (B, out_channels, N * rate)
    """

    def __init__(self, in_channels: int, out_channels: int, kernel_size: int, rate: int):
        super().__init__(nn.Upsample(scale_factor=rate), WNConv1d(in_channels, out_channels, kernel_size))


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
        edges = (n_fft // 2, n_fft // 2)
        self.istft = InverseSTFT(n_fft, config.gen_istft_hop_size, edges, real_valued=True)

    def forward(self, x: Tensor) -> Tensor:
        with torch.autocast(x.device.type, enabled=False):
            x = F.leaky_relu(x.to(self.conv_post.bias.dtype), 0.01)
            x = F.pad(x, (1, 0), mode="reflect")  # N + 1 centred frames span N hops
            log_magnitude, phase = self.conv_post(x).chunk(2, dim=1)  # (B, n_fft / 2 + 1, N + 1) each
            return self.istft(torch.exp(log_magnitude), torch.sin(phase))


UPSAMPLINGS = {"transpose": WNConvTranspose1d, "resize": ResizeConvolution}
FUSIONS = {"mrf": MultiReceptiveFieldFusion, "misr": MultiInputSharedResidual}

# Discriminators (section 2.3). Each maps audio (B, 1, N) to (scores, feature_maps), with one list entry per
# sub-discriminator. Scores (B, positions) have the target 1 for real and 0 for generated audio. Feature maps
# are the outputs of all layers.

Judgement = tuple[list[Tensor], list[list[Tensor]]]  # (scores, feature_maps)


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

    def forward(self, audio: Tensor) -> Judgement:
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
    """One sub-discriminator per period, since speech is a sum of signals with different periods."""

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
        # spectral norm on the raw audio stabilises training (section 2.3); the others have weight norm
        norms = [spectral_norm] + [weight_norm] * config.msd_num_downsamples
        super().__init__(ScaleDiscriminator(config.discriminator_channels, norm) for norm in norms)
        self.pool = nn.AvgPool1d(kernel_size=4, stride=2, padding=2)

    def inputs(self, audio: Tensor) -> Iterator[Tensor]:
        yield audio
        for _ in range(len(self.discriminators) - 1):
            audio = self.pool(audio)  # (B, 1, N / 2 ** scale)
            yield audio


class ResolutionDiscriminator(SubDiscriminator):
    """Magnitudes of a short-time Fourier transform (n_fft, hop_size, window_size) as an image."""

    def __init__(self, resolution: tuple[int, int, int], channels: int):
        layers = ((1, 9, 1), (channels, 9, 2), (channels, 9, 2), (channels, 9, 2), (channels, 3, 1))
        super().__init__(
            [
                weight_norm(nn.Conv2d(c_in, channels, (3, kernel), (1, stride), padding=(1, kernel // 2)))
                for c_in, kernel, stride in layers
            ],
            weight_norm(nn.Conv2d(channels, 1, (3, 3), padding=(1, 1))),
        )
        self.n_fft, self.hop_size, window_size = resolution
        self.register_buffer("window", torch.hann_window(window_size), persistent=False)

    def forward(self, audio: Tensor) -> tuple[Tensor, list[Tensor]]:
        edge = self.n_fft - self.hop_size
        audio = F.pad(audio.float(), (edge // 2, edge - edge // 2), mode="reflect").squeeze(1)
        sizes = self.n_fft, self.hop_size, len(self.window)
        spectrum = torch.stft(audio, *sizes, self.window, center=False, return_complex=True)
        return super().forward(spectrum.abs().unsqueeze(1).transpose(2, 3))  # (B, 1, frames, bins)


class MultiResolutionDiscriminator(MultiDiscriminator):
    """UnivNet's discriminator (Jang et al., Interspeech 2021): one sub-discriminator per STFT resolution."""

    def __init__(self, config: HiFiGANConfig):
        channels = config.mrd_channels or config.discriminator_channels // 32
        super().__init__(
            ResolutionDiscriminator(resolution, channels) for resolution in config.mrd_resolutions
        )


DISCRIMINATORS = {
    "mpd": MultiPeriodDiscriminator,
    "msd": MultiScaleDiscriminator,
    "mrd": MultiResolutionDiscriminator,
}


class Discriminators(nn.Module):
    """The discriminators that `config.discriminators` names; their outputs are concatenated."""

    def __init__(self, config: HiFiGANConfig):
        super().__init__()
        for name in config.discriminators:
            self.add_module(name, DISCRIMINATORS[name](config))

    def forward(self, audio: Tensor) -> Judgement:
        scores, feature_maps = [], []
        for discriminator in self.children():
            new_scores, new_maps = discriminator(audio)
            scores += new_scores
            feature_maps += new_maps
        return scores, feature_maps
