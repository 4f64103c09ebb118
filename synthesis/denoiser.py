"""Bias denoiser: subtracts the constant noise that a vocoder adds to its output.

Follows NVIDIA's denoiser for WaveGlow (tacotron2 and DeepLearningExamples, `denoiser.py`).
"""

from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor, nn

from model import Generator

N_FFT, HOP_SIZE = 1024, 256
BIAS_FRAMES = 88


class Denoiser(nn.Module):
    """Spectral subtraction of the bias of a generator, for audio on the module's device, at first the CPU.

    The bias is the magnitude spectrum of the generator's output for a mel of zeros (in the "ln" scale).
    `device` is the generator's device.
    """

    def __init__(self, generator: Generator, device: torch.device | str = "cpu"):
        super().__init__()
        self.register_buffer("window", torch.hann_window(N_FFT), persistent=False)
        config = generator.config
        zeros = torch.full((1, config.num_mels, BIAS_FRAMES), config.from_ln(0.0), device=device)
        with torch.inference_mode():
            spectrum = self.stft(generator(zeros)[0, 0].float().cpu())
        self.register_buffer("bias", spectrum.abs()[:, :1], persistent=False)  # (bins, 1)

    def stft(self, audio: Tensor) -> Tensor:
        return torch.stft(audio, N_FFT, HOP_SIZE, window=self.window, return_complex=True)

    def forward(self, audio: Tensor, strength: float) -> Tensor:
        """Subtract `strength` times the bias from the magnitudes of audio (..., samples); keep the phases.

        A strength of 0 returns the audio unchanged; NVIDIA's tools use 0.005 to 0.1.
        """
        if strength == 0 or audio.shape[-1] <= N_FFT // 2:  # the STFT's reflection padding needs more samples
            return audio
        spectrum = self.stft(audio)  # (..., bins, frames)
        magnitude = spectrum.abs()
        gain = (magnitude - strength * self.bias).clamp(min=0.0) / magnitude.clamp(min=1e-12)
        return torch.istft(spectrum * gain, N_FFT, HOP_SIZE, window=self.window, length=audio.shape[-1])


def make_denoiser(
    generator: Generator, strength: float, device: torch.device | str = "cpu"
) -> Callable[[np.ndarray], np.ndarray]:
    """Return a function that denoises audio (samples,). It returns the audio unchanged if strength is 0."""
    if strength == 0:
        return lambda audio: audio
    denoiser = Denoiser(generator, device)
    return lambda audio: denoiser(torch.from_numpy(audio), strength).numpy()
