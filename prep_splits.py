"""Check a corpus and split it into train and test manifests.

    python prep_splits.py --path_to_ljspeech LJSpeech-1.1 --path_to_save splits
    python prep_splits.py --download . --path_to_save splits
    python prep_splits.py --dataset folder_of_parquet_files --path_to_save splits --convert

Writes `train_metadata.csv`, `test_metadata.csv`, and `rejected.csv` with the reason for each excluded clip.
With `--convert`, unsuitable audio is converted, and `converted.csv` lists what was changed.
"""

import csv
import hashlib
import math
import os
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from tqdm import tqdm

from common.errors import UserError, report_user_errors
from common.files import atomic_write
from common.options import Options, not_empty, option, seed_option
from common.parallel import map_in_threads
from common.parser import parse_options
from corpus.audio import SEEKABLE, SEQUENTIAL, ClipInfo, inspect_clip
from corpus.conversion import MIN_SWING, NO_SOUND, TRIM_DB, Change, import_clips
from corpus.hub_datasets import read_dataset
from corpus.metadata import CorpusClip, Rejection, download_ljspeech, read_metadata, read_vctk

MANIFEST_COLUMNS = ("file_path", "normalized_transcript", "duration", "samples", "peak", "speaker")
REJECTED_COLUMNS = ("id", "file_path", "reason")
CONVERTED_COLUMNS = ("id", "file_path", "changes")
# the whole hops that a mel with the usual settings needs; programs refuse shorter clips
MIN_SAMPLES = 512
IN_PATH_TO_SAVE = Path("<path_to_save>/wavs")  # the value of --convert without a folder

READERS = {"ljspeech": read_metadata, "vctk": read_vctk}  # by --corpus


@dataclass(frozen=True, kw_only=True)
class PrepOptions(Options):
    """Options of `prep_splits.py`."""

    path_to_ljspeech: Path | None = option(
        None, "Read the corpus in this folder: with metadata.csv and wavs/, or in the layout of --corpus",
        aliases=("--path_to_ljspech", "--path_to_corpus"), group="corpus (one of)",
    )  # fmt: skip
    download: Path | None = option(None, "Download LJSpeech 1.1 into this folder, and read it", metavar="DIR")
    dataset: str | None = option(
        None, "Read a dataset with the package datasets: its name on the Hub, or a local folder",
        check=not_empty, metavar="NAME|FOLDER",
    )  # fmt: skip
    corpus: str = option(
        "ljspeech", "Read this layout; vctk has its speakers in the column speaker", choices=tuple(READERS),
        group="layout",
    )  # fmt: skip
    dataset_config: str | None = option(
        None, "Read this configuration of the dataset, if it has several", group="dataset"
    )
    dataset_split: str = option("train", "Read this split of the dataset")
    text_column: str | None = option(
        None, "Read the transcripts in this column of the dataset; default: a column with a usual name"
    )
    path_to_save: Path = option(help="Write the manifests into this folder", group="splits")
    seed: int = seed_option(42, "the split")
    test_split_pct: float = option(0.01, "Fraction of the clips in test", minimum=0, below=1)
    sampling_rate: int = option(22050, "Reject clips with another sampling rate, in Hz", minimum=1)
    max_duration: float | None = option(
        None, "Reject clips longer than this, in seconds; the others stay in their split; default: no limit",
        above=0,
    )  # fmt: skip
    convert: Path | None = option(
        None, "Resample, mix down to one channel, and trim silence at both ends, into this folder; without a "
        "folder: wavs/ in --path_to_save", bare=IN_PATH_TO_SAVE, metavar="FOLDER",
    )  # fmt: skip
    trim_db: float = option(
        TRIM_DB, "With --convert, trim ends less than this many dB above the noise floor; 0 trims nothing",
        minimum=0,
    )  # fmt: skip

    def __post_init__(self):
        super().__post_init__()
        self.require_one("path_to_ljspeech", "download", "dataset")
        if self.path_to_save.exists() and not self.path_to_save.is_dir():
            raise UserError(f"--path_to_save {self.path_to_save} is a file; pass a folder")

    @property
    def converted_folder(self) -> Path:
        """The folder for audio that is converted or comes from a dataset."""
        return self.path_to_save / "wavs" if self.convert in (None, IN_PATH_TO_SAVE) else self.convert


def inspect_clips(
    clips: Iterable[CorpusClip], sampling_rate: int
) -> tuple[list[CorpusClip], list[Rejection]]:
    """Decode every clip, on all cores. Returns the good clips, with their `info`, and the rejected ones.

    A good clip has one channel, `sampling_rate` Hz, a codec for training, sound, and at least MIN_SAMPLES
    samples, which are finite.
    """
    clips = list(clips)
    good, rejections = [], []
    infos = map_in_threads(inspect_clip, (clip.path for clip in clips))
    for clip, info in zip(
        clips, tqdm(infos, desc="reading", unit="clip", total=len(clips), disable=None), strict=True
    ):
        if reason := info.problem or problem_with_audio(info, sampling_rate):
            rejections.append(Rejection(clip.clip_id, clip.path, reason))
        else:
            good.append(replace(clip, info=info))
    return good, rejections


