"""HiFi-GAN (Kong, Kim and Bae, 2020): a generator from mel to audio, and the discriminators that train it.

In reading order: the generator, as in the paper; variants of its parts; the discriminators. Where it serves,
layers have the official names.
"""

import math
from collections.abc import Iterable, Iterator
from functools import partial

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.utils import parametrize
from torch.nn.utils.parametrizations import spectral_norm, weight_norm

from config import HiFiGANConfig

LEAKY_SLOPE = 0.1


def same_padding(kernel_size: int, dilation: int = 1) -> int:
    """Padding on either side that keeps the length of the input, for an odd kernel."""
    return dilation * (kernel_size - 1) // 2


# Generator (section 2.2).
#
# The official code draws the weights of these layers from N(0, 0.01), but under its weight norm that never
# reaches the parameters: its published models started from PyTorch's own initialisation, and so do ours.


def WNConv1d(in_channels: int, out_channels: int, kernel_size: int, dilation: int = 1) -> nn.Conv1d:
    padding = same_padding(kernel_size, dilation)
    return weight_norm(nn.Conv1d(in_channels, out_channels, kernel_size, dilation=dilation, padding=padding))


def transposed_convolution(in_channels: int, out_channels: int, kernel_size: int, rate: int) -> nn.Module:
    """(B, in_channels, N) -> (B, out_channels, N * rate)"""
    padding = (kernel_size - rate) // 2
    return weight_norm(
        nn.ConvTranspose1d(in_channels, out_channels, kernel_size, stride=rate, padding=padding)
    )


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


RESBLOCKS = {"1": ResBlock1, "2": ResBlock2}


class MultiReceptiveFieldFusion(nn.Module):
    """Residual blocks of several kernel sizes see the same signal side by side; the mean of them goes on.

    So patterns of many lengths are seen at every resolution.
    """

    def __init__(self, config: HiFiGANConfig, channels: int):
        super().__init__()
        self.blocks = nn.ModuleList(
            RESBLOCKS[config.resblock](channels, kernel_size, dilations)
            for kernel_size, dilations in zip(
                config.resblock_kernel_sizes, config.resblock_dilation_sizes, strict=True
            )
        )

    def forward(self, x: Tensor) -> Tensor:
        """(B, channels, N) -> (B, channels, N)"""
        return sum(block(x) for block in self.blocks) / len(self.blocks)


class WaveformHead(nn.Module):
    """The last channels (B, channels, N) to audio (B, 1, N) in (-1, 1)."""

    def __init__(self, config: HiFiGANConfig, channels: int):
        super().__init__()
        self.conv_post = WNConv1d(channels, 1, kernel_size=7)

    def forward(self, x: Tensor) -> Tensor:
        # 0.01, not LEAKY_SLOPE: the official code leaves this one at PyTorch's default, as its weights expect
        return torch.tanh(self.conv_post(F.leaky_relu(x, 0.01)))


