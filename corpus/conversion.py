"""Write the audio of a corpus in a form that training can read: copied, or converted to mono at one rate."""

from collections.abc import Iterable
from dataclasses import dataclass, replace
from io import BytesIO
from pathlib import Path

import numpy as np
import soundfile
from tqdm import tqdm

from common.errors import UserError
from common.files import atomic_write
from common.parallel import map_in_threads
from corpus.audio import DECODING_ERRORS, read_audio, resample, write_wav
from corpus.hub_datasets import audio_bytes
from corpus.metadata import CorpusClip, Rejection

KEPT_FORMATS = {"WAV": ".wav", "FLAC": ".flac"}  # formats in which segments can be read quickly
SILENCE_DB = 50  # the silence at the ends of a clip is this much quieter than its loudest part
MARGIN = 0.05  # seconds of silence that are kept at both ends


@dataclass(frozen=True)
class Change:
    """A clip that `import_clips` wrote, and what it changed."""

    clip: CorpusClip
    changes: tuple[str, ...]


def import_clips(
    clips: Iterable[tuple[CorpusClip, Path | dict]], sampling_rate: int | None
) -> tuple[list[CorpusClip], list[Rejection], list[Change]]:
    """Write the audio of each clip to its path, on all cores.

    With a `sampling_rate`, it is converted to one channel at that rate without silence at the ends, in 16-bit
    WAV files. Otherwise it is copied, and decoded only from formats other than WAV and FLAC.
    """
    good, rejections, changed = [], [], []

    def write(item: tuple[CorpusClip, Path | dict]) -> CorpusClip | Rejection | Change:
        clip, source = item
        path = source if isinstance(source, Path) else None
        if not clip.transcript:
            return Rejection(clip.clip_id, path, "no transcript")
        if path and not path.is_file():
            return Rejection(clip.clip_id, path, "file is missing")
        try:
            audio = path or audio_bytes(source)
            if sampling_rate is None:
                return replace(clip, path=copy_audio(audio, clip.path))
            changes = convert_audio(audio, clip.path, sampling_rate)
        except (UserError, *DECODING_ERRORS) as error:
            return Rejection(clip.clip_id, path, f"can't be decoded: {' '.join(str(error).split())}")
        return Change(clip, changes) if changes else clip

    for result in tqdm(map_in_threads(write, clips), desc="writing", unit="clip", disable=None):
        if isinstance(result, Rejection):
            rejections.append(result)
        else:
            changed += [result] if isinstance(result, Change) else []
            good.append(result.clip if isinstance(result, Change) else result)
    return good, rejections, changed


def copy_audio(source: BytesIO, target: Path) -> Path:
    """Write an encoded file, as 16-bit WAV if its format is neither WAV nor FLAC; return its path."""
    info = soundfile.info(source)
    source.seek(0)
    if info.format not in KEPT_FORMATS:
        audio, sampling_rate, _ = read_audio(source)
        write_wav(target, audio, sampling_rate)
        return target
    target = target.with_suffix(KEPT_FORMATS[info.format])
    with atomic_write(target) as temporary:
        temporary.write_bytes(source.getbuffer())
    return target


def convert_audio(source: Path | BytesIO, target: Path, sampling_rate: int) -> tuple[str, ...]:
    """Write a file as 16-bit mono WAV at `sampling_rate` Hz without silence at its ends; return the changes.

    Raises UserError for a file that can't be decoded, has no samples, or has values that are not finite.
    """
    audio, source_rate, channels = read_audio(source)
    if not len(audio) or not np.isfinite(audio).all():
        raise UserError("audio holds values that are not finite" if len(audio) else "audio is empty")
    changes = [f"mixed down from {channels} channels"] if channels > 1 else []
    if source_rate != sampling_rate:
        audio = resample(audio, source_rate, sampling_rate)
        changes.append(f"resampled from {source_rate} Hz")
    start, end = loud_part(audio, sampling_rate)
    if end - start < len(audio) - MARGIN * sampling_rate:
        changes.append(f"silence trimmed: {(len(audio) - end + start) / sampling_rate:.2f} s")
        audio = audio[start:end]
    if (peak := np.abs(audio).max()) > 1:
        audio = audio / peak
        changes.append(f"scaled down: from a peak of {peak:.2f}")
    write_wav(target, audio, sampling_rate)
    return tuple(changes)


def loud_part(audio: np.ndarray, sampling_rate: int) -> tuple[int, int]:
    """Return where speech starts and ends in audio (samples,), with a margin of 0.05 s."""
    import librosa  # slow to import, and needed only for conversion

    _, (start, end) = librosa.effects.trim(audio, top_db=SILENCE_DB)
    margin = round(MARGIN * sampling_rate)
    return max(0, start - margin), min(len(audio), end + margin)
