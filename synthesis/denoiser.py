"""The bias denoiser: what a vocoder adds to whatever it says is its own hum, and is taken away again.

After NVIDIA's denoiser for WaveGlow (tacotron2 and DeepLearningExamples, `denoiser.py`).
"""

import torch
from torch import Tensor, nn

from model import Generator

N_FFT, HOP_SIZE = 1024, 256
BIAS_FRAMES = 88


class Denoiser(nn.Module):
    """Spectral subtraction of a generator's bias: the spectrum of what it makes of a mel of zeros (in "ln").

    Audio (..., samples) and a strength (0: unchanged; NVIDIA's tools use 0.005 to 0.1) to audio of the same
    shape, on the CPU. The magnitudes lose `strength` times the bias's and stop at zero; the phases stay.
    `device` is the generator's.
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
        if (
            strength == 0 or audio.shape[-1] <= N_FFT // 2
        ):  # the transform's reflected edge needs as many samples
            return audio
        spectrum = self.stft(audio)  # (..., bins, frames)
        magnitude = spectrum.abs()
        gain = (magnitude - strength * self.bias).clamp(min=0.0) / magnitude.clamp(min=1e-12)
        return torch.istft(spectrum * gain, N_FFT, HOP_SIZE, window=self.window, length=audio.shape[-1])
