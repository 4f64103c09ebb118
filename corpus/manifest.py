"""Manifests: tables of clips in CSV or Parquet, and official filelists, held in memory as flat arrays."""

import csv
import itertools
import os
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv
import pyarrow.parquet
import torch
from tqdm import tqdm

from common.errors import UserError, one_line
from common.files import find_file
from common.parallel import map_in_threads
from corpus.audio import AUDIO_SUFFIXES, ClipInfo, inspect_clip, read_part
from corpus.metadata import refuse_speakers

TEXT_COLUMNS = ("file_path", "normalized_transcript", "speaker")
NUMBER_COLUMNS = ("duration", "samples", "peak")
COLUMNS = (*TEXT_COLUMNS, *NUMBER_COLUMNS)
BATCH = 10_000  # rows that are handled together, so that a manifest takes little more memory than its clips
BLOCK = 1 << 20  # bytes of a CSV file; a row must be shorter
# Kept as long as the program runs: an Arrow thread that frees the handler while Python exits aborts the
# process (https://github.com/apache/arrow/issues/45214).
CSV_ROWS = pyarrow.csv.ParseOptions(
    newlines_in_values=True, invalid_row_handler=lambda row: "error" if row.text.strip() else "skip"
)


class Clip(NamedTuple):
    """An audio file of a manifest: its length in samples, its peak amplitude, its transcript and speaker."""

    file: str  # not a Path, of which a million take seconds to make
    samples: int
    peak: float
    transcript: str
    speaker: str = ""

    @property
    def path(self) -> Path:
        return Path(self.file)


class Texts:
    """A column of strings in two tensors: all bytes, and where each string ends."""

    def __init__(self, ends: bytearray, data: bytearray):
        # Tensors, because a DataLoader moves them to shared memory for workers that are not forked.
        self.ends = torch.from_numpy(np.frombuffer(ends, np.int64))
        self.data = torch.from_numpy(np.frombuffer(data, np.uint8))

    def __len__(self) -> int:
        return len(self.ends) - 1

    def __iter__(self) -> Iterator[str]:
        for start in range(0, len(self), BATCH):
            yield from self.slice(start, min(start + BATCH, len(self)))

    def slice(self, start: int, stop: int) -> list[str]:
        """Return the strings `start` to `stop - 1`."""
        ends = self.ends[start : stop + 1].tolist()
        data = self.data[ends[0] : ends[-1]].numpy().tobytes()
        return [data[begin - ends[0] : end - ends[0]].decode() for begin, end in itertools.pairwise(ends)]


# Columns by name: texts, and numbers (rows,) that are NaN where they are missing.
Columns = dict[str, Texts | np.ndarray]


class Clips(Sequence[Clip]):
    """The clips of a manifest, as a sequence of `Clip` that takes about 150 bytes per clip.

    Workers share the memory. A slice is a list. `samples` (clips,) holds the lengths, `source` is the
    manifest.
    """

    def __init__(
        self, source: Path, folder: Path, columns: "Columns", samples: np.ndarray, peaks: np.ndarray
    ):
        self.source, self.folder = source, str(folder)
        self.paths, self.transcripts, self.speakers = (columns[name] for name in TEXT_COLUMNS)
        self.samples = torch.tensor(samples, dtype=torch.int64)
        self.peaks = torch.tensor(peaks, dtype=torch.float32)

    def __len__(self) -> int:
        return len(self.samples)

    def __getitem__(self, key: int | slice) -> Clip | list[Clip]:
        if isinstance(key, slice):
            return [self[index] for index in range(len(self))[key]]
        index = range(len(self))[key]
        return next(self._between(index, index + 1))

    def __iter__(self) -> Iterator[Clip]:
        for start in range(0, len(self), 1000):
            yield from self._between(start, min(start + 1000, len(self)))

    def _between(self, start: int, stop: int) -> Iterator[Clip]:
        paths, transcripts, speakers = (
            texts.slice(start, stop) for texts in (self.paths, self.transcripts, self.speakers)
        )
        samples, peaks = self.samples[start:stop].tolist(), self.peaks[start:stop].tolist()
        for path, *values in zip(paths, samples, peaks, transcripts, speakers, strict=True):
            yield Clip(os.path.join(self.folder, path), *values)


