"""The losses of HiFi-GAN (Kong et al., 2020, section 2.4) and a spectral loss to start training with.

`scores` is a list with one tensor (B, positions) per sub-discriminator. `feature_maps` is a list with one
list of tensors per sub-discriminator, of any precision. Every function returns a float32 scalar.
"""

import torch
import torch.nn.functional as F
from torch import Tensor

STFT_SIZES = (512, 1024, 2048)  # samples


def discriminator_loss(real_scores: list[Tensor], generated_scores: list[Tensor]) -> Tensor:
    """Return the least-squares loss of the discriminators (equation 1), summed over sub-discriminators.

    It is zero if they score real audio 1 and generated audio 0, and 0.5 per sub-discriminator (4 for the
    paper's eight) if they can't tell them apart and score everything 0.5. In a healthy run it stays somewhat
    below that. Near zero, the discriminators have won, and the generator learns little from them.
    """
    return sum(
        ((real.float() - 1) ** 2).mean() + (generated.float() ** 2).mean()
        for real, generated in zip(real_scores, generated_scores, strict=True)
    )


def adversarial_loss(generated_scores: list[Tensor]) -> Tensor:
    """Return the least-squares loss of the generator (equation 2), summed over sub-discriminators.

    It is zero if they score generated audio 1. It need not fall: the discriminators improve as well. Unlike
    a cross-entropy, squares have large gradients for audio that is clearly recognized as generated, which
    needs them most (Mao et al., "Least Squares Generative Adversarial Networks", 2017).
    """
    return sum(((generated.float() - 1) ** 2).mean() for generated in generated_scores)


def feature_matching_loss(real_maps: list[list[Tensor]], generated_maps: list[list[Tensor]]) -> Tensor:
    """Return the mean absolute difference between each layer's features (equation 4), summed over layers.

    It compares generated audio with the recording by what the discriminators have learned to look at, and
    so gives the generator a target where the adversarial loss gives only a verdict. Unweighted:
    the official code's function includes the weight of 2.
    """
    return sum(
        F.l1_loss(generated.float(), real.float())
        for real_layers, generated_layers in zip(real_maps, generated_maps, strict=True)
        for real, generated in zip(real_layers, generated_layers, strict=True)
    )


def mel_loss(real_mel: Tensor, generated_mel: Tensor) -> Tensor:
    """Return the mean absolute difference between two mels (B, num_mels, T) (equation 3), unweighted."""
    return F.l1_loss(generated_mel, real_mel)


def multi_resolution_stft_loss(real: Tensor, generated: Tensor) -> Tensor:
    """Return the difference between the spectra of two batches of audio (B, 1, N), summed over STFT_SIZES.

    The loss of Parallel WaveGAN (Yamamoto et al., 2020, section 2.2): at each resolution, the relative
    difference of the magnitudes and the mean absolute difference of their logarithms. Both are L1 distances
    here; the paper's spectral convergence is an L2 distance.
    """
    total = torch.zeros((), device=real.device)
    for n_fft in STFT_SIZES:
        real_magnitude, generated_magnitude = (stft_magnitude(x, n_fft) for x in (real, generated))
        total = total + F.l1_loss(generated_magnitude, real_magnitude) / real_magnitude.mean()
        # the clamp at -80 dB keeps near-silent bins from dominating
        logarithms = (x.clamp(min=1e-4).log() for x in (generated_magnitude, real_magnitude))
        total = total + F.l1_loss(*logarithms)
    return total


def stft_magnitude(audio: Tensor, n_fft: int) -> Tensor:
    """Return the magnitudes (B, n_fft // 2 + 1, frames) of audio (B, 1, N); windows overlap by 75 %."""
    window = torch.hann_window(n_fft, device=audio.device)
    spectrum = torch.stft(audio.squeeze(1), n_fft, n_fft // 4, window=window, return_complex=True)
    # the constant keeps the root's gradient finite where the spectrum is zero
    return torch.sqrt(torch.view_as_real(spectrum).pow(2).sum(-1) + 1e-9)
