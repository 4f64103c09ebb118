"""UnivNet's multi-resolution discriminator (Jang et al., Interspeech 2021)."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.utils.parametrizations import weight_norm

from config import HiFiGANConfig
from model import MultiDiscriminator, SubDiscriminator


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
    """One sub-discriminator per STFT resolution of `config.mrd_resolutions`."""

    def __init__(self, config: HiFiGANConfig):
        channels = config.mrd_channels or config.discriminator_channels // 32
        super().__init__(
            ResolutionDiscriminator(resolution, channels) for resolution in config.mrd_resolutions
        )