def read_manifest(
    path: Path | str,
    sampling_rate: int,
    input_wavs_dir: Path | str | None = None,
) -> Clips:
    """Return the clips of a manifest of `prep_splits.py`, or of an official filelist (`id|text|text`).

    Relative paths in a manifest are relative to it; names in a filelist are looked up in `input_wavs_dir`. If
    `duration`, `samples` or `peak` is missing or not a number, every file is decoded once. Otherwise the
    files are only looked up. Raises UserError for clips that are missing, damaged, not mono, or at another
    sampling rate in Hz.
    """
    path = Path(path)
    # Arrow's own allocators keep the memory of the batches.
    pa.set_memory_pool(pa.system_memory_pool())
    columns, folder = read_columns(path, input_wavs_dir)
    names = columns["file_path"]
    if not len(names):
        raise UserError(f"{path} lists no clips")
    unnamed = torch.nonzero(names.ends[1:] == names.ends[:-1])
    if len(unnamed):
        raise UserError(f"row {int(unnamed[0]) + 1} of {path} has no file_path; create the manifest again")
    clips = Clips(path, folder, columns, *samples_and_peaks(path, folder, columns, sampling_rate))
    pa.default_memory_pool().release_unused()
    return clips


def samples_and_peaks(
    path: Path, folder: Path, columns: Columns, sampling_rate: int
) -> tuple[np.ndarray, np.ndarray]:
    """Return the length and the peak of each clip. Raises UserError for clips that can't be used."""
    names = columns["file_path"]
    samples, seconds, peaks = (columns[name] for name in ("samples", "duration", "peak"))
    if not np.isnan(samples + seconds + peaks).any():
        refuse_impossible(path, samples, seconds, peaks)
        problems = missing_files(folder, names)
        # with another rate, or with durations that were rounded by another program
        others = np.flatnonzero(np.abs(samples - seconds * sampling_rate) >= 1).tolist()
        files = [names.slice(index, index + 1)[0] for index in others]
        scanned = map_in_threads(inspect_clip, (folder / file for file in files))
        for index, file, info in zip(others, files, scanned, strict=True):
            problem = clip_problem(info, sampling_rate)
            if not problem and info.samples != samples[index]:
                problem = f"it has {info.samples} samples, and {samples[index]:.0f} in the manifest"
            problems.setdefault(file, problem)
    else:
        files = list(dict.fromkeys(names))  # a file may be listed several times
        scanned = map_in_threads(inspect_clip, (folder / file for file in files))
        scanned = tqdm(scanned, f"Scanning {path.name}", total=len(files), unit="clip", disable=None)
        infos = dict(zip(files, scanned, strict=True))
        problems = {file: clip_problem(info, sampling_rate) for file, info in infos.items()}
        rows = [infos[file] for file in names]
        samples, peaks = (np.array([getattr(info, name) for info in rows]) for name in ("samples", "peak"))
    found = [f"{folder / file}: {problem}" for file, problem in problems.items() if problem]
    if found:
        raise UserError(
            f"{len(found)} of {len(names)} clips in {path} can't be used, the first: {found[0]}; fix or "
            "remove them (prep_splits.py leaves such clips out)"
        )
    return samples, peaks


