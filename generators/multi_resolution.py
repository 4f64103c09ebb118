"""Discriminators of spectra: UnivNet's (Jang et al., Interspeech 2021), and one of logarithmic spectra."""

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.utils.parametrizations import weight_norm

from config import MLD_FRAMES, HiFiGANConfig
from model import MultiDiscriminator, SubDiscriminator

FRAME_CHANNELS, IMAGE_CHANNELS = 256, 16
QUIETEST = 1e-3  # magnitude, about 15 dB above the rounding noise of 16-bit audio


class ImageDiscriminator(SubDiscriminator):
    """A spectrum (B, bins, frames) as an image: each kernel sees three frames of a few bins.

    `layers` are (channels in, channels out, kernel size, stride), the last two along the bins.
    """

    def __init__(self, layers: Sequence[tuple[int, int, int, int]]):
        super().__init__(
            [
                weight_norm(nn.Conv2d(c_in, c_out, (3, kernel), (1, stride), padding=(1, kernel // 2)))
                for c_in, c_out, kernel, stride in layers
            ],
            weight_norm(nn.Conv2d(layers[-1][1], 1, (3, 3), padding=(1, 1))),
        )

    def forward(self, spectrum: Tensor) -> tuple[Tensor, list[Tensor]]:
        return super().forward(spectrum.unsqueeze(1).transpose(2, 3))  # (B, 1, frames, bins)


class ResolutionDiscriminator(ImageDiscriminator):
    """Magnitudes of a short-time Fourier transform (n_fft, hop_size, window_size)."""

    def __init__(self, resolution: tuple[int, int, int], channels: int):
        same = channels, channels
        super().__init__([(1, channels, 9, 1), (*same, 9, 2), (*same, 9, 2), (*same, 9, 2), (*same, 3, 1)])
        self.n_fft, self.hop_size, window_size = resolution
        self.register_buffer("window", torch.hann_window(window_size), persistent=False)

    def forward(self, audio: Tensor) -> tuple[Tensor, list[Tensor]]:
        edge = self.n_fft - self.hop_size
        audio = F.pad(audio.float(), (edge // 2, edge - edge // 2), mode="reflect").squeeze(1)
        sizes = self.n_fft, self.hop_size, len(self.window)
        spectrum = torch.stft(audio, *sizes, self.window, center=False, return_complex=True)
        return super().forward(spectrum.abs())


class MultiResolutionDiscriminator(MultiDiscriminator):
    """One sub-discriminator per STFT resolution of `config.mrd_resolutions`."""

    def __init__(self, config: HiFiGANConfig):
        channels = config.mrd_channels or config.discriminator_channels // 32
        super().__init__(
            ResolutionDiscriminator(resolution, channels) for resolution in config.mrd_resolutions
        )


def log_spectrum(audio: Tensor, window: Tensor) -> Tensor:
    """Return logarithmic magnitudes (B, bins, frames) of audio (B, 1, N), roughly standardized for speech.

    Logarithms show what is soft next to a vowel: breath, consonants and the upper bands.
    """
    audio, n_fft = audio.float().squeeze(1), len(window)
    spectrum = torch.stft(audio, n_fft, n_fft // 4, window=window, return_complex=True)
    return (spectrum.abs().clamp(min=QUIETEST).log() + 2) / 2.5


class FrameDiscriminator(SubDiscriminator):
    """A logarithmic spectrum with its bins as channels: each kernel sees all frequencies of five frames."""

    def __init__(self, n_fft: int, channels: int):
        widths = (n_fft // 2 + 1, *[channels] * 4)
        super().__init__(
            [weight_norm(nn.Conv1d(widths[i], widths[i + 1], 5, padding=2)) for i in range(4)],
            weight_norm(nn.Conv1d(channels, 1, 3, padding=1)),
        )
        self.register_buffer("window", torch.hann_window(n_fft), persistent=False)

    def forward(self, audio: Tensor) -> tuple[Tensor, list[Tensor]]:
        return super().forward(log_spectrum(audio, self.window))


class LogImageDiscriminator(ImageDiscriminator):
    """A logarithmic spectrum as an image."""

    def __init__(self, n_fft: int, channels: int):
        wide = 2 * channels
        super().__init__(
            [
                (1, channels, 9, 4),
                (channels, channels, 9, 2),
                (channels, wide, 5, 2),
                (wide, wide, 5, 2),
                (wide, wide, 3, 1),
            ]
        )
        self.register_buffer("window", torch.hann_window(n_fft), persistent=False)

    def forward(self, audio: Tensor) -> tuple[Tensor, list[Tensor]]:
        return super().forward(log_spectrum(audio, self.window))


class MultiLogSpectrumDiscriminator(MultiDiscriminator):
    """A frame discriminator per size of `MLD_FRAMES`, and an image of the first size."""

    def __init__(self, config: HiFiGANConfig):
        frames = [FrameDiscriminator(n_fft, FRAME_CHANNELS) for n_fft in MLD_FRAMES]
        super().__init__([*frames, LogImageDiscriminator(MLD_FRAMES[0], IMAGE_CHANNELS)])