def problem_with_audio(info: ClipInfo, sampling_rate: int) -> str:
    """Return why an intact audio file is no clip for training, and the remedy, or ""."""
    if info.codec not in SEEKABLE | SEQUENTIAL:
        return f"the codec can't be read in part, convert it with --convert: {info.codec}"
    if info.sampling_rate != sampling_rate:
        return f"sampling rate is not {sampling_rate} Hz: {info.sampling_rate} Hz"
    if info.channels != 1:
        return f"more than one channel: {info.channels}"
    if info.samples < MIN_SAMPLES:
        return f"too short for a mel: {info.samples} samples, at least {MIN_SAMPLES} are needed"
    return NO_SOUND if info.swing < MIN_SWING else ""


def split_clips(
    clips: Iterable[CorpusClip], test_split_pct: float, seed: int
) -> tuple[list[CorpusClip], list[CorpusClip]]:
    """Return (train, test), each sorted by id; `test_split_pct`, in [0, 1), is the fraction of clips in test.

    Clips are ranked by a hash of the seed and their id, so the split does not depend on their order, and
    adding or removing clips moves few others to the other split. Test has at least one clip, or none if
    `test_split_pct` is 0. Raises UserError if a split would be empty.
    """
    clips = sorted(clips, key=lambda clip: clip.clip_id)
    if not clips:
        raise UserError("no clip is usable, so there is nothing to split")
    test_size = max(1, round(len(clips) * test_split_pct)) if test_split_pct > 0 else 0
    if test_size >= len(clips):
        raise UserError(
            f"--test_split_pct {test_split_pct} of {len(clips)} good clips leaves none for training; lower "
            "it, add clips, or pass 0 for no test split"
        )

    def rank(clip: CorpusClip) -> bytes:
        return hashlib.sha256(f"{seed}|{clip.clip_id}".encode()).digest()

    test_ids = {clip.clip_id for clip in sorted(clips, key=rank)[:test_size]}
    train = [clip for clip in clips if clip.clip_id not in test_ids]
    test = [clip for clip in clips if clip.clip_id in test_ids]
    return train, test


def write_manifest(path: Path, clips: Iterable[CorpusClip]) -> None:
    """Write clips as CSV: file_path, normalized_transcript, duration (s), samples, peak (in [0, 1]), speaker.

    Without speakers, there is no column speaker.

    `file_path` is relative to the manifest's folder if the corpus is inside or next to that folder, or the
    folder inside the corpus, so that the tree can be moved or mounted elsewhere as a whole. Otherwise it is
    absolute. It does not depend on the working directory.
    """
    clips = list(clips)
    columns = MANIFEST_COLUMNS if any(clip.speaker for clip in clips) else MANIFEST_COLUMNS[:-1]
    rows = (_manifest_row(clip, path.parent)[: len(columns)] for clip in clips)
    _write_csv(path, columns, rows)


def write_rejected(path: Path, rejections: list[Rejection]) -> None:
    """Write the excluded clips as CSV: id, file_path (as in manifests, or blank), reason.

    Without excluded clips, writes only the header, which replaces the file of an earlier run.
    """
    files = (
        _path_for_manifest(each.clip_id, each.path, path.parent) if each.path else "" for each in rejections
    )
    rows = ((each.clip_id, file, each.reason) for each, file in zip(rejections, files, strict=True))
    _write_csv(path, REJECTED_COLUMNS, rows)


def write_converted(path: Path, changes: list[Change]) -> None:
    """Write the converted clips as CSV: id, file_path (as in manifests), changes."""
    rows = (
        (
            each.clip.clip_id,
            _path_for_manifest(each.clip.clip_id, each.clip.path, path.parent),
            "; ".join(each.changes),
        )
        for each in changes
    )
    _write_csv(path, CONVERTED_COLUMNS, rows)


def _path_for_manifest(clip_id: str, audio: Path, folder: Path) -> str:
    # The system resolves `..` after symbolic links, so a relative path with `..` needs a folder without
    # links. The corpus keeps links in its name, which the user chose, unless the name contains `..`.
    folder = folder.resolve()
    original = audio.parents[1 + clip_id.count("/")]
    corpus = original.resolve() if ".." in original.parts else original.absolute()
    audio = corpus / audio.relative_to(original)
    if corpus.is_relative_to(folder.parent) or folder.is_relative_to(corpus):
        return Path(os.path.relpath(audio, folder)).as_posix()
    return audio.as_posix()