def read_segment(clip: Clip, start: int, samples: int, sampling_rate: int) -> np.ndarray:
    """Return `samples` float32 samples of a clip from `start` on.

    Raises UserError if the file has another length than the manifest states, or another sampling rate in Hz.
    Where only decoding tells the length, longer files are noticed at their end.
    """
    is_end = start + samples == clip.samples
    audio, file = read_part(clip.file, start, samples + is_end)
    if file.sampling_rate != sampling_rate:
        raise stale_manifest(clip, f"is at {file.sampling_rate} Hz, which is not what")
    found, stated = file.samples, clip.samples
    if found is None:
        found, stated = start + len(audio), start + samples
    if found != stated:
        raise stale_manifest(clip, "is shorter than" if found < stated else "is longer than")
    return audio


def stale_manifest(clip: Clip, difference: str) -> UserError:
    return UserError(
        f"{clip.file} {difference} its manifest states; create the manifest again with prep_splits.py"
    )


def read_columns(path: Path, input_wavs_dir: Path | str | None) -> tuple[Columns, Path]:
    """Return the columns of a manifest or filelist, and the folder that its paths are relative to.

    Raises UserError for a file that is not a manifest.
    """
    try:
        with path.open("rb") as file:
            is_parquet = file.read(4) == b"PAR1"
        if is_parquet:
            return collect(parquet_batches(path)), path.parent
        with path.open(encoding="utf-8-sig", newline="") as file:
            header = next((row for row in csv.reader(file) if row), [])
        if "file_path" in map(str.strip, header):
            refuse_unclear_names(path, header)
            return collect(csv_batches(path)), path.parent
        if input_wavs_dir is not None:
            return collect(filelist_batches(path)), Path(input_wavs_dir)
    except (OSError, ValueError, csv.Error, pa.ArrowException) as error:
        raise UserError(
            f"can't read the manifest {path}: {one_line(error)}; create it with prep_splits.py"
        ) from error
    raise UserError(
        f"{path} has no column file_path; if it is an official filelist (id|text|text), add --input_wavs_dir"
    )


def refuse_unclear_names(path: Path, header: list[str]) -> None:
    """Raise UserError for a column that is named twice or with spaces, which would be read as absent."""
    for name in header:
        if name.strip() in COLUMNS and (name != name.strip() or header.count(name) > 1):
            raise UserError(f"the header of {path} has {name!r}; write each column once, without spaces")


def collect(batches: Iterable[pa.RecordBatch]) -> Columns:
    """Return the columns of a table that is read in parts. Absent columns are empty texts and NaN."""
    # Buffers that grow in place: parts, joined and freed at the end, would leave gaps that the process keeps.
    ends, data = {name: bytearray(8) for name in TEXT_COLUMNS}, {name: bytearray() for name in COLUMNS}
    for batch in batches:
        for name in COLUMNS:
            part = batch[name] if name in batch.schema.names else pa.nulls(len(batch))
            if name in TEXT_COLUMNS:
                append(part, ends[name], data[name])
            else:
                data[name] += stored_numbers(part).tobytes()
    texts = {name: Texts(ends[name], data[name]) for name in TEXT_COLUMNS}
    return texts | {name: np.frombuffer(data[name]) for name in NUMBER_COLUMNS}


def append(texts: pa.Array, all_ends: bytearray, all_data: bytearray) -> None:
    """Append texts to the buffers of a `Texts`."""
    strings = pc.fill_null(texts.cast(pa.string()), "").cast(pa.large_string())
    _, ends, data = strings.buffers()
    ends = np.frombuffer(ends, np.int64)[strings.offset :][: len(strings) + 1]
    all_ends += (ends[1:] - ends[0] + len(all_data)).tobytes()
    all_data += memoryview(data or b"")[ends[0] : ends[-1]]


def csv_batches(path: Path) -> Iterator[pa.RecordBatch]:
    with pyarrow.csv.open_csv(
        path,
        pyarrow.csv.ReadOptions(block_size=BLOCK),
        CSV_ROWS,
        pyarrow.csv.ConvertOptions(
            column_types=dict.fromkeys(COLUMNS, pa.string()),
            include_columns=COLUMNS,
            include_missing_columns=True,
        ),
    ) as batches:
        yield from batches


