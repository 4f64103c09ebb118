"""The one mel spectrogram of the project: Tacotron 2's target, the vocoder's input, the mel loss, the plots.

It is the official HiFi-GAN's, up to the scale of its values: see `MelConfig`.
"""

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields, replace
from pathlib import Path

import librosa
import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from utils import UserError, read_json

MEL_SCALES = ("db", "ln", "log10")

# What the official HiFi-GAN's JSON calls some of our fields.
OFFICIAL_NAMES = {"win_size": "window_size", "fmax_for_loss": "fmax_loss"}


@dataclass(frozen=True)
class MelConfig:
    """How audio becomes a mel. Two programs that exchange mels must agree on every field.

    `mel_scale` says what the values are: "ln" is the natural logarithm of the amplitude, "log10" the decimal
    one; "db" maps its decibels linearly so that `min_db` lies at `-max_scaled_abs` and 0 dB at
    `+max_scaled_abs`, and goes on above without a clip. Amplitudes are clipped below at `min_db` in any
    scale. Rates and frequencies are in Hz, sizes in samples; an `fmax` of None is half the sampling rate.
    """

    sampling_rate: int = 22050
    n_fft: int = 1024
    window_size: int = 1024
    hop_size: int = 256
    num_mels: int = 80
    fmin: float = 0.0
    fmax: float | None = 8000.0
    mel_scale: str = "db"
    min_db: float = -100.0
    max_scaled_abs: float = 4.0

    def __post_init__(self):
        if self.mel_scale not in MEL_SCALES:
            raise UserError(f"mel_scale is {self.mel_scale!r}; it must be one of {', '.join(MEL_SCALES)}")
        for name in ("sampling_rate", "n_fft", "window_size", "hop_size", "num_mels", "max_scaled_abs"):
            if getattr(self, name) <= 0:
                raise UserError(f"{name} is {getattr(self, name)}; it must be positive")
        if self.window_size > self.n_fft:
            raise UserError(
                f"window_size {self.window_size} is longer than n_fft {self.n_fft}; make n_fft larger"
            )
        if self.hop_size > self.window_size:
            raise UserError(
                f"hop_size {self.hop_size} is longer than window_size {self.window_size}: samples are lost"
            )
        top, nyquist = self.highest_frequency, self.sampling_rate / 2
        if not 0 <= self.fmin < top <= nyquist:
            raise UserError(
                f"fmin {self.fmin} and fmax {top} must satisfy 0 <= fmin < fmax <= {nyquist} (half the "
                "sampling rate)"
            )
        if self.min_db >= 0:
            raise UserError(f"min_db is {self.min_db}; it must be negative (-100 is an amplitude of 0.00001)")

    @classmethod
    def from_dict(cls, values: Mapping) -> "MelConfig":
        """From a parsed `config.json`, ours or an official one; keys of other things are passed over.

        A file without `mel_scale` is an official one, whose mels are natural logarithms.
        """
        renamed = {OFFICIAL_NAMES.get(name, name): value for name, value in values.items()}
        known = {field.name for field in fields(cls)}
        settings = {"mel_scale": "ln"} | {name: value for name, value in renamed.items() if name in known}
        settings = {name: as_tuples(value) for name, value in settings.items()}
        try:
            return cls(**settings)
        except TypeError as error:  # a string where a number belongs, a number where a list does
            raise UserError(f"a value in the configuration has the wrong type: {error}") from error

    @classmethod
    def from_file(cls, path: Path) -> "MelConfig":
        """As `from_dict`, from a `config.json`."""
        return cls.from_dict(read_json(path))

    def to_dict(self) -> dict:
        """For `config.json`; `from_dict` reads it back to an equal configuration."""
        return asdict(self)

    @property
    def highest_frequency(self) -> float:
        """Upper edge of the highest mel band in Hz."""
        return self.sampling_rate / 2 if self.fmax is None else self.fmax

    @property
    def min_amplitude(self) -> float:
        return 10.0 ** (self.min_db / 20.0)

    @property
    def min_samples(self) -> int:
        """The shortest audio that has a mel: one hop, and one sample more than the reflected edge."""
        return max(self.hop_size, self.n_fft - self.hop_size - (self.n_fft - self.hop_size) // 2 + 1)

    @property
    def silence(self) -> float:
        """The value of a mel bin in digital silence."""
        return self.from_ln(math.log(self.min_amplitude))

    def from_ln(self, ln_amplitude):
        """Natural-log amplitude to this scale: the affine map, for a number, an array or a tensor."""
        if self.mel_scale == "ln":
            return ln_amplitude
        if self.mel_scale == "log10":
            return ln_amplitude / math.log(10.0)
        decibels = ln_amplitude * (20.0 / math.log(10.0))
        return (decibels - self.min_db) * (2.0 * self.max_scaled_abs / -self.min_db) - self.max_scaled_abs

    def to_ln(self, values):
        """The inverse of `from_ln`."""
        if self.mel_scale == "ln":
            return values
        if self.mel_scale == "log10":
            return values * math.log(10.0)
        decibels = (values + self.max_scaled_abs) * (-self.min_db / (2.0 * self.max_scaled_abs)) + self.min_db
        return decibels * (math.log(10.0) / 20.0)


def as_tuples(value):
    """Lists, nested to any depth, as tuples: a configuration can't change and can be compared."""
    return tuple(as_tuples(item) for item in value) if isinstance(value, list | tuple) else value


class MelSpectrogram(nn.Module):
    """Audio (..., samples) in [-1, 1] to its mel (..., num_mels, samples // hop_size), in `config.mel_scale`.

    Differentiable, on any device. Frame i is centred on the hop that starts at sample i * hop_size: the edges
    are reflected by (n_fft - hop_size) / 2 and the STFT (periodic Hann window, magnitude) adds no padding of
    its own. The filters are Slaney's, as `librosa.filters.mel` gives them. Raises ValueError for audio
    shorter than `config.min_samples`.
    """

    def __init__(self, config: MelConfig):
        super().__init__()
        self.config = config
        filters = librosa.filters.mel(
            sr=config.sampling_rate,
            n_fft=config.n_fft,
            n_mels=config.num_mels,
            fmin=config.fmin,
            fmax=config.fmax,
        )
        self.register_buffer(
            "filters", torch.from_numpy(filters), persistent=False
        )  # (num_mels, n_fft // 2 + 1)
        self.register_buffer("window", torch.hann_window(config.window_size), persistent=False)

    def forward(self, audio: Tensor) -> Tensor:
        config = self.config
        if audio.shape[-1] < config.min_samples:
            raise ValueError(
                f"audio of {audio.shape[-1]} samples has no mel; {config.min_samples} are the fewest"
            )
        # bfloat16 keeps 8 bits of mantissa: too few for a spectrum, whatever precision the models run in
        with torch.autocast(audio.device.type, enabled=False):
            edge = config.n_fft - config.hop_size
            waves = audio.float().reshape(-1, audio.shape[-1])  # (B, samples)
            waves = F.pad(waves, (edge // 2, edge - edge // 2), mode="reflect")
            spectrum = torch.stft(
                waves,
                config.n_fft,
                config.hop_size,
                config.window_size,
                self.window,
                center=False,
                return_complex=True,
            )
            # the small constant keeps the root's gradient finite where the spectrum is zero
            magnitude = torch.sqrt(
                torch.view_as_real(spectrum).pow(2).sum(-1) + 1e-9
            )  # (B, n_fft // 2 + 1, frames)
            amplitude = torch.matmul(self.filters, magnitude)  # (B, num_mels, frames)
            mel = config.from_ln(torch.log(amplitude.clamp(min=config.min_amplitude)))
        return mel.reshape(*audio.shape[:-1], *mel.shape[-2:])


def convert_mel_scale(mel, source: MelConfig, target: MelConfig):
    """Values of a mel, tensor or array of any shape, from `source`'s scale to `target`'s: exact, no clipping.

    Raises UserError when the two differ in more than the scale: such mels hold other frequencies or other
    frames.
    """
    check_same_mel(source, target, "the mel", "its user", scale_matters=False)
    return target.from_ln(source.to_ln(mel))


def check_same_mel(
    first: MelConfig, second: MelConfig, first_name: str, second_name: str, scale_matters: bool = True
) -> None:
    """Raise UserError that names each setting in which the mels of two programs differ, with both values."""
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
            continue  # the logarithms do not use it
        if one != other:
            differences.append(f"{field.name} is {one} in {first_name} but {other} in {second_name}")
    if differences:
        raise UserError(
            f"mel settings differ: {'; '.join(differences)}; use models and mels made with the same settings"
        )


def unlikely_mel_values(mel: Tensor | np.ndarray, config: MelConfig) -> str:
    """What no mel of speech in `config`'s scale has, among these values, in words; "" where all is well."""
    if config.mel_scale == "log10":
        return (
            ""  # transformers' alone, whose mels may be normalised besides: nothing is known of their range
        )
    # 22 dB below the floor and 26 dB above full scale: no speech comes there, and mels of other scales do
    low, high = config.from_ln(config.to_ln(config.silence) - 2.5), config.from_ln(3.0)
    if low <= mel.min() and mel.max() <= high:
        return ""
    return (
        f"holds values from {mel.min():.2f} to {mel.max():.2f}; mels in the scale {config.mel_scale} lie "
        f"between {low:.2f} and {high:.2f}"
    )


def mel_to_magnitude(mel: np.ndarray, config: MelConfig) -> np.ndarray:
    """Mel (num_mels, frames) to the STFT magnitude (n_fft // 2 + 1, frames) that explains it best.

    Non-negative least squares: the pseudo-inverse of the filters yields negative magnitudes, heard as chirps.
    """
    filters = MelSpectrogram(config).filters.numpy()
    # Multiplicative updates (Lee and Seung, 2001) from a smooth start. librosa's mel_to_stft stops where it
    # starts, at the clipped pseudo-inverse, because speech is below its solver's absolute tolerance; an
    # active-set solver fits exactly, but puts each band into one bin of its many, which whistles.
    amplitude = np.exp(config.to_ln(np.asarray(mel, dtype=np.float32)))
    tiny = np.finfo(np.float32).tiny  # for bins, and in a short n_fft bands, that no filter covers
    magnitude = filters.T @ (amplitude / (filters @ filters.sum(0) + tiny)[:, None])
    wanted = filters.T @ amplitude
    for _ in range(50):
        magnitude *= wanted / (filters.T @ (filters @ magnitude) + tiny)
    return magnitude


def griffin_lim(
    mel: Tensor | np.ndarray, config: MelConfig, iterations: int = 60, seed: int = 0
) -> np.ndarray:
    """Audio (frames * hop_size,) float32 from a mel (num_mels, frames), with phases by Griffin and Lim.

    The baseline that every vocoder is compared with: no weights, no training. Fast Griffin-Lim (Perraudin et
    al., 2013) as librosa implements it, from random phases drawn with `seed`. Sample i * hop_size starts
    frame i, as in `MelSpectrogram`.
    """
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
    edge = (config.n_fft - config.hop_size) // 2
    return audio[edge : edge + magnitude.shape[1] * config.hop_size].astype(np.float32)