def _manifest_row(clip: CorpusClip, folder: Path) -> tuple:
    peak = np.float32(clip.info.peak)  # written with the shortest digits that restore this float32
    return (
        _path_for_manifest(clip.clip_id, clip.path, folder),
        clip.transcript,
        f"{clip.seconds:.6f}",
        clip.info.samples,
        peak,
        clip.speaker,
    )


def _write_csv(path: Path, header: Iterable[str], rows: Iterable[Iterable]) -> None:
    with atomic_write(path) as temporary, open(temporary, "w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(header)
        writer.writerows(rows)


def remove_long(name: str, split: list[CorpusClip], max_duration: float) -> list[CorpusClip]:
    """Return the clips of a split up to `max_duration` seconds. Raises UserError if all are longer."""
    kept = [clip for clip in split if clip.seconds <= max_duration]
    if split and not kept:
        raise UserError(
            f"--max_duration {max_duration:g} leaves no clip for {name}; increase it, or --test_split_pct"
        )
    return kept


def read_clips(options: PrepOptions) -> tuple[list[CorpusClip], list[Rejection], list[Change]]:
    """Return the clips of the corpus, those that can't be read, and what was converted."""
    folder = options.converted_folder
    rate = options.sampling_rate if options.convert else None
    if options.dataset:
        rows = read_dataset(
            options.dataset, folder, options.dataset_config, options.dataset_split, options.text_column
        )
        return import_clips(rows, folder, rate, options.trim_db)
    corpus = download_ljspeech(options.download) if options.download else options.path_to_ljspeech
    clips, rejections = READERS[options.corpus](corpus)
    if not options.convert:
        return clips, rejections, []
    targets = ((replace(clip, path=folder / f"{clip.clip_id}.wav"), clip.path) for clip in clips)
    clips, unreadable, changes = import_clips(targets, folder, rate, options.trim_db)
    return clips, rejections + unreadable, changes


def report_changes(changes: list[Change], count: int, options: PrepOptions) -> None:
    kinds = Counter(kind.split(":")[0] for each in changes for kind in each.changes)
    for kind, number in kinds.most_common():
        print(f"converted {number}: {kind}")
    trimmed = [each.trimmed for each in changes if each.trimmed]
    print(
        f"silence trimmed: {sum(trimmed):.2f} s from {len(trimmed)} of {count} clips"
        + ("" if trimmed else f"; no clip has silence at its ends, with --trim_db {options.trim_db:g}")
    )
    print(f"converted: {len(changes)} clips, in {options.path_to_save / 'converted.csv'}")


def report_slow_formats(clips: list[CorpusClip]) -> None:
    slow = Counter(clip.info.codec for clip in clips if clip.info.codec in SEQUENTIAL)
    if slow:
        names = ", ".join(name.replace("_", " ") for name in slow)
        print(
            f"{sum(slow.values())} of {len(clips)} clips are slow to train from, since every segment is "
            f"decoded from the start of its file ({names}); --convert writes WAV files"
        )


@report_user_errors
def main(arguments: list[str] | None = None) -> None:
    options = parse_options(PrepOptions, "prep_splits.py", __doc__, arguments)
    max_duration = options.max_duration or math.inf
    clips, rejections, changes = read_clips(options)
    if options.convert:
        write_converted(options.path_to_save / "converted.csv", changes)
        report_changes(changes, len(clips), options)
    good, unusable = inspect_clips(clips, options.sampling_rate)
    too_long = [
        Rejection(clip.clip_id, clip.path, f"longer than {max_duration:g} s: {clip.seconds:.2f} s")
        for clip in good
        if clip.seconds > max_duration
    ]
    rejections += unusable + too_long

    rejected_path = options.path_to_save / "rejected.csv"
    write_rejected(rejected_path, rejections)  # before anything that can fail, since it contains the reasons
    for kind, count in Counter(rejection.kind for rejection in rejections).most_common():
        print(f"rejected {count}: {kind}")
    if len(good) == len(too_long):
        source = options.dataset or options.download or options.path_to_ljspeech
        reason = f", the first: {rejections[0].reason}" if rejections else ""
        raise UserError(f"{source} has no usable clip{reason}; {rejected_path} lists the reasons")
    report_slow_formats(good)
    splits = dict(
        zip(("train", "test"), split_clips(good, options.test_split_pct, options.seed), strict=True)
    )
    splits = {name: remove_long(name, split, max_duration) for name, split in splits.items()}
    for name, split in splits.items():
        path = options.path_to_save / f"{name}_metadata.csv"
        write_manifest(path, split)
        hours = sum(clip.seconds for clip in split) / 3600
        print(f"{name}: {len(split)} clips, {hours:.2f} h, in {path}")
    print(f"rejected: {len(rejections)} clips, in {rejected_path}")


if __name__ == "__main__":
    main()
