"""Write the audio of a corpus in a form that training can read: copied, or converted to mono at one rate."""

from collections.abc import Iterable
from dataclasses import dataclass, replace
from io import BytesIO
from pathlib import Path
from threading import Lock
from typing import NoReturn

import numpy as np
from tqdm import tqdm

from common.errors import UserError, one_line
from common.files import atomic_write, visible
from common.parallel import map_in_threads
from corpus.audio import (
    AUDIO_SUFFIXES,
    DECODING_ERRORS,
    SEEKABLE,
    mix_down,
    open_audio,
    read_audio,
    read_channels,
    resample,
    write_wav,
)
from corpus.hub_datasets import audio_bytes
from corpus.metadata import CorpusClip, Rejection

LIST_NAME = "written_by_prep_splits.txt"  # the names of the files that runs have written into the folder
KEPT_FORMATS = {b"RIFF": ".wav", b"fLaC": ".flac"}  # by the first bytes of a file
TRIM_DB = 10.0  # dB above the noise floor of a clip, below which its ends are silence
MARGIN = 0.05  # seconds of silence that are kept at both ends
FRAME, STEP = 0.025, 0.01  # seconds of the frames whose levels are measured, and between them
FLOOR_PERCENTILE = 5  # of the levels: pauses and closures before plosives have the level of the noise
MIN_RANGE = 6.0  # dB from the noise floor to the loudest frames of a clip in which the two differ
MIN_OFFSET = 1e-4  # mean of a clip that is removed; -80 dB
DIGITAL_SILENCE = -100.0  # dB; such frames say nothing about the noise
NO_SOUND = "no sound: the audio is silent"
MIN_SWING = 4 / 32768  # between the largest and the smallest sample of a clip with sound
LOCK = Lock()  # of the list, to which threads append


@dataclass(frozen=True)
class Change:
    """A clip that `import_clips` wrote, and what it changed."""

    clip: CorpusClip
    changes: tuple[str, ...]
    trimmed: float = 0.0  # seconds of silence at its ends


def import_clips(
    clips: Iterable[tuple[CorpusClip, Path | dict]], folder: Path, sampling_rate: int | None,
    trim_db: float = TRIM_DB,
) -> tuple[list[CorpusClip], list[Rejection], list[Change]]:  # fmt: skip
    """Write the audio of each clip to its path, which is in `folder`, on all cores.

    With a `sampling_rate`, it is converted by `convert_audio`. Otherwise it is copied, and decoded only from
    formats in which segments can't be read quickly. Raises UserError if the folder has audio that no earlier
    run wrote or that is the source of a clip, and OSError if a clip can't be written.
    """
    good, rejections, changed = [], [], []
    known = listed_names(folder)
    refuse_unlisted(folder, known)

    def write(item: tuple[CorpusClip, Path | dict]) -> CorpusClip | Rejection | Change:
        clip, source = item
        path = source if isinstance(source, Path) else None
        if not clip.transcript:
            return Rejection(clip.clip_id, path, "no transcript")
        if path and not path.is_file():
            return Rejection(clip.clip_id, path, "file is missing")
        refuse_to_overwrite(source, clip.path)
        try:
            encoded = path or audio_bytes(source)
            if sampling_rate is None:
                content, changes, trimmed = copied_audio(encoded), (), 0.0
            else:
                content, changes, trimmed = convert_audio(encoded, sampling_rate, trim_db)
        except SilentClip as error:
            return Rejection(clip.clip_id, path, str(error))
        except (UserError, *DECODING_ERRORS) as error:
            return Rejection(clip.clip_id, path, f"can't be decoded: {one_line(error)}")
        clip = replace(clip, path=write_audio(clip.path, content, folder, known))
        return Change(clip, changes, trimmed) if changes else clip

    for result in tqdm(map_in_threads(write, clips), desc="writing", unit="clip", disable=None):
        if isinstance(result, Rejection):
            rejections.append(result)
        else:
            changed += [result] if isinstance(result, Change) else []
            good.append(result.clip if isinstance(result, Change) else result)
    return good, rejections, changed


def listed_names(folder: Path) -> set[str]:
    """Return the names of the files that earlier runs wrote into a folder."""
    listed = folder / LIST_NAME
    return set(listed.read_text("utf-8", "replace").split("\n")) if listed.is_file() else set()


def refuse_unlisted(folder: Path, known: set[str]) -> None:
    """Raise UserError for audio in a folder that no earlier run wrote: it may be recordings."""
    found = (path for path in visible(folder.rglob("*")) if path.suffix.lower() in AUDIO_SUFFIXES)
    unknown = {path.relative_to(folder).as_posix() for path in found} - known
    if unknown:
        refuse(f"{folder}, whose {min(unknown)} is not in its {LIST_NAME}")


def refuse_to_overwrite(source: Path | dict, target: Path) -> None:
    """Raise UserError if a file would be written into the folder of its source, where recordings are."""
    place = source if isinstance(source, Path) else not source.get("bytes") and source.get("path")
    folders = {Path(place).parent.resolve(), Path(place).resolve().parent} if place else set()
    if target.parent.resolve() in folders:  # the source's name may be a link that leads into another folder
        refuse(f"{target.parent}, which belongs to the corpus")


def refuse(what: str) -> NoReturn:
    raise UserError(
        f"prep_splits.py would overwrite audio in {what}; choose another folder or --path_to_save, or, if an "
        "earlier version made this one, delete it"
    )


