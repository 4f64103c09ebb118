"""Corpora in LJSpeech's layout: `metadata.csv` beside `wavs/`."""

import os
import re
import tarfile
from collections.abc import Iterable
from dataclasses import dataclass, field
from http.client import HTTPException
from pathlib import Path

from common.errors import UserError, one_line
from common.files import find_file
from corpus.audio import AUDIO_SUFFIXES, ClipInfo

VCTK_AUDIO = ("wav48_silence_trimmed", "wav48")  # of version 0.92 and of earlier ones


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
    the normalized text is blank or missing. The audio is `corpus`/wavs/<id>.wav, or a file of that name in
    another form or with another suffix of audio, see `find_file`. If several lines have the same id, the
    first one with a transcript is used. An id may contain folders: `speaker/0001`. Of a file's name, such as
    `wavs/0001.wav`, the suffix and the folder are dropped.

    Raises UserError if metadata.csv or wavs/ is missing, or if metadata.csv is blank or ends its lines with
    speakers instead of texts.
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
    clips, rejections, pairs = {}, [], []
    for number, line in numbered:
        name, *texts = (field.strip() for field in line.decode("utf-8", errors="replace").split("|"))
        clip_id = plain_id(name, corpus / "wavs")
        path = corpus / "wavs" / f"{clip_id}.wav" if is_name(clip_id) else None
        reason = problem_with_line(line, clip_id, texts)
        if not reason and clip_id in clips:
            reason = "duplicate id"
        if reason:
            joint = ", " if ":" in reason else ": "
            rejections.append(Rejection(clip_id, path, f"{reason}{joint}line {number} of {metadata.name}"))
        else:
            found = find_file(path, AUDIO_SUFFIXES) or path
            clips[clip_id] = CorpusClip(clip_id, found, texts[-1] or texts[0])
            pairs.append((texts[0], texts[-1]))
    refuse_speakers(pairs, metadata)
    return list(clips.values()), rejections


def read_vctk(corpus: Path | str) -> tuple[list[CorpusClip], list[Rejection]]:
    """Return the clips of VCTK, with their speakers, in the order of their ids, and those without a text.

    `corpus`/txt/<speaker>/<id>.txt are the texts. The audio is `corpus`/wav48_silence_trimmed/<speaker>/
    <id>_mic1.flac (version 0.92), or `corpus`/wav48/<speaker>/<id>.wav. Recordings of the second microphone
    are left out. Raises UserError if a folder is missing.
    """
    corpus = Path(corpus)
    audio = next((corpus / name for name in VCTK_AUDIO if (corpus / name).is_dir()), None)
    if audio is None or not (corpus / "txt").is_dir():
        raise UserError(
            f"{corpus} has no {' or '.join(VCTK_AUDIO)}, or no txt; pass the folder that has both"
        )
    clips, rejections = [], []
    for path in sorted(path for path in audio.glob("*/*") if path.suffix.lower() in AUDIO_SUFFIXES):
        if path.stem.endswith("_mic2"):
            continue
        speaker, name = path.parent.name, path.stem.removesuffix("_mic1")
        text = corpus / "txt" / speaker / f"{name}.txt"
        transcript = " ".join(text.read_text("utf-8", "replace").split()) if text.is_file() else ""
        if transcript:
            clips.append(CorpusClip(f"{speaker}/{name}", path, transcript, speaker=speaker))
        else:
            rejections.append(Rejection(f"{speaker}/{name}", path, "no transcript"))
    return clips, rejections


def download_ljspeech(folder: Path) -> Path:
    """Download LJSpeech 1.1 (2.6 GB) with torchaudio into `folder`, unless it exists, and return its path.

    Raises UserError if torchaudio can't be imported, or the download or unpacking fails.
    """
    try:
        import torchaudio
    except (ImportError, OSError, RuntimeError) as error:
        raise UserError(
            f"--download needs torchaudio, which can't be imported ({one_line(error)}); install a fitting "
            "version, or unpack https://keithito.com/LJ-Speech-Dataset yourself and pass --path_to_ljspeech"
        ) from error
    corpus = folder / "LJSpeech-1.1"
    folder.mkdir(parents=True, exist_ok=True)
    try:
        torchaudio.datasets.LJSPEECH(root=folder, download=True)
    except (OSError, RuntimeError, EOFError, HTTPException, tarfile.TarError) as error:
        raise UserError(
            f"LJSpeech can't be downloaded into {folder}: {one_line(error)}; delete its files there and retry"
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
        return "malformed line: not UTF-8; save the file as UTF-8"
    if not 1 <= len(texts) <= 2:
        return f"malformed line: {len(texts) + 1} field(s), not id|text|normalized text; separate them by |"
    if not clip_id:
        return "blank id"
    if not is_name(clip_id):
        return "id is not a file name"
    if not any(texts):
        return "no transcript"
    if texts[-1].isdecimal() and any(map(str.isalpha, texts[0])):
        return "a number, such as a speaker's, where the normalized text is expected"
    return ""


def refuse_speakers(texts: Iterable[tuple[str, str]], source: Path) -> None:
    """Raise UserError if the last fields are clearly no normalized texts, given (text, last field) of lines.

    They repeat although the texts differ, are shorter, and most contain a word that is not in their text.
    Each alone is true of some corpora: commands have few texts, and numbers are normalized to other words.
    """
    pairs = {(text, last) for text, last in texts if last and any(map(str.isalpha, text))}
    distinct = [set(fields) for fields in zip(*pairs, strict=True)]
    if not pairs or len(distinct[0]) < max(10, 2 * len(distinct[1])):
        return
    if sum(len(last) - len(text) for text, last in pairs) >= 0:
        return
    words = ([set(re.findall(r"\w+", field.casefold())) for field in pair] for pair in pairs)
    if sum(not last <= text for text, last in words) > len(pairs) / 2:
        raise UserError(
            f"{source}: lines end with {min(distinct[1])!a}, where a normalized text is expected "
            "(id|text|normalized text); remove speakers from the lines, or write a manifest with the columns "
            "file_path, normalized_transcript and speaker"
        )


def plain_id(name: str, wavs: Path) -> str:
    """Return the id for a name in metadata.csv, which may be that of a file: `0001` for `wavs/0001.wav`."""
    stem, suffix = os.path.splitext(name)
    is_file_name = suffix.lower() in AUDIO_SUFFIXES and is_name(name)
    if not is_file_name or find_file(wavs / f"{name}.wav", AUDIO_SUFFIXES):
        return name
    return stem.removeprefix("wavs/")


def is_name(clip_id: str) -> bool:
    """Return whether an id is a file name, with or without folders."""
    return not {"", ".", ".."} & set(clip_id.split("/")) and not set(clip_id) & set("\\\0")
