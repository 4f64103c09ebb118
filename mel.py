"""The mel frontend of Tacotron 2's targets, the vocoder's input, the mel loss and the plots.

With the default settings it computes the official HiFi-GAN's mel, up to the scale of the values.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import fields, replace

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from common.errors import UserError
from config import MelConfig


def mel_filter_bank(config: MelConfig) -> np.ndarray:
    """Return triangular filters (num_mels, n_fft // 2 + 1) float32, equal to those of `librosa.filters.mel`.

    They are equally spaced on the mel scale. Slaney's scale is linear up to 1000 Hz and logarithmic above,
    and his filters have equal areas; HTK's scale is logarithmic, with filters of height 1.
    """
    if config.mel_filters == "htk":
        low, high = (2595 * np.log10(1 + edge / 700) for edge in (config.fmin, config.highest_frequency))
        edges = 700 * (10 ** (np.linspace(low, high, config.num_mels + 2) / 2595) - 1)  # in Hz
    else:
        low, high = (
            3 * edge / 200 if edge < 1000 else 15 + 27 * np.log(edge / 1000) / np.log(6.4)
            for edge in (config.fmin, config.highest_frequency)
        )
        mels = np.linspace(low, high, config.num_mels + 2)
        edges = np.where(mels < 15, 200 / 3 * mels, 1000 * np.exp(np.log(6.4) / 27 * (mels - 15)))
    distance = edges[:, None] - np.fft.rfftfreq(config.n_fft, 1 / config.sampling_rate)
    width = np.diff(edges)[:, None]
    filters = np.maximum(0, np.minimum(-distance[:-2] / width[:-1], distance[2:] / width[1:]))
    if config.mel_filters == "slaney":
        filters = filters.astype(np.float32) * (2 / (edges[2:] - edges[:-2]))[:, None]
    return filters.astype(np.float32)


class MelSpectrogram(nn.Module):
    """Audio (..., samples) in [-1, 1] to its mel (..., num_mels, frames) in `config.mel_scale`.

    Differentiable, on any device, in float32 under autocast. The audio is reflect-padded by
    `config.stft_padding`. The mel filters are applied to the magnitude of an STFT with a periodic Hann window
    and without further padding. With `padding="same"`, frames = samples // hop_size. Raises ValueError for
    audio shorter than `config.min_samples`.
    """

    def __init__(self, config: MelConfig):
        super().__init__()
        self.config = config
        filters = torch.from_numpy(mel_filter_bank(config))  # (num_mels, n_fft // 2 + 1)
        self.register_buffer("filters", filters, persistent=False)
        self.register_buffer("window", torch.hann_window(config.window_size), persistent=False)
        # The official HiFi-GAN adds this constant to the power, torchaudio does not. With filters of height 1
        # it would raise silence above a clamp of 1e-7.
        self.power_offset = 0.0 if config.mel_filters == "htk" else 1e-9

    def forward(self, audio: Tensor) -> Tensor:
        config = self.config
        if audio.shape[-1] < config.min_samples:
            raise ValueError(
                f"audio of {audio.shape[-1]} samples has no mel; the minimum is {config.min_samples} samples"
            )
        # bfloat16 has an 8-bit mantissa, which is too coarse for a spectrum
        with torch.autocast(audio.device.type, enabled=False):
            waves = audio.float().reshape(-1, audio.shape[-1])  # (B, samples)
            waves = F.pad(waves, config.stft_padding, mode="reflect")
            sizes = config.n_fft, config.hop_size, config.window_size
            spectrum = torch.stft(waves, *sizes, self.window, center=False, return_complex=True)
            magnitude = self.magnitude(spectrum)  # (B, n_fft // 2 + 1, frames)
            with without_tf32():
                amplitude = torch.matmul(self.filters, magnitude)  # (B, num_mels, frames)
            mel = config.from_ln(torch.log(amplitude.clamp(min=config.min_amplitude)))
        return mel.reshape(*audio.shape[:-1], *mel.shape[-2:])

    def magnitude(self, spectrum: Tensor) -> Tensor:
        """Return the magnitudes of a complex spectrum, with finite gradients where it is zero."""
        if self.power_offset == 0.0:
            return spectrum.abs()
        return torch.sqrt(torch.view_as_real(spectrum).pow(2).sum(-1) + self.power_offset)


@contextmanager
def without_tf32() -> Iterator[None]:
    """Multiply float32 matrices in full precision on GPUs, in the forward pass of a run that uses TF32."""
    before = torch.get_float32_matmul_precision()
    torch.set_float32_matmul_precision("highest")
    try:
        yield
    finally:
        torch.set_float32_matmul_precision(before)


def convert_mel_scale(mel, source: MelConfig, target: MelConfig):
    """Convert mel values, a tensor or array of any shape, to the scale of `target`, exactly and unclipped.

    Raises UserError if the configurations differ in more than the scale.
    """
    check_same_mel(source, target, "the source", "the target", scale_matters=False)
    return target.from_ln(source.to_ln(mel))


def check_same_mel(
    first: MelConfig, second: MelConfig, first_name: str, second_name: str, scale_matters: bool = True
) -> None:
    """Raise UserError if mel settings differ; the message lists each of them with both values."""
    if not scale_matters:
        first = replace(
            first, mel_scale=second.mel_scale, min_db=second.min_db, max_scaled_abs=second.max_scaled_abs
        )
    differences = []
    for field in fields(MelConfig):
        one, other = getattr(first, field.name), getattr(second, field.name)
        if field.name == "fmax":
            one, other = first.highest_frequency, second.highest_frequency
        if field.name == "max_scaled_abs" and first.mel_scale == second.mel_scale != "db":
            continue  # used by the scale "db" only
        if one != other:
            differences.append(f"{field.name} is {one} in {first_name} but {other} in {second_name}")
    if differences:
        raise UserError(
            f"mel settings differ: {'; '.join(differences)}; use models and mels made with the same settings"
        )


def mel_to_magnitude(mel: np.ndarray, config: MelConfig) -> np.ndarray:
    """Return the STFT magnitude (n_fft // 2 + 1, frames) that best explains a mel (num_mels, frames).

    Non-negative least squares: the pseudo-inverse of the filters yields negative magnitudes, heard as chirps.
    """
    filters = MelSpectrogram(config).filters.numpy()
    # Multiplicative updates (Lee and Seung, 2001) from a smooth start. The solver of librosa's mel_to_stft
    # does not leave its starting point, the clipped pseudo-inverse, because speech is below its absolute
    # tolerance. An active-set solver fits exactly but concentrates each band in one bin, which whistles.
    amplitude = np.exp(config.to_ln(np.asarray(mel, dtype=np.float32)))
    tiny = np.finfo(np.float32).tiny  # for bins that no filter covers and, with a short n_fft, empty bands
    magnitude = filters.T @ (amplitude / (filters @ filters.sum(0) + tiny)[:, None])
    target = filters.T @ amplitude
    for _ in range(50):
        magnitude *= target / (filters.T @ (filters @ magnitude) + tiny)
    return magnitude


def griffin_lim(
    mel: Tensor | np.ndarray, config: MelConfig, iterations: int = 60, seed: int = 0
) -> np.ndarray:
    """Return audio (samples,) float32 for a mel (num_mels, frames), with phases estimated by Griffin-Lim.

    This is the baseline, which needs no weights and no training. Uses librosa's fast Griffin-Lim
    (Perraudin et al., 2013), from random phases drawn with `seed`. There are `config.num_samples(frames)`
    samples; the hop of frame i starts at sample i * hop_size, as in `MelSpectrogram`.
    """
    import librosa  # slow to import, and only this baseline needs it

    magnitude = mel_to_magnitude(mel.detach().cpu().numpy() if isinstance(mel, Tensor) else mel, config)
    audio = librosa.griffinlim(
        magnitude,
        n_iter=iterations,
        hop_length=config.hop_size,
        win_length=config.window_size,
        n_fft=config.n_fft,
        center=False,
        random_state=seed,
    )
    first = config.stft_padding[0]
    return audio[first : first + config.num_samples(magnitude.shape[1])].astype(np.float32)
