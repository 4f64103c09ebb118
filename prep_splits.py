"""Check a corpus in LJSpeech's layout and split it into train and test manifests.

    python prep_splits.py --path_to_ljspeech LJSpeech-1.1 --path_to_save splits
    python prep_splits.py --download . --path_to_save splits

Writes `train_metadata.csv`, `test_metadata.csv`, and `rejected.csv` with the reason for each excluded clip.
"""

import argparse
import csv
import hashlib
import math
import os
import tarfile
from collections import Counter
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from http.client import HTTPException
from pathlib import Path

import numpy as np
from tqdm import tqdm

from audio import ClipInfo, inspect_clip
from utils import (
    SEED,
    ArgumentParser,
    UserError,
    atomic_write,
    available_cores,
    checked,
    report_user_errors,
)

MANIFEST_COLUMNS = ("file_path", "normalized_transcript", "duration", "samples", "peak")
REJECTED_COLUMNS = ("id", "file_path", "reason")


@dataclass(frozen=True)
class CorpusClip:
    """A line of metadata.csv and, after `inspect_clips`, the properties of its audio file."""

    clip_id: str
    path: Path
    transcript: str
    info: ClipInfo = field(default_factory=ClipInfo)

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
    same id, the first one with a transcript is used.

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
        path = corpus / "wavs" / f"{clip_id}.wav" if _is_file_name(clip_id) else None
        reason = _problem_with_line(line, clip_id, texts)
        if not reason and clip_id in clips:
            reason = "duplicate id"
        if reason:
            joint = ", " if ":" in reason else ": "
            rejections.append(Rejection(clip_id, path, f"{reason}{joint}line {number} of {metadata.name}"))
        else:
            clips[clip_id] = CorpusClip(clip_id, path, texts[-1] or texts[0])
    return list(clips.values()), rejections


def inspect_clips(
    clips: Iterable[CorpusClip], sampling_rate: int
) -> tuple[list[CorpusClip], list[Rejection]]:
    """Decode every clip, on all cores. Returns the good clips, with their `info`, and the rejected ones.

    A good clip has one channel, `sampling_rate` Hz, and at least one sample, and all samples are finite.
    """
    clips = list(clips)
    good, rejections = [], []
    # libsndfile decodes without the GIL, so threads suffice.
    with ThreadPoolExecutor(available_cores()) as pool:
        infos = pool.map(inspect_clip, (clip.path for clip in clips))
        for clip, info in zip(clips, tqdm(infos, desc="reading", unit="clip", total=len(clips)), strict=True):
            reason = info.problem
            if not reason and info.sampling_rate != sampling_rate:
                reason = f"sampling rate is not {sampling_rate} Hz: {info.sampling_rate} Hz"
            if not reason and info.channels != 1:
                reason = f"more than one channel: {info.channels}"
            if reason:
                rejections.append(Rejection(clip.clip_id, clip.path, reason))
            else:
                good.append(CorpusClip(clip.clip_id, clip.path, clip.transcript, info))
    return good, rejections


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
    """Write clips as CSV: file_path, normalized_transcript, duration (s), samples, peak (in [0, 1]).

    `file_path` is relative to the manifest's folder if the corpus is inside or next to that folder, or the
    folder inside the corpus, so that the tree can be moved or mounted elsewhere as a whole. Otherwise it is
    absolute. It does not depend on the working directory.
    """
    _write_csv(path, MANIFEST_COLUMNS, (_manifest_row(clip, path.parent) for clip in clips))


def write_rejected(path: Path, rejections: list[Rejection]) -> None:
    """Write the excluded clips as CSV: id, file_path (as in manifests, or blank), reason.

    Without excluded clips, writes only the header, which replaces the file of an earlier run.
    """
    files = (_path_for_manifest(each.path, path.parent) if each.path else "" for each in rejections)
    rows = ((each.clip_id, file, each.reason) for each, file in zip(rejections, files, strict=True))
    _write_csv(path, REJECTED_COLUMNS, rows)


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


def _problem_with_line(line: bytes, clip_id: str, texts: list[str]) -> str:
    try:
        line.decode("utf-8")
    except UnicodeDecodeError:
        return "malformed line: not UTF-8"
    if not 1 <= len(texts) <= 2:
        return f"malformed line: {len(texts) + 1} field(s), not id|text|normalized text"
    if not clip_id:
        return "blank id"
    if not _is_file_name(clip_id):
        return "id is not a file name"
    if not any(texts):
        return "no transcript"
    return ""


def _is_file_name(clip_id: str) -> bool:
    return clip_id not in ("", ".", "..") and not set(clip_id) & set("/\\\0")


