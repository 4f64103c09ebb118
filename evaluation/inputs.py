"""Preparation of clips that all metrics share: checks, resampling, optional packages."""

import importlib
from collections.abc import Callable
from functools import lru_cache, wraps
from types import ModuleType

import numpy as np

from corpus.audio import resample

# Vocoders return a whole number of frames, and some pad by half a window.
LENGTH_TOLERANCE = 0.05  # seconds


class Unavailable(Exception):
    """A metric cannot be computed for a clip, or at all. The message is the reason, shown in a footnote."""


def checked_audio(audio: np.ndarray, name: str = "the clip") -> np.ndarray:
    """Return audio as (samples,) float32.

    Raises Unavailable if it is empty or has values that are not finite, and ValueError for another shape or
    an integer type. `name` is used in the message.
    """
    audio = np.asarray(audio)
    if audio.ndim != 1 or not np.issubdtype(audio.dtype, np.floating):
        raise ValueError(
            f"audio is {audio.dtype} of shape {audio.shape}; it must be (samples,) of floats in [-1, 1]"
        )
    if not audio.size:
        raise Unavailable(f"{name} is empty")
    if not np.isfinite(audio).all():
        raise Unavailable(f"{name} has values that are not finite")
    return audio.astype(np.float32)


def audible(audio: np.ndarray, name: str = "the clip") -> np.ndarray:
    """Return audio as `checked_audio` does. Also raises Unavailable if all samples are zero."""
    audio = checked_audio(audio, name)
    if not audio.any():
        raise Unavailable(f"{name} is silent")
    return audio


def paired(audio: np.ndarray, reference: np.ndarray, sampling_rate: int) -> tuple[np.ndarray, np.ndarray]:
    """Return both clips, checked and cut to the shorter one.

    Raises Unavailable if their durations differ by more than 0.05 s, or if the reference is silent.
    """
    audio, reference = checked_audio(audio), audible(reference, "the reference")
    if abs(len(audio) - len(reference)) > LENGTH_TOLERANCE * sampling_rate:
        raise Unavailable(
            f"the clip lasts {len(audio) / sampling_rate:.2f} s and its reference "
            f"{len(reference) / sampling_rate:.2f} s, so they are not aligned in time"
        )
    samples = min(len(audio), len(reference))
    return audio[:samples], reference[:samples]


def cached_by_audio(function: Callable) -> Callable:
    """Cache a function of (audio, sampling rate), since several metrics use the same mel or pitch."""

    @lru_cache(maxsize=8)
    def cached(data: bytes, sampling_rate: int):
        return function(np.frombuffer(data, dtype=np.float32).copy(), sampling_rate)

    @wraps(function)
    def of_arrays(audio: np.ndarray, sampling_rate: int):
        return cached(audio.tobytes(), sampling_rate)

    return of_arrays


@cached_by_audio
def at_16_khz(audio: np.ndarray, sampling_rate: int) -> np.ndarray:
    """Return (samples,) float32 audio resampled to 16 kHz, the rate of most pretrained metrics."""
    return resample(audio, sampling_rate, 16000)


def optional_package(module: str, hint: str = "", package: str = "") -> ModuleType:
    """Import and return an optional module. Raises Unavailable with the command that installs it."""
    try:
        return importlib.import_module(module)
    except (ImportError, OSError) as error:  # OSError: a shared library that the package needs is missing
        raise Unavailable(f"unavailable: {error}; pip install {package or module}{hint}") from error
