"""Check a corpus in LJSpeech's layout and split it into train and test manifests.

    python prep_splits.py --path_to_ljspeech LJSpeech-1.1 --path_to_save splits
    python prep_splits.py --download . --path_to_save splits

writes `train_metadata.csv`, `test_metadata.csv` and `rejected.csv` (each clip left out, and why).
"""

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
from utils import ArgumentParser, UserError, atomic_write, available_cores, report_user_errors

MANIFEST_COLUMNS = ("file_path", "normalized_transcript", "duration", "samples", "peak")
REJECTED_COLUMNS = ("id", "file_path", "reason")


@dataclass(frozen=True)
class Clip:
    """A line of metadata.csv and, once its file was read, what was found there."""

    clip_id: str
    path: Path
    transcript: str
    info: ClipInfo = field(default_factory=ClipInfo)

    @property
    def seconds(self) -> float:
        return self.info.samples / self.info.sampling_rate


@dataclass(frozen=True)
class Rejection:
    """Why a clip is left out. `reason` is the kind of problem, then a colon and details where they help."""

    clip_id: str
    path: Path | None
    reason: str

    @property
    def kind(self) -> str:
        return self.reason.split(":")[0]


def read_metadata(corpus: Path | str) -> tuple[list[Clip], list[Rejection]]:
    """The clips that `corpus`/metadata.csv names, in its order, and the lines that name none.

    A line is `id|text|normalized text`, with no quoting: a quotation mark is text like any other character.
    (Read as quoted CSV, 16 of LJSpeech's 13,100 lines lose their text.) The transcript is the normalized
    text, or the raw text where the normalized text is blank or the line has only two fields. The audio is
    `corpus`/wavs/<id>.wav. Of several lines with one id the first that has a transcript counts.

    Raises UserError if metadata.csv or wavs/ is missing, or if metadata.csv is blank.
    """
    corpus = Path(corpus)
    metadata = corpus / "metadata.csv"
    if not corpus.is_dir():
        raise UserError(f"there is no folder {corpus}; give the folder that holds metadata.csv and wavs/")
    if not metadata.is_file():
        raise UserError(f"{corpus} has no metadata.csv; give the folder that holds metadata.csv and wavs/")
    if not (corpus / "wavs").is_dir():
        raise UserError(f"{corpus} has no folder wavs/; give the folder that holds metadata.csv and wavs/")
    # Only line feeds end a line: str.splitlines would also break a text at rarer characters.
    lines = metadata.read_bytes().removeprefix(b"\xef\xbb\xbf").split(b"\n")
    numbered = [(number, line) for number, line in enumerate(lines, start=1) if line.strip()]
    if not numbered:
        raise UserError(f"{metadata} is blank; it should have a line id|text|normalized text for each clip")
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
            clips[clip_id] = Clip(clip_id, path, texts[-1] or texts[0])
    return list(clips.values()), rejections


