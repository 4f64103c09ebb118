"""Vocos (Siuzdak, 2023): a generator at frame rate, with an inverse STFT in place of upsampling layers.

`InverseSTFT` also serves `variants.py`. Layers have the names of the published implementation.
"""

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from config import HiFiGANConfig
from generators.streaming import Streaming


class InverseSTFT(nn.Module):
    """Magnitudes and phases (B, n_fft / 2 + 1, T) to audio (B, 1, samples), with a periodic Hann window.

    `padding` is the number of samples that are trimmed from either end of the overlapped frames, which span
    (T - 1) * hop_size + n_fft samples. With `real_valued`, and always while a model is exported, the
    transform is a transposed convolution with windowed cosines and sines, because other runtimes lack complex
    numbers. Otherwise it is an inverse FFT, which is faster for a large `n_fft`.
    """

    def __init__(self, n_fft: int, hop_size: int, padding: tuple[int, int], real_valued: bool = False):
        super().__init__()
        self.n_fft, self.hop_size, self.padding, self.real_valued = n_fft, hop_size, padding, real_valued
        # values also in a model that is built on the meta device: checkpoints do not contain them
        window = torch.hann_window(n_fft, device="cpu")
        bins = torch.eye(n_fft // 2 + 1, device="cpu")
        basis = torch.fft.irfft(torch.cat([bins, 1j * bins]), n_fft) * window  # (n_fft + 2, n_fft)
        self.register_buffer("basis", basis.unsqueeze(1), persistent=False)
        self.register_buffer("window", window, persistent=False)

    def forward(self, magnitude: Tensor, phase: Tensor) -> Tensor:
        return self.from_parts(magnitude * torch.cos(phase), magnitude * torch.sin(phase))

    def from_parts(self, real: Tensor, imaginary: Tensor) -> Tensor:
        """Return the audio of a spectrum that is given by its real and imaginary parts."""
        window = self.window.to(real.dtype)
        if self.real_valued or torch.compiler.is_exporting() or torch.jit.is_tracing():
            spectrum = torch.cat([real, imaginary], dim=1)  # (B, n_fft + 2, T)
            audio = F.conv_transpose1d(spectrum, self.basis.to(real.dtype), stride=self.hop_size)
        else:
            frames = torch.fft.irfft(torch.complex(real, imaginary), self.n_fft, dim=1)  # (B, n_fft, T)
            samples = (frames.shape[-1] - 1) * self.hop_size + self.n_fft
            audio = F.fold(
                frames * window.unsqueeze(1), (1, samples), (1, self.n_fft), stride=(1, self.hop_size)
            ).squeeze(2)
        # analysis and synthesis both applied the window, so the sum of its squares is divided out
        ones = torch.ones_like(real[:1, :1])
        envelope = F.conv_transpose1d(ones, window.square().view(1, 1, -1), stride=self.hop_size)
        inside = slice(self.padding[0], audio.shape[-1] - self.padding[1])
        return audio[..., inside] / envelope[..., inside]


class ConvNeXtBlock(nn.Module):
    """Residual block of Liu et al. (2022) in one dimension: a depthwise convolution, then a per-frame MLP.

    (B, dim, T) -> (B, dim, T)
    """

    def __init__(self, dim: int, intermediate_dim: int, layer_scale: float):
        super().__init__()
        self.dwconv = nn.Conv1d(dim, dim, kernel_size=7, padding=3, groups=dim)
        self.norm = nn.LayerNorm(dim, eps=1e-6)
        self.pwconv1 = nn.Linear(dim, intermediate_dim)
        self.pwconv2 = nn.Linear(intermediate_dim, dim)
        self.gamma = nn.Parameter(torch.full((dim,), layer_scale))

    def forward(self, x: Tensor) -> Tensor:
        y = self.dwconv(x).transpose(1, 2)  # (B, T, dim)
        y = F.gelu(self.pwconv1(self.norm(y)))  # (B, T, intermediate_dim)
        y = self.gamma * self.pwconv2(y)  # (B, T, dim)
        return x + y.transpose(1, 2)


class FourierHead(nn.Module):
    """Output layer: features (B, T, dim) to audio (B, 1, samples), in float32 under autocast."""

    def __init__(self, config: HiFiGANConfig):
        super().__init__()
        self.out = nn.Linear(config.vocos_dim, config.n_fft + 2)
        self.istft = InverseSTFT(config.n_fft, config.hop_size, config.stft_padding)

    def forward(self, x: Tensor) -> Tensor:
        # bfloat16 has an 8-bit mantissa, which is too coarse for phases and samples
        with torch.autocast(x.device.type, enabled=False):
            x = self.out(x.to(self.out.weight.dtype)).transpose(1, 2)  # (B, n_fft + 2, T)
            log_magnitude, phase = x.chunk(2, dim=1)  # (B, n_fft / 2 + 1, T) each
            # at most 100, also before exp: early in training, its gradient would overflow
            magnitude = torch.exp(log_magnitude.clamp(max=math.log(100.0))).clamp(max=100.0)
            return self.istft(magnitude, phase)


class Vocos(nn.Module, Streaming):
    """Generator from mel (B, num_mels, T) in `config.mel_scale` to audio in the range of its training data.

    The audio is (B, 1, T * hop_size), or (B, 1, (T - 1) * hop_size) for mels with `padding="center"`, whose
    first and last frames are centered on the first and last sample. Unlike `Generator`, it does not bound the
    samples by a tanh.
    """

    def __init__(self, config: HiFiGANConfig):
        super().__init__()
        self.config = config
        dim, num_layers = config.vocos_dim, config.vocos_num_layers
        self.embed = nn.Conv1d(config.num_mels, dim, kernel_size=7, padding=3)
        self.norm = nn.LayerNorm(dim, eps=1e-6)
        self.convnext = nn.Sequential(
            *(ConvNeXtBlock(dim, config.vocos_intermediate_dim, 1 / num_layers) for _ in range(num_layers))
        )
        self.final_layer_norm = nn.LayerNorm(dim, eps=1e-6)
        self.head = FourierHead(config)
        for module in self.modules():
            if isinstance(module, nn.Conv1d | nn.Linear):
                nn.init.trunc_normal_(module.weight, std=0.02)
                nn.init.zeros_(module.bias)

    def forward(self, mel: Tensor) -> Tensor:
        x = self.embed(mel)  # (B, dim, T)
        x = self.norm(x.transpose(1, 2)).transpose(1, 2)
        x = self.convnext(x)
        x = self.final_layer_norm(x.transpose(1, 2))  # (B, T, dim)
        return self.head(x)  # (B, 1, samples)

    @property
    def context_frames(self) -> int:
        """Number of frames before and after a frame that its audio depends on."""
        config = self.config
        before = config.stft_padding[0]  # samples of frame i's window before sample i * hop_size
        after = config.n_fft - before
        overlap = max((before + config.hop_size - 1) // config.hop_size, (after - 1) // config.hop_size)
        convolutions = (self.embed, *(block.dwconv for block in self.convnext))
        return sum(convolution.padding[0] for convolution in convolutions) + overlap

    def fold_weight_norm(self) -> "Vocos":
        """Return the model unchanged: it has no weight norm. `Generator` has a method of the same name."""
        return self
