"""Speak a corpus in LJSpeech's layout with espeak-ng: no download, no recordings, the same bytes each time.

    python scripts/make_corpus.py --output_dir work_dir/corpus --num_clips 200
    python scripts/make_corpus.py --output_dir work_dir/corpus --texts LJSpeech-1.1/metadata.csv

The voice is a machine's, but whatever comes after (splits, mels, training, comparison) can be tried on it.
"""

import hashlib
import itertools
import json
import re
import sys
from collections.abc import Iterator
from pathlib import Path

from tqdm import tqdm

if not __package__:  # run as `python scripts/make_corpus.py`, Python looks in scripts/ but not above it
    sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from audio import write_wav
from tacotron2.text.espeak import (
    SAMPLING_RATE,
    SILENCE_AFTER,
    SILENCE_BEFORE,
    VOICE,
    WORDS_PER_MINUTE,
    Espeak,
)
from utils import ArgumentParser, UserError, atomic_write, report_user_errors

DEFAULT_CLIPS = 200
SENTENCES = Path(__file__).with_name("sentences.txt")


def make_corpus(output_dir: Path | str, num_clips: int | None = None, source: Path | None = None) -> Path:
    """Speak `num_clips` sentences into `output_dir`: `wavs/<id>.wav`, then `metadata.csv`, which is returned.

    They are those of `sentences`, or with `source` the first, by default all, of `read_texts(source)`.

    Clips are 16-bit mono WAV at 22,050 Hz. Clip k has the same bytes however many are asked for and in
    whichever run it is made; clips that are already there are kept. Raises UserError if the folder holds
    another corpus, if there are not as many sentences, or if espeak-ng can't be used.
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
            raise UserError(f"can't make {num_clips} clips: {source} holds {len(texts)} texts; ask for fewer")
    engine = Espeak()
    _claim_folder(output_dir, engine, origin)
    clips = [(f"ES{number:06d}", text) for number, text in enumerate(texts, start=1)]
    for clip_id, text in tqdm(clips, desc="speaking", unit="clip"):
        path = output_dir / "wavs" / f"{clip_id}.wav"
        if not path.exists():
            write_wav(path, engine.say(text), SAMPLING_RATE)
    metadata = output_dir / "metadata.csv"
    with atomic_write(metadata) as temporary:
        lines = (f"{clip_id}|{text}|{text}\n" for clip_id, text in clips)
        temporary.write_text("".join(lines), encoding="utf-8", newline="\n")
    return metadata


def sentences(count: int) -> list[str]:
    """The first `count` sentences to speak, all different, 4 to 30 words each.

    First come the lines of sentences.txt, then beginnings of these sentences joined to ends of others. A
    longer list begins with the shorter one. Raises UserError for a count below 1 or beyond what can be made,
    which is several hundred thousand.
    """
    if count < 1:
        raise UserError(f"can't make {count} clips; ask for 1 or more")
    lines = SENTENCES.read_text(encoding="ascii").splitlines()
    written = [line for line in lines if line and not line.startswith("#")]
    texts = list(itertools.islice(itertools.chain(written, _recombine(written)), count))
    if len(texts) < count:
        raise UserError(f"can't make {count} clips: {SENTENCES} gives {len(texts)} sentences; ask for fewer")
    return texts


def read_texts(path: Path) -> list[str]:
    """One text a line; of lines like LJSpeech's `id|text|normalized text` the last part."""
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(
            f"can't read the texts in {path}: {error}; name a text file or metadata.csv"
        ) from error
    texts = [text for line in lines if (text := line.rpartition("|")[2].strip())]
    if not texts:
        raise UserError(f"{path} holds no texts; name a text file or metadata.csv")
    return texts


def _recombine(written: list[str]) -> Iterator[str]:
    beginnings, ends = [], []
    for source, sentence in enumerate(written):
        for cut in re.finditer("[,;:] ", sentence):
            beginnings.append((source, sentence[: cut.start()]))
            ends.append((source, sentence[cut.end() :]))
    pairs = len(beginnings) * len(ends)
    # A prime above the number of pairs shares no factor with it, so its multiples meet every pair once.
    prime = 15_485_863
    met = set(written)
    for step in range(pairs):
        beginning_index, end_index = divmod(step * prime % pairs, len(ends))
        (source, beginning), (other, end) = beginnings[beginning_index], ends[end_index]
        sentence = f"{beginning}, {end}"
        if source != other and 4 <= len(sentence.split()) <= 30 and sentence not in met:
            met.add(sentence)
            yield sentence


def _claim_folder(output_dir: Path, engine: Espeak, texts: list[str]) -> None:
    """Record what the clips depend on, so that clips of two voices or two texts never share a folder."""
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
            raise UserError(
                f"{output_dir} holds a corpus of other settings; give another folder or delete it"
            )
        return
    for name in ("metadata.csv", "wavs"):
        if (output_dir / name).exists():
            raise UserError(f"{output_dir / name} is not this script's work; give another --output_dir")
    with atomic_write(record) as temporary:
        temporary.write_text(json.dumps(made_with, indent=2) + "\n", encoding="utf-8")


@report_user_errors
def main(argv: list[str] | None = None) -> None:
    parser = ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--output_dir", type=Path, required=True, help="folder for metadata.csv and wavs/")
    parser.add_argument(
        "--num_clips", type=int,
        help=f"clips to have, of about 5 s each; default: {DEFAULT_CLIPS}, with --texts all",
    )  # fmt: skip
    parser.add_argument(
        "--texts", type=Path, help="speak the lines of this file (LJSpeech's metadata.csv) instead of our own"
    )
    args = parser.parse_args(argv)
    if args.output_dir.exists() and not args.output_dir.is_dir():
        raise UserError(f"--output_dir {args.output_dir} is a file; give a folder")
    metadata = make_corpus(args.output_dir, args.num_clips, args.texts)
    print(f"The clips are listed in {metadata}")


if __name__ == "__main__":
    main()