def inspect_clips(clips: Iterable[Clip], sampling_rate: int) -> tuple[list[Clip], list[Rejection]]:
    """Read every clip whole, on all cores: the good ones, with their `info`, and the others.

    Good is a clip of one channel at `sampling_rate` Hz that decodes to one sample or more, all finite.
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
                good.append(Clip(clip.clip_id, clip.path, clip.transcript, info))
    return good, rejections


def split_clips(clips: Iterable[Clip], test_split_pct: float, seed: int) -> tuple[list[Clip], list[Clip]]:
    """(train, test), each sorted by id; `test_split_pct`, in [0, 1), is the share of clips in test.

    Each clip draws its lot from the seed and its id alone, so the order of the clips changes nothing, and
    adding or removing clips moves few others across. Test has at least one clip, or none if `test_split_pct`
    is 0. Raises UserError where a split would be empty.
    """
    clips = sorted(clips, key=lambda clip: clip.clip_id)
    if not clips:
        raise UserError("no clip is good, so there is nothing to split")
    test_size = max(1, round(len(clips) * test_split_pct)) if test_split_pct > 0 else 0
    if test_size >= len(clips):
        raise UserError(
            f"--test_split_pct {test_split_pct} of {len(clips)} good clips leaves none for training; lower "
            "it, give more clips, or give 0 for no test split"
        )

    def lot(clip: Clip) -> bytes:
        return hashlib.sha256(f"{seed}|{clip.clip_id}".encode()).digest()

    test_ids = {clip.clip_id for clip in sorted(clips, key=lot)[:test_size]}
    train = [clip for clip in clips if clip.clip_id not in test_ids]
    test = [clip for clip in clips if clip.clip_id in test_ids]
    return train, test


def write_manifest(path: Path, clips: Iterable[Clip]) -> None:
    """Write clips as CSV: file_path, normalized_transcript, duration (s), samples, peak (in [0, 1]).

    `file_path` is relative to the manifest's folder if the corpus lies inside or beside that folder, or the
    folder inside the corpus: such a tree can be moved or mounted elsewhere as a whole. From farther away it
    is absolute, since nothing says that the two will move together. The working directory never matters.
    """
    rows = (
        (
            _path_for_manifest(clip.path, path.parent),
            clip.transcript,
            f"{clip.seconds:.6f}",
            clip.info.samples,
            str(np.float32(clip.info.peak)),  # the shortest digits that give this float32 again
        )
        for clip in clips
    )
    _write_csv(path, MANIFEST_COLUMNS, rows)


def write_rejected(path: Path, rejections: Iterable[Rejection]) -> None:
    """Write the clips that were left out as CSV: id, file_path (as in manifests, or blank), reason.

    Without any it is a header alone, so that an old one never stands for a new corpus.
    """
    rows = (
        (
            rejection.clip_id,
            _path_for_manifest(rejection.path, path.parent) if rejection.path else "",
            rejection.reason,
        )
        for rejection in rejections
    )
    _write_csv(path, REJECTED_COLUMNS, rows)


def download_ljspeech(folder: Path) -> Path:
    """Fetch LJSpeech 1.1 (2.6 GB) into `folder`, unless it is there, and give its path; torchaudio checks it.

    Raises UserError if torchaudio can't be imported, or the download or unpacking fails.
    """
    try:
        import torchaudio
    except (ImportError, OSError, RuntimeError) as error:
        raise UserError(
            f"--download needs torchaudio, which can't be imported ({error}); install one that fits torch "
            "or unpack https://keithito.com/LJ-Speech-Dataset yourself and give --path_to_ljspeech"
        ) from error
    corpus = folder / "LJSpeech-1.1"
    folder.mkdir(parents=True, exist_ok=True)
    try:
        torchaudio.datasets.LJSPEECH(root=folder, download=True)
    except (OSError, RuntimeError, EOFError, HTTPException, tarfile.TarError) as error:
        raise UserError(
            f"LJSpeech can't be fetched into {folder}: {error}; delete what is there of it and run this again"
        ) from error
    # torchaudio takes a folder that is there for a whole corpus, also one whose unpacking was interrupted.
    clips, _ = read_metadata(corpus)
    missing = sum(not clip.path.exists() for clip in clips)
    if missing:
        raise UserError(f"{corpus} lacks {missing} of its {len(clips)} clips; delete it and run this again")
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
    # The system resolves `..` after links, so only from a path without links can one climb. The corpus keeps
    # links in its name, which the user chose, unless it climbs itself.
    folder = folder.resolve()
    corpus = audio.parent.parent
    corpus = corpus.resolve() if ".." in corpus.parts else corpus.absolute()
    audio = corpus / audio.parent.name / audio.name
    if corpus.is_relative_to(folder.parent) or folder.is_relative_to(corpus):
        return Path(os.path.relpath(audio, folder)).as_posix()
    return audio.as_posix()


def _write_csv(path: Path, header: Iterable[str], rows: Iterable[Iterable]) -> None:
    with atomic_write(path) as temporary, open(temporary, "w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(header)
        writer.writerows(rows)


def _hours(clips: Iterable[Clip]) -> float:
    return sum(clip.seconds for clip in clips) / 3600


@report_user_errors
def main(argv: list[str] | None = None) -> None:
    parser = ArgumentParser(description=__doc__.split("\n")[0])
    source = parser.add_mutually_exclusive_group(required=True)
    source.add_argument(
        "--path_to_ljspeech", "--path_to_ljspech", type=Path, help="folder with metadata.csv and wavs/"
    )
    source.add_argument(
        "--download", type=Path, metavar="DIR", help="fetch LJSpeech 1.1 into DIR and use that"
    )
    parser.add_argument("--path_to_save", type=Path, required=True, help="folder for the manifests")
    parser.add_argument("--seed", type=int, default=42, help="another seed gives another split")
    parser.add_argument("--test_split_pct", type=float, default=0.01, help="share of the clips in test")
    parser.add_argument("--sampling_rate", type=int, default=22050, help="rate in Hz that clips must have")
    parser.add_argument(
        "--max_duration", type=float, default=math.inf,
        help="leave out clips of more seconds; the others are in train or test whatever the limit",
    )  # fmt: skip
    args = parser.parse_args(argv)
    if not 0 <= args.test_split_pct < 1:
        raise UserError(
            f"--test_split_pct {args.test_split_pct} is no share; give 0 to below 1, such as 0.01"
        )
    if args.path_to_save.exists() and not args.path_to_save.is_dir():
        raise UserError(f"--path_to_save {args.path_to_save} is a file; give a folder")

    corpus = download_ljspeech(args.download) if args.download else args.path_to_ljspeech
    clips, rejections = read_metadata(corpus)
    good, unusable = inspect_clips(clips, args.sampling_rate)
    rejections += unusable
    too_long = {clip.clip_id: clip for clip in good if clip.seconds > args.max_duration}
    for clip in too_long.values():
        reason = f"longer than {args.max_duration:g} s: {clip.seconds:.2f} s"
        rejections.append(Rejection(clip.clip_id, clip.path, reason))

    rejected_path = args.path_to_save / "rejected.csv"
    write_rejected(rejected_path, rejections)  # before anything that can fail: it tells why
    for kind, count in Counter(rejection.kind for rejection in rejections).most_common():
        print(f"rejected {count}: {kind}")
    if len(good) == len(too_long):
        raise UserError(f"{corpus} has no good clip; {rejected_path} tells why")
    train, test = split_clips(good, args.test_split_pct, args.seed)
    splits = {"train": train, "test": test}
    for name, split in splits.items():
        splits[name] = [clip for clip in split if clip.clip_id not in too_long]
        if split and not splits[name]:
            raise UserError(
                f"--max_duration {args.max_duration:g} leaves no clip for {name}; raise it, or "
                "--test_split_pct"
            )
    for name, split in splits.items():
        path = args.path_to_save / f"{name}_metadata.csv"
        write_manifest(path, split)
        print(f"{name}: {len(split)} clips, {_hours(split):.2f} h, in {path}")
    print(f"rejected: {len(rejections)} clips, in {rejected_path}")


if __name__ == "__main__":
    main()
