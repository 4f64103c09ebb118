"""Corpora in LJSpeech's layout and datasets of the `datasets` library, and the conversion of their audio."""

import tarfile
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from http.client import HTTPException
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
import soundfile
from tqdm import tqdm

from audio import DECODING_ERRORS, ClipInfo, read_audio, resample, write_wav
from utils import UserError, atomic_write, map_in_threads

# Columns of datasets, in order of preference.
TEXT_COLUMNS = (
    "normalized_transcript", "normalized_text", "text_normalized", "transcript", "transcription", "text",
    "sentence",
)  # fmt: skip
SPEAKER_COLUMNS = ("speaker", "speaker_name", "speaker_id")
AUDIO_KEYS = {"bytes", "path"}  # of encoded audio in a row
KEPT_FORMATS = {"WAV": ".wav", "FLAC": ".flac"}  # formats in which segments can be read quickly
SILENCE_DB = 50  # the silence at the ends of a clip is this much quieter than its loudest part
MARGIN = 0.05  # seconds of silence that are kept at both ends


@dataclass(frozen=True)
class CorpusClip:
    """A clip of a corpus and, after `inspect_clips`, the properties of its audio file."""

    clip_id: str
    path: Path
    transcript: str
    info: ClipInfo = field(default_factory=ClipInfo)
    speaker: str = ""

    @property
    def seconds(self) -> float:
        return self.info.samples / self.info.sampling_rate


@dataclass(frozen=True)
class Rejection:
    """An excluded clip. `reason` is the kind of problem, followed by a colon and details if there are any."""

    clip_id: str
    path: Path | None
    reason: str

    @property
    def kind(self) -> str:
        return self.reason.split(":")[0]


def read_metadata(corpus: Path | str) -> tuple[list[CorpusClip], list[Rejection]]:
    """Return the clips in `corpus`/metadata.csv in their order, and the rejected lines.

    A line is `id|text|normalized text`. Quotation marks are ordinary characters: read as quoted CSV, 16 of
    LJSpeech's 13,100 lines would lose their text. The transcript is the normalized text, or the raw text if
    the normalized text is blank or missing. The audio is `corpus`/wavs/<id>.wav. If several lines have the
    same id, the first one with a transcript is used. An id may contain folders: `speaker/0001`.

    Raises UserError if metadata.csv or wavs/ is missing, or if metadata.csv is blank.
    """
    corpus = Path(corpus)
    metadata = corpus / "metadata.csv"
    for name, is_found in (("metadata.csv", metadata.is_file()), ("wavs", (corpus / "wavs").is_dir())):
        if not is_found:
            raise UserError(f"{corpus} has no {name}; pass the folder that contains metadata.csv and wavs/")
    # Only line feeds end a line; str.splitlines would also split a text at rare characters such as U+2028.
    lines = metadata.read_bytes().removeprefix(b"\xef\xbb\xbf").split(b"\n")
    numbered = [(number, line) for number, line in enumerate(lines, start=1) if line.strip()]
    if not numbered:
        raise UserError(f"{metadata} is blank; it needs a line id|text|normalized text for each clip")
    clips, rejections = {}, []
    for number, line in numbered:
        clip_id, *texts = (field.strip() for field in line.decode("utf-8", errors="replace").split("|"))
        path = corpus / "wavs" / f"{clip_id}.wav" if is_name(clip_id) else None
        reason = problem_with_line(line, clip_id, texts)
        if not reason and clip_id in clips:
            reason = "duplicate id"
        if reason:
            joint = ", " if ":" in reason else ": "
            rejections.append(Rejection(clip_id, path, f"{reason}{joint}line {number} of {metadata.name}"))
        else:
            clips[clip_id] = CorpusClip(clip_id, path, texts[-1] or texts[0])
    return list(clips.values()), rejections


def download_ljspeech(folder: Path) -> Path:
    """Download LJSpeech 1.1 (2.6 GB) with torchaudio into `folder`, unless it exists, and return its path.

    Raises UserError if torchaudio can't be imported, or the download or unpacking fails.
    """
    try:
        import torchaudio
    except (ImportError, OSError, RuntimeError) as error:
        raise UserError(
            f"--download needs torchaudio, which can't be imported ({error}); install a fitting version, "
            "or unpack https://keithito.com/LJ-Speech-Dataset yourself and pass --path_to_ljspeech"
        ) from error
    corpus = folder / "LJSpeech-1.1"
    folder.mkdir(parents=True, exist_ok=True)
    try:
        torchaudio.datasets.LJSPEECH(root=folder, download=True)
    except (OSError, RuntimeError, EOFError, HTTPException, tarfile.TarError) as error:
        raise UserError(
            f"LJSpeech can't be downloaded into {folder}: {error}; delete its files there and retry"
        ) from error
    # torchaudio accepts an existing folder as complete, even if its unpacking was interrupted
    clips, _ = read_metadata(corpus)
    missing = sum(not clip.path.exists() for clip in clips)
    if missing:
        raise UserError(f"{corpus} lacks {missing} of its {len(clips)} clips; delete it and try again")
    return corpus


