"""Audio files in and out: 1-D float32 arrays in [-1, 1], through soundfile."""

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import soundfile

from utils import UserError, atomic_write

AUDIO_SUFFIXES = (".wav", ".flac", ".ogg", ".mp3")


@dataclass(frozen=True)
class ClipInfo:
    """What a look through a whole file tells. `problem` says why a clip is unusable; a good one has none."""

    samples: int = 0
    sampling_rate: int = 0
    channels: int = 0
    peak: float = 0.0
    problem: str = ""


def inspect_clip(path: Path | str) -> ClipInfo:
    """Read a file once for its length and peak amplitude. Raises nothing: see `ClipInfo.problem`."""
    try:
        if not Path(path).is_file():
            return ClipInfo(problem="file is missing")
        if Path(path).stat().st_size == 0:
            return ClipInfo(problem="file is empty")
        with soundfile.SoundFile(path) as file:
            samples, peak = 0, 0.0
            for block in file.blocks(blocksize=1 << 18, dtype="float32"):
                samples += len(block)
                peak = max(peak, float(block.max()), -float(block.min()))
                if not np.isfinite(peak) or np.isnan(block).any():
                    return ClipInfo(problem="audio holds values that are not finite")
            info = ClipInfo(samples, file.samplerate, file.channels, peak)
    except (soundfile.LibsndfileError, RuntimeError, OSError) as error:
        return ClipInfo(problem=f"can't be decoded: {' '.join(str(error).split())}")
    if info.samples == 0:
        return ClipInfo(0, info.sampling_rate, info.channels, problem="audio is empty (0 samples)")
    return info


def read_audio(path: Path | str, start: int = 0, samples: int = -1) -> tuple[np.ndarray, int, int]:
    """(audio, sampling rate, channels) of `samples` samples from `start` on, or to the end; no more is read.

    The audio is (samples,) float32: several channels are averaged to one. Raises UserError for a file that is
    missing or can't be decoded.
    """
    try:
        audio, sampling_rate = soundfile.read(path, frames=samples, start=start, dtype="float32")
    except (soundfile.LibsndfileError, RuntimeError, OSError) as error:
        raise UserError(f"can't read audio from {path}: {error}; check the file, or leave it out") from error
    if audio.ndim == 1:
        return audio, sampling_rate, 1
    return audio.mean(axis=1), sampling_rate, audio.shape[1]


def resample(audio: np.ndarray, source_rate: int, target_rate: int) -> np.ndarray:
    """Band-limited resampling (soxr, high quality) of (samples,) audio from one rate in Hz to another."""
    import librosa  # slow to import, and seldom needed: most corpora have the model's rate

    return librosa.resample(audio, orig_sr=source_rate, target_sr=target_rate, res_type="soxr_hq")


def write_wav(path: Path | str, audio: np.ndarray | Iterable[np.ndarray], sampling_rate: int) -> None:
    """Write (samples,) audio, or such chunks of it as they come, as 16-bit PCM, whole or not at all.

    Never rescaled, and clipped at ±1.
    """
    chunks = [audio] if isinstance(audio, np.ndarray) else audio
    with (
        atomic_write(path) as temporary,
        soundfile.SoundFile(
            temporary, "w", samplerate=sampling_rate, channels=1, subtype="PCM_16", format="WAV"
        ) as file,
    ):
        for chunk in chunks:
            file.write(to_pcm(chunk))


def to_pcm(audio: np.ndarray) -> np.ndarray:
    """Audio in [-1, 1] to int16, rounded to the nearest and clipped."""
    return np.clip(np.rint(audio * np.float32(32768.0)), -32768, 32767).astype(np.int16)
