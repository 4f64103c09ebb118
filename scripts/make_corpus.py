"""Create a corpus in LJSpeech's layout from espeak-ng's speech, without a download, with reproducible bytes.

    python scripts/make_corpus.py --output_dir work_dir/corpus --num_clips 200
    python scripts/make_corpus.py --output_dir work_dir/corpus --texts LJSpeech-1.1/metadata.csv

Every later step (splits, mels, training, evaluation) runs on this corpus.
"""

import hashlib
import itertools
import json
import re
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from tqdm import tqdm

if not __package__:  # run as `python scripts/make_corpus.py`, which puts only scripts/ on the path
    sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from common.errors import UserError, report_user_errors
from common.files import atomic_write
from common.options import Options, option
from common.parser import parse_options
from corpus.audio import write_wav
from text.espeak import SAMPLING_RATE, SILENCE_AFTER, SILENCE_BEFORE, VOICE, WORDS_PER_MINUTE, Espeak

DEFAULT_CLIPS = 200
SENTENCES = Path(__file__).with_name("sentences.txt")


@dataclass(frozen=True, kw_only=True)
class CorpusOptions(Options):
    """Options of `scripts/make_corpus.py`."""

    output_dir: Path = option(help="Write metadata.csv and wavs/ into this folder")
    num_clips: int | None = option(
        None, f"Number of clips of about 5 s; default: {DEFAULT_CLIPS}, or all lines of --texts", minimum=1
    )
    texts: Path | None = option(
        None, "Read one text per line of this text file or LJSpeech metadata.csv; default: built-in sentences"
    )

    def __post_init__(self):
        super().__post_init__()
        if self.output_dir.exists() and not self.output_dir.is_dir():
            raise UserError(f"--output_dir {self.output_dir} is a file; name a folder")


def make_corpus(output_dir: Path | str, num_clips: int | None = None, source: Path | None = None) -> Path:
    """Write `num_clips` spoken sentences to `output_dir`/wavs and return the path of `metadata.csv`.

    The texts are `sentences(num_clips)`, or the first `num_clips` (default: all) of `read_texts(source)`.
    Clips are 16-bit mono WAV at 22,050 Hz. The bytes of clip k do not depend on the number of clips or on the
    run; existing clips are kept. Raises UserError if the folder contains another corpus, if there are too few
    sentences, or if espeak-ng can't be used.
    """
    output_dir = Path(output_dir)
    if num_clips is not None and num_clips < 1:
        raise UserError(f"can't make {num_clips} clips; ask for 1 or more")
    if source is None:
        texts, origin = sentences(num_clips or DEFAULT_CLIPS), sentences(1000)
    else:
        origin = read_texts(source)
        texts = origin[:num_clips]
        if num_clips and len(texts) < num_clips:
            raise UserError(f"can't make {num_clips} clips: {source} has {len(texts)} texts; ask for fewer")
    engine = Espeak()
    _claim_folder(output_dir, engine, origin)
    clips = [(f"ES{number:06d}", text) for number, text in enumerate(texts, start=1)]
    for clip_id, text in tqdm(clips, desc="speaking", unit="clip", disable=None):
        path = output_dir / "wavs" / f"{clip_id}.wav"
        if not path.exists():
            write_wav(path, engine.say(text), SAMPLING_RATE)
    metadata = output_dir / "metadata.csv"
    with atomic_write(metadata) as temporary:
        lines = (f"{clip_id}|{text}|{text}\n" for clip_id, text in clips)
        temporary.write_text("".join(lines), encoding="utf-8", newline="\n")
    return metadata


def sentences(count: int) -> list[str]:
    """Return the first `count` sentences of a fixed sequence without repetition, 4 to 30 words each.

    The sequence starts with the lines of sentences.txt; the others join the beginning of one line to the end
    of another. Raises UserError for a count above the number of combinations, several hundred thousand.
    """
    lines = SENTENCES.read_text(encoding="ascii").splitlines()
    written = [line for line in lines if line and not line.startswith("#")]
    texts = list(itertools.islice(itertools.chain(written, _recombine(written)), count))
    if len(texts) < count:
        raise UserError(f"can't make {count} clips: {SENTENCES} is enough for {len(texts)}; ask for fewer")
    return texts


def read_texts(path: Path) -> list[str]:
    """Read one text per line; of lines such as LJSpeech's `id|text|normalized text`, the last text."""
    try:
        lines = path.read_text(encoding="utf-8-sig").split("\n")
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(
            f"can't read the texts in {path}: {error}; name a text file or metadata.csv"
        ) from error
    texts = [text for line in lines if (text := text_of_line(line))]
    if not texts:
        raise UserError(f"{path} has no texts; name a text file or metadata.csv")
    return texts


def text_of_line(line: str) -> str:
    """Return the last field with text, except for the id, or ""."""
    fields = [field.strip() for field in line.split("|")]
    return next(filter(None, reversed(fields[1:] or fields)), "")


def _recombine(written: list[str]) -> Iterator[str]:
    beginnings, ends = [], []
    for source, sentence in enumerate(written):
        for cut in re.finditer("[,;:] ", sentence):
            beginnings.append((source, sentence[: cut.start()]))
            ends.append((source, sentence[cut.end() :]))
    pairs = len(beginnings) * len(ends)
    # A prime above the number of pairs shares no factor with it, so its multiples visit every pair once.
    prime = 15_485_863
    used = set(written)
    for step in range(pairs):
        beginning_index, end_index = divmod(step * prime % pairs, len(ends))
        (source, beginning), (other, end) = beginnings[beginning_index], ends[end_index]
        sentence = f"{beginning}, {end}"
        if source != other and 4 <= len(sentence.split()) <= 30 and sentence not in used:
            used.add(sentence)
            yield sentence


def _claim_folder(output_dir: Path, engine: Espeak, texts: list[str]) -> None:
    """Write the settings to corpus.json, or raise UserError if the folder has clips of other settings."""
    record = output_dir / "corpus.json"
    made_with = {
        "engine": f"espeak-ng {engine.version}",
        "voice": VOICE,
        "words_per_minute": WORDS_PER_MINUTE,
        "silence_seconds": [SILENCE_BEFORE, SILENCE_AFTER],
        "sentences_sha256": hashlib.sha256("\n".join(texts).encode()).hexdigest(),
    }
    if record.exists():
        try:
            same = json.loads(record.read_text(encoding="utf-8")) == made_with
        except ValueError:
            same = False
        if not same:
            raise UserError(f"{output_dir} has a corpus of other settings; name another folder or delete it")
        return
    for name in ("metadata.csv", "wavs"):
        if (output_dir / name).exists():
            raise UserError(f"{output_dir / name} was not created by this script; name another --output_dir")
    with atomic_write(record) as temporary:
        temporary.write_text(json.dumps(made_with, indent=2) + "\n", encoding="utf-8")


@report_user_errors
def main(arguments: list[str] | None = None) -> None:
    options = parse_options(CorpusOptions, "scripts/make_corpus.py", __doc__, arguments)
    metadata = make_corpus(options.output_dir, options.num_clips, options.texts)
    print(f"Wrote {metadata}")


if __name__ == "__main__":
    main()