def problem_with_line(line: bytes, clip_id: str, texts: list[str]) -> str:
    """Return why a line of metadata.csv is rejected, or ""."""
    try:
        line.decode("utf-8")
    except UnicodeDecodeError:
        return "malformed line: not UTF-8"
    if not 1 <= len(texts) <= 2:
        return f"malformed line: {len(texts) + 1} field(s), not id|text|normalized text"
    if not clip_id:
        return "blank id"
    if not is_name(clip_id):
        return "id is not a file name"
    if not any(texts):
        return "no transcript"
    return ""


def is_name(clip_id: str) -> bool:
    """Return whether an id is a file name, with or without folders."""
    return not {"", ".", ".."} & set(clip_id.split("/")) and not set(clip_id) & set("\\\0")


@dataclass(frozen=True)
class Change:
    """A clip that `import_clips` wrote, and what it changed."""

    clip: CorpusClip
    changes: tuple[str, ...]


def read_dataset(
    name: str, folder: Path, configuration: str | None = None, split: str = "train",
    text_column: str | None = None,
) -> Iterator[tuple[CorpusClip, dict]]:  # fmt: skip
    """Yield a clip in `folder` and its encoded audio for each row of a dataset of the `datasets` library.

    `name` is a dataset on the Hub, a local folder, for example of Parquet files, or a Parquet file. Rows are
    read as they are needed. The id of a clip is that in the column `id` or the file name of its audio, if no
    other clip has it, and otherwise the number of the row. Raises UserError if the dataset can't be read, or
    has no audio or text.
    """
    rows, columns = open_dataset(name, configuration, split)
    # before a row is read, since a program that exits while Arrow's threads read ahead may be aborted
    # (https://github.com/apache/arrow/issues/45214)
    found = find_columns(name, columns, text_column) if columns else None
    known: set[str] = set()
    for number, row in enumerate(rows):
        found = found or find_columns(name, row, text_column)
        audio_column, text_column = found
        audio = row[audio_column] or {}
        ids = (str(row.get("id") or ""), Path(audio.get("path") or "").stem, f"{number:08d}")
        clip_id = next(each for each in ids if is_name(each) and each not in known)
        known.add(clip_id)
        speaker = next((str(row[key]) for key in SPEAKER_COLUMNS if row.get(key) is not None), "")
        text = " ".join(str(row[text_column] or "").split())
        yield CorpusClip(clip_id, folder / f"{clip_id}.wav", text, speaker=speaker), audio


def open_dataset(
    name: str, configuration: str | None, split: str
) -> tuple[Iterator[dict[str, Any]], dict[str, Any]]:
    """Return the rows and the types of the columns, which are empty for formats that do not state them."""
    try:
        from datasets import Audio, load_dataset
    except ImportError as error:
        raise UserError(f"--dataset needs the package datasets: {error}; pip install datasets") from error
    with dataset_errors(name):
        files = {"path": "parquet", "data_files": name} if Path(name).is_file() else {"path": name}
        rows = load_dataset(**files, name=configuration, split=split, streaming=True)
        columns = dict(rows.features or {})
        for column, feature in columns.items():
            if isinstance(feature, Audio):
                rows = rows.cast_column(column, Audio(decode=False))
                columns[column] = dict.fromkeys(AUDIO_KEYS)

    def read() -> Iterator[dict[str, Any]]:
        with dataset_errors(name):
            yield from rows

    return read(), columns


@contextmanager
def dataset_errors(name: str) -> Iterator[None]:
    try:
        yield
    except (OSError, ValueError, RuntimeError) as error:
        reason = " ".join(str(error).split())
        raise UserError(
            f"can't read the dataset {name}: {reason}; check the name, --dataset_config and --dataset_split"
        ) from error


def find_columns(dataset: str, columns: dict[str, Any], text_column: str | None) -> tuple[str, str]:
    """Return the names of the columns with audio and with text, given a row or the types of its values."""
    audio = [name for name, value in columns.items() if isinstance(value, dict) and AUDIO_KEYS & set(value)]
    return (
        find_column(dataset, columns, audio, "audio"),
        find_column(dataset, columns, [text_column] if text_column else TEXT_COLUMNS, "text"),
    )


def find_column(dataset: str, row: dict[str, Any], names: Iterable[str], kind: str) -> str:
    found = next((name for name in names if name in row), None)
    if found is None:
        raise UserError(
            f"{dataset} has no column with {kind}, only {', '.join(row)}; choose another dataset"
            + (", or name the column with --text_column" if kind == "text" else "")
        )
    return found


def audio_bytes(audio: dict[str, Any]) -> BytesIO:
    if audio.get("bytes"):
        return BytesIO(audio["bytes"])
    if not audio.get("path"):
        raise UserError("the row has no audio")
    import fsspec  # reads local and remote paths; part of datasets

    with fsspec.open(audio["path"], "rb") as file:
        return BytesIO(file.read())


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
