"""Find mels that are not what they should be: by their values, or by comparison with the mel of the audio.

A predicted mel differs from the true one, and that of a poor Tacotron 2 differs a lot. So a mel is not
refused for its distance, but because another explanation of its values fits them much better.
"""

from collections.abc import Iterator
from dataclasses import replace

import numpy as np
import torch
from torch import Tensor

from config import MEL_SCALES, MelConfig
from mel import MelSpectrogram

IDENTICAL = 1e-3  # mean difference of a mel from itself, computed elsewhere
BETTER = 0.5  # share of the distance to the true mel, at which another scale is the better explanation
RELATED = 0.6  # correlation of a mel with itself in another scale, even if it is a prediction
EXACT = 0.3  # the same share for other spectrograms: predictions of the true mel are never as near to these
CONSTANT = 0.1  # spread of a constant difference, as a share of that of the mel
SAME = 0.97  # correlation over time that no prediction reaches
UNRELATED = 0.2  # correlation over time of a mel with that of other audio
LIVELY = 0.6  # variation over time, as a share of that of speech; less is a model that has learned nothing
OTHER_AUDIO = "does not follow its audio; files are exchanged, or it was predicted without teacher forcing"
OTHER_LEVEL = "belongs to louder or quieter audio"  # normalized in between; a vocoder can learn it


def wrong_mel(saved: np.ndarray, audio: np.ndarray, config: MelConfig, with_settings: bool = True) -> str:
    """Return what a saved mel (num_mels, frames) is instead of a prediction for audio (samples,), or "".

    `with_settings` also tries other settings of the spectrogram, which takes most of the time.
    """
    true = mel_of(audio, config)
    usual = np.abs(saved - true).mean()
    if usual < IDENTICAL or saved.std() < IDENTICAL or true.std() < IDENTICAL:
        return ""
    if (saved - true).std() < CONSTANT * true.std():
        level = f"{OTHER_LEVEL}, by a constant of {(saved - true).mean():.2f}"
        return level if usual > 0.25 * true.std() else ""
    for name, values in other_spectrograms(audio, config) if with_settings else ():
        values = values[:, : saved.shape[1]]
        if np.abs(saved - values).mean() < EXACT * usual and correlation(saved, values) > SAME:
            return f"looks like a mel {name}"
    moving, real = over_time(saved), over_time(true)
    related = max(correlation(saved, true), correlation(moving, real))
    nearest, name, values = min(
        ((np.abs(saved - values).mean(), name, values) for name, values in other_scales(true, config)),
        key=lambda each: each[0],
    )
    if nearest < BETTER * usual and (related > RELATED or correlation(saved, values) > SAME):
        return f"looks like {name}: the factor between the two is {true.std() / values.std():.2f}"
    if correlation(moving, real) > SAME and usual > 0.25 * true.std():
        factor = real.std() / moving.std()
        if abs(factor - 1) < 0.05:
            return f"{OTHER_LEVEL}, by a constant of {(saved - true).mean():.2f}"
        return f"is in an unknown scale: the factor between the two is {factor:.2f}"
    is_lively = moving.std() > LIVELY * real.std()
    return OTHER_AUDIO if is_lively and correlation(moving, real) < UNRELATED else ""


def unlikely_mel_values(mel: Tensor | np.ndarray, config: MelConfig) -> str:
    """Return a description of mel values that are unlikely for speech in `config`'s scale, or ""."""
    if config.mel_scale == "log10":
        return ""  # used by transformers models only, whose mels may also be normalized to any range
    # 22 dB (2.5) below the clamp and 26 dB (3.0) above full scale: mels in another scale exceed them, speech
    # does not. HTK's filters sum more of a bin's neighbors, which adds 43 dB (5.0).
    low, high = config.from_ln(config.to_ln(config.silence) - 2.5), config.from_ln(3.0)
    if config.mel_filters == "htk":
        high = config.from_ln(8.0)
    if low <= mel.min() and mel.max() <= high:
        return ""
    return (
        f"holds values from {mel.min():.2f} to {mel.max():.2f}; mels in the scale {config.mel_scale} are "
        f"between {low:.2f} and {high:.2f}"
    )


def mel_of(audio: np.ndarray, config: MelConfig) -> np.ndarray:
    return MelSpectrogram(config)(torch.from_numpy(audio)).numpy()


def other_scales(true: np.ndarray, config: MelConfig) -> Iterator[tuple[str, np.ndarray]]:
    ln = config.to_ln(true)
    for scale in set(MEL_SCALES) - {config.mel_scale}:
        yield scale, replace(config, mel_scale=scale).from_ln(ln)
    yield "the logarithm of the power, not of the amplitude", config.from_ln(2 * ln)
    yield "a mel without a logarithm", np.exp(ln)
    low = config.silence
    for top in (config.from_ln(0.0), true.max()):
        yield "a mel normalized to 0..1", (true - low) / (top - low)
        yield "a mel normalized to -1..1", 2 * (true - low) / (top - low) - 1
    yield "a standardized mel", (true - true.mean()) / true.std()


def other_spectrograms(audio: np.ndarray, config: MelConfig) -> Iterator[tuple[str, np.ndarray]]:
    """Yield mels of shifted audio, and with other settings of as many frames and bands."""
    for shift in (-config.hop_size, -config.hop_size // 2, config.hop_size // 2, config.hop_size):
        hops = shift / config.hop_size
        yield (
            f"that is {abs(hops):g} hops too {'late' if hops > 0 else 'early'}",
            mel_of(np.roll(audio, shift), config),
        )
    half = config.sampling_rate / 2
    edges = {None, 8000.0, 7600.0, 7000.0, half} - {config.fmax}
    others = [{"fmax": edge} for edge in edges if edge is None or edge <= half]
    others += [{"fmin": fmin} for fmin in (0.0, 20.0, 40.0, 50.0, 80.0, 90.0) if fmin != config.fmin]
    others += [{"mel_filters": name} for name in ("slaney", "htk") if name != config.mel_filters]
    sizes = ((512, 512), (1024, 800), (1024, 1024), (1024, 512), (2048, 1024), (2048, 1200), (2048, 2048))
    others += [{"n_fft": n_fft, "window_size": window} for n_fft, window in sizes]
    for settings in others:
        if settings.get("window_size", config.hop_size) < config.hop_size:
            continue
        other = replace(config, padding="same", **settings)
        if other != config and len(audio) >= other.min_samples:
            text = " and ".join(f"{name} {value}" for name, value in settings.items())
            yield f"with {text}", mel_of(audio, other)


def over_time(mel: np.ndarray) -> np.ndarray:
    """Return a mel (num_mels, frames) without the mean of each band."""
    return mel - mel.mean(axis=1, keepdims=True)


def correlation(first: np.ndarray, second: np.ndarray) -> float:
    first, second = first - first.mean(), second - second.mean()
    scale = np.linalg.norm(first) * np.linalg.norm(second)
    return float((first * second).sum() / scale) if scale > 0 else 0.0