def copied_audio(source: BytesIO) -> bytes | tuple[np.ndarray, int]:
    """Return an encoded file, or audio (samples,) and its rate if segments of it can't be read quickly."""
    content = source.getvalue()
    with open_audio(source) as decoder:
        if content[:4] in KEPT_FORMATS and decoder.codec in SEEKABLE:
            return content
    return read_audio(source)[:2]


def write_audio(path: Path, content: bytes | tuple[np.ndarray, int], folder: Path, known: set[str]) -> Path:
    """Write an encoded file with its own suffix, or audio (samples,) of a rate in Hz; return the path.

    Its name is listed in `folder` before, so that a run that is interrupted can be repeated. Raises UserError
    if the file exists and is not one of the `known` names of earlier runs.
    """
    if isinstance(content, bytes):
        path = path.with_suffix(KEPT_FORMATS[content[:4]])
    name = path.relative_to(folder).as_posix()
    if name not in known:
        if path.exists():  # in a folder to which a link leads
            refuse(f"{path.parent}, whose {path.name} is not in {LIST_NAME}")
        append_line(folder / LIST_NAME, name)
    if not isinstance(content, bytes):
        write_wav(path, *content)
        return path
    with atomic_write(path) as temporary:
        temporary.write_bytes(content)
    return path


def append_line(path: Path, line: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    try:
        with LOCK, open(path, "a", encoding="utf-8", newline="\n") as file:
            file.write(line + "\n")
    except OSError as error:  # of a write, for example to a full disk, which names no file
        error.filename = str(path)
        raise


class SilentClip(Exception):
    """The audio of a clip has no sound. The message is the reason of its `Rejection`."""


def convert_audio(
    source: Path | BytesIO, sampling_rate: int, trim_db: float = TRIM_DB
) -> tuple[tuple[np.ndarray, int], tuple[str, ...], float]:
    """Read a file as mono audio at `sampling_rate` Hz, without an offset and silence at its ends.

    Returns the audio (samples,) and its rate, the changes, and how many seconds were trimmed. Raises
    SilentClip for a file without sound, and UserError or one of DECODING_ERRORS for a file that can't be
    decoded, has no samples, or has values that are not finite.
    """
    channels, file = read_channels(source)
    if not len(channels) or not np.isfinite(channels).all():
        raise UserError("audio holds values that are not finite" if len(channels) else "audio is empty")
    audio, mixed = mix_down(channels)
    if np.ptp(audio) < MIN_SWING:
        raise SilentClip(NO_SOUND)
    changes = [mixed] if mixed else []
    if abs(offset := float(audio.mean(dtype=np.float64))) >= MIN_OFFSET:
        audio = audio - np.float32(offset)
        changes.append(f"offset removed: {offset:.4f}")
    if file.sampling_rate != sampling_rate:
        audio = resample(audio, file.sampling_rate, sampling_rate)
        changes.append(f"resampled from {file.sampling_rate} Hz")
    start, end = loud_part(audio, sampling_rate, trim_db)
    trimmed = (len(audio) - end + start) / sampling_rate
    if trimmed > MARGIN:
        changes.append(f"silence trimmed: {trimmed:.2f} s")
        audio = audio[start:end]
    else:
        trimmed = 0.0
    if (peak := np.abs(audio).max()) > 1:
        audio = audio / peak
        changes.append(f"scaled down: from a peak of {peak:.2f}")
    return (audio, sampling_rate), tuple(changes), trimmed


def loud_part(audio: np.ndarray, sampling_rate: int, trim_db: float = TRIM_DB) -> tuple[int, int]:
    """Return where sound starts and ends in audio (samples,), with a margin of 0.05 s.

    The ends are silence where they are less than `trim_db` dB above the clip's noise floor. In noisy clips,
    that is at most a third of the way to the loudest frames, since weak consonants are not much louder.
    """
    if not trim_db:
        return 0, len(audio)
    levels, step = frame_levels(audio - audio.mean(), sampling_rate)
    heard = levels[levels > DIGITAL_SILENCE]
    if not len(heard):
        return 0, len(audio)
    floor, loudest = np.percentile(heard, (FLOOR_PERCENTILE, 95))
    distance = min(trim_db, (loudest - floor) / 3)
    (loud,) = np.nonzero(levels > (floor + distance if loudest - floor > MIN_RANGE else DIGITAL_SILENCE))
    margin = round(MARGIN * sampling_rate)
    return max(0, loud[0] * step - margin), min(len(audio), (loud[-1] + 1) * step + margin)


def frame_levels(audio: np.ndarray, sampling_rate: int) -> tuple[np.ndarray, int]:
    """Return the levels in dB of frames of audio (samples,), each centered on its step, and the step."""
    step, half = round(STEP * sampling_rate), round(FRAME * sampling_rate / 2)
    energy = np.concatenate([[0.0], np.cumsum(np.square(audio, dtype=np.float64))])
    centers = np.arange(0, len(audio), step) + step // 2
    starts, ends = np.maximum(centers - half, 0), np.minimum(centers + half, len(audio))
    power = (energy[ends] - energy[np.minimum(starts, ends)]) / np.maximum(ends - starts, 1)
    return 10 * np.log10(np.maximum(power, 1e-12)), step