def _path_for_manifest(audio: Path, folder: Path) -> str:
    # The system resolves `..` after symbolic links, so a relative path with `..` needs a folder without
    # links. The corpus keeps links in its name, which the user chose, unless the name contains `..`.
    folder = folder.resolve()
    corpus = audio.parent.parent
    corpus = corpus.resolve() if ".." in corpus.parts else corpus.absolute()
    audio = corpus / audio.parent.name / audio.name
    if corpus.is_relative_to(folder.parent) or folder.is_relative_to(corpus):
        return Path(os.path.relpath(audio, folder)).as_posix()
    return audio.as_posix()


def _manifest_row(clip: CorpusClip, folder: Path) -> tuple:
    peak = np.float32(clip.info.peak)  # written with the shortest digits that restore this float32
    return (
        _path_for_manifest(clip.path, folder),
        clip.transcript,
        f"{clip.seconds:.6f}",
        clip.info.samples,
        peak,
    )


def _write_csv(path: Path, header: Iterable[str], rows: Iterable[Iterable]) -> None:
    with atomic_write(path) as temporary, open(temporary, "w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(header)
        writer.writerows(rows)


def parse_arguments(argv: list[str] | None) -> argparse.Namespace:
    parser = ArgumentParser(description=__doc__.split("\n")[0])
    source = parser.add_mutually_exclusive_group(required=True)
    source.add_argument(
        "--path_to_ljspeech", "--path_to_ljspech", type=Path, help="folder with metadata.csv and wavs/"
    )
    source.add_argument(
        "--download", type=Path, metavar="DIR", help="folder to download LJSpeech 1.1 into and read it from"
    )
    parser.add_argument("--path_to_save", type=Path, required=True, help="folder for the manifests")
    parser.add_argument("--seed", type=checked(int, **SEED), default=42, help="seed of the split")
    parser.add_argument(
        "--test_split_pct", type=checked(float, minimum=0, below=1), default=0.01,
        help="fraction of the clips in test",
    )  # fmt: skip
    parser.add_argument(
        "--sampling_rate", type=checked(int, minimum=1), default=22050, help="required sampling rate in Hz"
    )
    parser.add_argument(
        "--max_duration", type=checked(float, above=0), default=math.inf,
        help="maximum duration of a clip in seconds; the split of the other clips does not depend on it",
    )  # fmt: skip
    args = parser.parse_args(argv)
    if args.path_to_save.exists() and not args.path_to_save.is_dir():
        raise UserError(f"--path_to_save {args.path_to_save} is a file; pass a folder")
    return args


def remove_long(name: str, split: list[CorpusClip], max_duration: float) -> list[CorpusClip]:
    """Return the clips of a split up to `max_duration` seconds. Raises UserError if all are longer."""
    kept = [clip for clip in split if clip.seconds <= max_duration]
    if split and not kept:
        raise UserError(
            f"--max_duration {max_duration:g} leaves no clip for {name}; increase it, or --test_split_pct"
        )
    return kept


@report_user_errors
def main(argv: list[str] | None = None) -> None:
    args = parse_arguments(argv)
    corpus = download_ljspeech(args.download) if args.download else args.path_to_ljspeech
    clips, rejections = read_metadata(corpus)
    good, unusable = inspect_clips(clips, args.sampling_rate)
    too_long = [
        Rejection(clip.clip_id, clip.path, f"longer than {args.max_duration:g} s: {clip.seconds:.2f} s")
        for clip in good
        if clip.seconds > args.max_duration
    ]
    rejections += unusable + too_long

    rejected_path = args.path_to_save / "rejected.csv"
    write_rejected(rejected_path, rejections)  # before anything that can fail, since it contains the reasons
    for kind, count in Counter(rejection.kind for rejection in rejections).most_common():
        print(f"rejected {count}: {kind}")
    if len(good) == len(too_long):
        raise UserError(f"{corpus} has no usable clip; {rejected_path} lists the reasons")
    splits = dict(zip(("train", "test"), split_clips(good, args.test_split_pct, args.seed), strict=True))
    splits = {name: remove_long(name, split, args.max_duration) for name, split in splits.items()}
    for name, split in splits.items():
        path = args.path_to_save / f"{name}_metadata.csv"
        write_manifest(path, split)
        hours = sum(clip.seconds for clip in split) / 3600
        print(f"{name}: {len(split)} clips, {hours:.2f} h, in {path}")
    print(f"rejected: {len(rejections)} clips, in {rejected_path}")


if __name__ == "__main__":
    main()