class Generator(nn.Module):
    """Mel (B, num_mels, T) in `config.mel_scale` to audio (B, 1, T * hop_size) in (-1, 1).

    Stage by stage the frames are stretched to samples, and the channels halved. V1 takes transposed
    convolutions, the fusion above and the head above; other parts stand below.
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
        for stretch, fuse in zip(self.ups, self.fusions, strict=True):
            x = stretch(F.leaky_relu(x, LEAKY_SLOPE))  # (B, channels / 2, N * rate)
            x = fuse(x)
        return self.head(x)  # (B, 1, T * hop_size)

    def fold_weight_norm(self) -> "Generator":
        """Replace each layer's direction and length by the weight they make: faster, for inference alone."""
        for module in self.modules():
            if parametrize.is_parametrized(module, "weight"):
                parametrize.remove_parametrizations(module, "weight")
        return self

    @property
    def context_frames(self) -> int:
        """How many frames before and after a frame its audio depends on, worked out from the sizes."""
        config = self.config
        if config.gen_istft_n_fft:  # conv_post, the frame that is reflected, and the windows that overlap
            reach = same_padding(7) + 1 + (config.gen_istft_n_fft // 2 - 1) // config.gen_istft_hop_size
        else:
            reach = same_padding(7)
        if config.fusion == "misr":
            blocks = [(config.resblock_kernel_size, config.resblock_dilation_sizes)]
        else:
            blocks = list(zip(config.resblock_kernel_sizes, config.resblock_dilation_sizes, strict=True))
        convs = 2 if config.resblock == "1" else 1  # in resblock "1" an undilated one follows each
        for rate, kernel_size in zip(
            config.upsample_rates[::-1], config.upsample_kernel_sizes[::-1], strict=True
        ):
            reach += max(
                sum(
                    same_padding(kernel, dilation) + (convs - 1) * same_padding(kernel)
                    for dilation in dilations
                )
                for kernel, dilations in blocks
            )
            # a sample reaches `reach` samples, the last of its input's `rate` samples being the farthest off
            padding = (
                same_padding(kernel_size) if config.upsampling == "resize" else (kernel_size - rate) // 2
            )
            reach = (reach + padding + rate - 1) // rate
        return reach + same_padding(7)

    @torch.inference_mode()
    def stream(self, mels: Iterable[Tensor], max_frames: int = 512) -> Iterator[Tensor]:
        """Chunks of a mel, (B, num_mels, t) with any t, as they come, to chunks of its audio (B, 1, n).

        Joined, they are the audio of the whole mel. Audio follows `context_frames` behind the mel, the rest
        comes at the end. At most `max_frames` frames are made at once, so memory does not grow with the
        length.
        """
        context, hop_size = self.context_frames, self.config.hop_size
        buffer: Tensor | None = None  # the frames from `start` on
        start = done = 0
        for mel, is_last in followed_by_end(mels):
            if mel is not None:
                buffer = mel if buffer is None else torch.cat([buffer, mel], dim=-1)
            if buffer is None:
                return
            ready = start + buffer.shape[-1] - (0 if is_last else context)
            while done < ready:
                end = min(ready, done + max_frames)
                audio = self(buffer[..., : end + context - start])
                yield audio[..., (done - start) * hop_size : (end - start) * hop_size]
                done = end
                keep_from = max(0, done - context)
                buffer, start = buffer[..., keep_from - start :], keep_from


def followed_by_end(items: Iterable) -> Iterator[tuple]:
    """Each item with False, then None with True."""
    for item in items:
        yield item, False
    yield None, True


# Variants of the generator's parts.


class ResizeConvolution(nn.Sequential):
    """Repeat each sample, then convolve: no checkerboard, which uneven overlaps of a transposed kernel leave.

    (B, in_channels, N) -> (B, out_channels, N * rate). Odena, Dumoulin and Olah, 2016.
    """

    def __init__(self, in_channels: int, out_channels: int, kernel_size: int, rate: int):
        super().__init__(nn.Upsample(scale_factor=rate), WNConv1d(in_channels, out_channels, kernel_size))


class MultiInputSharedResidual(nn.Module):
    """MISRNet's fusion (Kaneko et al., Interspeech 2022): one residual block for several signals.

    A convolution makes `resblock_num` signals of one; the one block sees all of them, as so many items of the
    batch; another convolution merges them. Fewer weights than blocks of their own, and larger products.
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
        """(B, channels, N) -> (B, channels, N)"""
        x = self.expand(x).unflatten(1, (self.num, -1)).flatten(0, 1)  # (B * num, channels, N)
        x = self.block(x)
        return self.reduce(x.unflatten(0, (-1, self.num)).flatten(1, 2))


class InverseSTFTHead(nn.Module):
    """iSTFTNet (Kaneko et al., ICASSP 2022): magnitudes and phases in place of the last stages.

    (B, channels, N) -> (B, 1, N * gen_istft_hop_size). The transform gives what `torch.istft` does, but as a
    transposed convolution, in which each frame adds its windowed cosines and sines at its place: as fast,
    and without the complex numbers that other runtimes lack.
    """

    def __init__(self, config: HiFiGANConfig, channels: int):
        super().__init__()
        self.n_fft, self.hop_size = config.gen_istft_n_fft, config.gen_istft_hop_size
        self.conv_post = WNConv1d(channels, self.n_fft + 2, kernel_size=7)
        window = torch.hann_window(self.n_fft)
        bins = torch.eye(self.n_fft // 2 + 1)
        waves = torch.fft.irfft(torch.cat([bins, 1j * bins]), self.n_fft) * window  # (n_fft + 2, n_fft)
        self.register_buffer("waves", waves.unsqueeze(1), persistent=False)
        self.register_buffer("squared_window", window.square().view(1, 1, -1), persistent=False)

    def forward(self, x: Tensor) -> Tensor:
        x = F.pad(F.leaky_relu(x, 0.01), (1, 0), mode="reflect")  # N + 1 centred frames span N hops
        magnitude, phase = self.conv_post(x).float().chunk(2, dim=1)  # (B, n_fft / 2 + 1, N + 1) each
        magnitude, phase = torch.exp(magnitude), torch.sin(phase)
        spectrum = torch.cat([magnitude * torch.cos(phase), magnitude * torch.sin(phase)], dim=1)
        # bfloat16 keeps 8 bits of mantissa: too few for audio, whatever precision the layers run in
        with torch.autocast(x.device.type, enabled=False):
            audio = F.conv_transpose1d(spectrum, self.waves, stride=self.hop_size)
            # analysis and synthesis have each applied the window: its squares add up where frames overlap
            weight = F.conv_transpose1d(
                torch.ones_like(spectrum[:1, :1]), self.squared_window, stride=self.hop_size
            )
        edge = self.n_fft // 2
        return audio[..., edge:-edge] / weight[..., edge:-edge]


UPSAMPLINGS = {"transpose": transposed_convolution, "resize": ResizeConvolution}
FUSIONS = {"mrf": MultiReceptiveFieldFusion, "misr": MultiInputSharedResidual}

# Discriminators (section 2.3).
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


class SubDiscriminators(nn.Module):
    """Several discriminators that see the same audio, each in a way of its own."""

    def __init__(self, discriminators: Iterable[nn.Module]):
        super().__init__()
        self.discriminators = nn.ModuleList(discriminators)

    def forward(self, audio: Tensor) -> tuple[list[Tensor], list[list[Tensor]]]:
        scores, feature_maps = zip(*(each(audio) for each in self.discriminators), strict=True)
        return list(scores), list(feature_maps)


class MultiPeriodDiscriminator(SubDiscriminators):
    """One sub-discriminator a period: speech is a sum of periodic signals, and each shows another part."""

    def __init__(self, config: HiFiGANConfig):
        super().__init__(
            PeriodDiscriminator(period, config.discriminator_channels) for period in config.mpd_periods
        )


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
                # a narrow layer may have fewer channels than groups: as many then as divide its channels
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
        # spectral norm on the raw audio steadies the training (section 2.3); the others have weight norm
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


class ResolutionDiscriminator(LayeredDiscriminator):
    """Sees the magnitudes of a short-time Fourier transform as an image, at one resolution."""

    def __init__(self, resolution: tuple[int, int, int], width: int):
        channels = width // 32
        shapes = (((3, 9), (1, 1)), ((3, 9), (1, 2)), ((3, 9), (1, 2)), ((3, 9), (1, 2)), ((3, 3), (1, 1)))
        super().__init__(
            [
                weight_norm(
                    nn.Conv2d(
                        channels if i else 1,
                        channels,
                        kernel,
                        stride,
                        padding=(kernel[0] // 2, kernel[1] // 2),
                    )
                )
                for i, (kernel, stride) in enumerate(shapes)
            ],
            weight_norm(nn.Conv2d(channels, 1, (3, 3), padding=(1, 1))),
        )
        self.n_fft, self.hop_size, window_size = resolution
        self.register_buffer("window", torch.hann_window(window_size), persistent=False)

    def forward(self, audio: Tensor) -> tuple[Tensor, list[Tensor]]:
        edge = self.n_fft - self.hop_size
        audio = F.pad(audio.float(), (edge // 2, edge - edge // 2), mode="reflect").squeeze(1)
        spectrum = torch.stft(
            audio, self.n_fft, self.hop_size, len(self.window), self.window, center=False, return_complex=True
        )
        return super().forward(spectrum.abs().unsqueeze(1).transpose(2, 3))  # (B, 1, frames, bins)


class MultiResolutionDiscriminator(SubDiscriminators):
    """UnivNet's critic of spectra (Jang et al., Interspeech 2021): one sub-discriminator a resolution."""

    def __init__(self, config: HiFiGANConfig):
        width = config.discriminator_channels
        super().__init__(ResolutionDiscriminator(resolution, width) for resolution in config.mrd_resolutions)


DISCRIMINATORS = {
    "mpd": MultiPeriodDiscriminator,
    "msd": MultiScaleDiscriminator,
    "mrd": MultiResolutionDiscriminator,
}


class Discriminators(nn.Module):
    """Those that the configuration names, as one: the lists of their scores and feature maps, joined."""

    def __init__(self, config: HiFiGANConfig):
        super().__init__()
        for name in config.discriminators:
            self.add_module(name, DISCRIMINATORS[name](config))

    def forward(self, audio: Tensor) -> tuple[list[Tensor], list[list[Tensor]]]:
        scores, feature_maps = [], []
        for discriminator in self.children():
            new_scores, new_maps = discriminator(audio)
            scores += new_scores
            feature_maps += new_maps
        return scores, feature_maps