def parquet_batches(path: Path) -> Iterator[pa.RecordBatch]:
    with pyarrow.parquet.ParquetFile(path) as file:
        names = [name for name in COLUMNS if name in file.schema_arrow.names]
        yield from file.iter_batches(BATCH, columns=names)


def filelist_batches(path: Path) -> Iterator[pa.RecordBatch]:
    """Yield the lines `id|text|text` of a filelist. A line without texts has the transcript ""."""
    with path.open(encoding="utf-8-sig", newline="\n") as file:  # a text may contain other line breaks
        lines = ((number, line) for number, line in enumerate(file, start=1) if line.strip())
        while batch := list(itertools.islice(lines, BATCH)):
            files, texts, pairs = [], [], []
            for number, line in batch:
                name, *fields = line.strip("\r\n").split("|")
                has_suffix = os.path.splitext(name)[1].lower() in AUDIO_SUFFIXES
                files.append(name if has_suffix else f"{name}.wav")
                texts.append(text_of(fields, f"line {number} of {path}"))
                pairs += [(fields[0].strip(), texts[-1])] if fields else []
            refuse_speakers(pairs, path)
            yield pa.record_batch({"file_path": files, "normalized_transcript": texts})


def text_of(fields: list[str], place: str) -> str:
    """Return the text of a filelist's line, its last field. Raises UserError if that is no text."""
    *others, text = [field.strip() for field in fields] or [""]
    if text.isdecimal() and any(any(map(str.isalpha, other)) for other in others):
        raise UserError(
            f"{place} ends with the number {text}, where its text is expected (id|text|text); remove it, or "
            "write a manifest with the columns file_path, normalized_transcript and speaker"
        )
    return text


def stored_numbers(column: pa.Array) -> np.ndarray:
    """Return a column as float64 (rows,), with NaN where it is missing; all NaN if it isn't numeric."""
    try:
        return column.cast(pa.float64()).to_numpy(zero_copy_only=False)
    except pa.ArrowException:
        return np.full(len(column), np.nan)


def refuse_impossible(path: Path, samples: np.ndarray, seconds: np.ndarray, peaks: np.ndarray) -> None:
    is_possible = (samples >= 1) & (samples % 1 == 0) & (samples < 2**53) & (peaks >= 0) & (peaks < np.inf)
    is_possible &= (seconds > 0) & (seconds < np.inf)
    if not is_possible.all():
        row = np.argmin(is_possible)
        raise UserError(
            f"row {row + 1} of {path} has duration {seconds[row]:g}, samples {samples[row]:g} and peak "
            f"{peaks[row]:g}, which no clip can have; create the manifest again"
        )


def missing_files(folder: Path, names: Texts) -> dict[str, str]:
    """Return descriptions of the files that are missing, by name."""
    missing = {}
    for start in range(0, len(names), BATCH):
        files = list(dict.fromkeys(names.slice(start, min(start + BATCH, len(names)))))
        are_files = map_in_threads(lambda file: os.path.isfile(os.path.join(folder, file)), files, chunk=100)
        missing |= {file: "" for file, is_file in zip(files, are_files, strict=True) if not is_file}
    return {file: describe_missing(folder / file) for file in missing}


def describe_missing(path: Path) -> str:
    found = find_file(path, AUDIO_SUFFIXES)
    return "file is missing" + (f"; there is {found.name!a}, whose name differs" if found else "")


def clip_problem(info: ClipInfo, sampling_rate: int) -> str:
    """Return why a clip can't be used, or "" if it can."""
    if info.problem:
        return info.problem
    if info.channels > 1:
        return f"it has {info.channels} channels, not one"
    if info.sampling_rate != sampling_rate:
        return f"its sampling rate is {info.sampling_rate} Hz, not {sampling_rate} Hz"
    return ""
