"""Read and write audio files as 1-D float32 arrays in [-1, 1], with soundfile."""

import re
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import soundfile

from common.errors import UserError
from common.files import atomic_write

AUDIO_SUFFIXES = (".wav", ".flac", ".ogg", ".mp3")
SAMPLING_RATES = range(1000, 768_001)  # in Hz; a damaged header can state any other
UNKNOWN_BYTES = 0x7FFF0000  # programs that write WAV files to a pipe state this size or a larger one
# libsndfile reads a truncated file up to its end, and reports what is missing only in its log.
TRUNCATED = re.compile(r"^ *(?:data|SSND) : (\d+) \(should be (\d+)\)|^\*\*\* Calculated frame count", re.M)
DECODING_ERRORS = (soundfile.SoundFileError, RuntimeError, OSError, ValueError, MemoryError)


@dataclass(frozen=True)
class ClipInfo:
    """Properties of an audio file. `problem` is the reason why it is unusable, or ""."""

    samples: int = 0
    sampling_rate: int = 0
    channels: int = 0
    peak: float = 0.0
    problem: str = ""


@contextmanager
def open_audio(path: Path | str) -> Iterator[soundfile.SoundFile]:
    """Open an audio file for reading. Raises one of DECODING_ERRORS for a damaged or truncated file."""
    with soundfile.SoundFile(path) as file:
        match = TRUNCATED.search(file.extra_info)
        if match and not (match[1] and int(match[1]) >= UNKNOWN_BYTES):
            sizes = f": it has {match[2]} bytes of audio, not {match[1]} as its header states"
            raise ValueError(f"the file is truncated{sizes if match[1] else ''}")
        if file.samplerate not in SAMPLING_RATES:
            raise ValueError(f"its header states a sampling rate of {file.samplerate} Hz")
        yield file


def inspect_clip(path: Path | str) -> ClipInfo:
    """Decode a file and return its length and peak amplitude. Failures are reported in `ClipInfo.problem`."""
    try:
        if not Path(path).is_file():
            return ClipInfo(problem="file is missing")
        if Path(path).stat().st_size == 0:
            return ClipInfo(problem="file is empty")
        with open_audio(path) as file:
            samples, peak = 0, 0.0
            for block in file.blocks(blocksize=1 << 18, dtype="float32"):
                samples += len(block)
                peak = max(peak, float(block.max()), -float(block.min()))
                if not np.isfinite(peak) or np.isnan(block).any():
                    return ClipInfo(problem="audio holds values that are not finite")
            info = ClipInfo(samples, file.samplerate, file.channels, peak)
    except DECODING_ERRORS as error:
        return ClipInfo(problem=f"can't be decoded: {' '.join(str(error).split())}")
    if info.samples == 0:
        return ClipInfo(0, info.sampling_rate, info.channels, problem="audio is empty (0 samples)")
    return info


def read_audio(path: Path | str, start: int = 0, samples: int = -1) -> tuple[np.ndarray, int, int]:
    """Read `samples` samples from `start` on, by default up to the end.

    Returns the audio (samples,) in float32, with several channels averaged to one, the sampling rate in Hz
    and the number of channels of the file. Raises UserError for a file that is missing or can't be decoded.
    """
    try:
        with open_audio(path) as file:
            file.seek(min(start, file.frames))
            audio = file.read(samples, dtype="float32", always_2d=True)
            return audio.mean(axis=1) if file.channels > 1 else audio[:, 0], file.samplerate, file.channels
    except DECODING_ERRORS as error:
        raise UserError(f"can't read audio from {path}: {error}; check the file, or leave it out") from error


def resample(audio: np.ndarray, source_rate: int, target_rate: int) -> np.ndarray:
    """Resample audio (samples,) from one rate in Hz to another with soxr's high-quality filter."""
    import librosa  # slow to import and rarely needed, since most corpora have the model's rate

    return librosa.resample(audio, orig_sr=source_rate, target_sr=target_rate, res_type="soxr_hq")


def write_wav(path: Path | str, audio: np.ndarray | Iterable[np.ndarray], sampling_rate: int) -> None:
    """Write audio (samples,), or an iterable of such chunks, as a 16-bit PCM file, atomically.

    The audio is clipped at ±1 and not rescaled.
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
    """Return audio in [-1, 1] as int16, rounded to the nearest value and clipped."""
    return np.clip(np.rint(audio * np.float32(32768.0)), -32768, 32767).astype(np.int16)
