"""Cut recordings at pauses into phrases, a corpus in LJSpeech's layout on which Tacotron 2 learns faster.

    python scripts/cut_phrases.py --path_to_manifest splits/train_metadata.csv --output_dir phrases

Whisper finds the time of each word. A recording is cut where it pauses between two words on which the
transcript and the recognizer agree, once into short phrases and once into longer ones that still contain
pauses. Short clips make batches cheaper and the attention easier to learn.

Phrases of one recording overlap, and a split of them would put some into train and others into test. So cut
the clips of train_metadata.csv only, and pass `--test_split_pct 0` to prep_splits.py.
"""

import difflib
import re
import string
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from tqdm import tqdm

if not __package__:  # run as `python scripts/cut_phrases.py`, which puts only scripts/ on the path
    sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from common.errors import UserError, report_user_errors
from common.options import Options, option
from common.parser import parse_options
from corpus.audio import read_audio, write_wav
from corpus.manifest import read_manifest
from corpus.saved_mels import distinct_depth, mel_name
from evaluation.inputs import Unavailable
from evaluation.metrics import DEFAULT_RECOGNIZER
from evaluation.recognition import Recognizer, TimedWord

HOP = 0.01  # seconds between two measurements of the level
MIN_PAUSE = 0.10  # seconds
SEARCH = 0.25  # seconds around the recognized end and start of two words in which a pause is looked for
PAUSE_LEVEL, EDGE_LEVEL = (
    -35.0,
    -42.0,
)  # dB relative to loud speech: of a pause, and of silence at a clip's ends
LEAD, TAIL = 0.05, 0.08  # seconds of silence that remain before and after a phrase
MIN_SECONDS, MIN_CHARACTERS = 0.8, 6


@dataclass(frozen=True, kw_only=True)
class PhraseOptions(Options):
    """Options of `scripts/cut_phrases.py`."""

    path_to_manifest: Path = option(help="Cut the clips of this manifest, English only")
    output_dir: Path = option(help="Write metadata.csv and wavs/ into this folder")
    max_durations: tuple[float, ...] = option(
        (2.6, 5.6), "Duration of the longest phrase; each value cuts all clips once more",
        minimum=1, metavar="SECONDS",
    )  # fmt: skip
    sampling_rate: int = option(22050, "Sampling rate of the clips in Hz", minimum=1)
    recognizer: str = option(DEFAULT_RECOGNIZER, "Whisper model: a name or a folder")


@dataclass(frozen=True)
class Pause:
    """Silence from `start` to `end` in seconds, before the word with index `word`."""

    word: int
    start: float
    end: float


def find_pauses(
    audio: np.ndarray, sampling_rate: int, words: list[str], heard: list[TimedWord]
) -> list[Pause]:
    """Return the pauses between words of the transcript, with empty ones at the start and the end."""
    level = levels(audio, sampling_rate)
    quiet = level < np.percentile(level, 95) + PAUSE_LEVEL
    places = matching_words(words, [word.text for word in heard])
    seconds = len(audio) / sampling_rate
    pauses = [Pause(0, 0.0, 0.0)]
    for word in range(1, len(words)):
        before, after = places.get(word - 1), places.get(word)
        if before is None or after != before + 1:
            continue
        first = int(max(0.0, heard[before].end - SEARCH) / HOP)
        last = int(min(seconds, heard[after].start + SEARCH) / HOP)
        start, end = longest_run(quiet[first:last])
        if (end - start) * HOP >= MIN_PAUSE:
            pauses.append(Pause(word, (first + start) * HOP, (first + end + 1) * HOP))
    return [*pauses, Pause(len(words), seconds, seconds)]


def levels(audio: np.ndarray, sampling_rate: int) -> np.ndarray:
    """Return the level in dB of windows of 2 * HOP seconds that start every HOP seconds."""
    hop = int(HOP * sampling_rate)
    audio = np.pad(audio, (0, max(0, 2 * hop - len(audio))))
    windows = np.lib.stride_tricks.sliding_window_view(audio, 2 * hop)[::hop]
    return 20 * np.log10(np.sqrt((windows**2).mean(1)) + 1e-7)


def matching_words(words: list[str], heard: list[str]) -> dict[int, int]:
    """Map indices of transcript words to indices of equal recognized words, in order."""
    plain = [[re.sub(r"[^a-z0-9]", "", word.lower()) for word in side] for side in (words, heard)]
    blocks = difflib.SequenceMatcher(None, *plain, autojunk=False).get_matching_blocks()
    return {block.a + k: block.b + k for block in blocks for k in range(block.size)}


def longest_run(mask: np.ndarray) -> tuple[int, int]:
    """Return the start and the end of the longest run of true values."""
    edges = np.flatnonzero(np.diff(np.concatenate([[0], mask.astype(int), [0]])))
    runs = edges.reshape(-1, 2)
    return tuple(runs[(runs[:, 1] - runs[:, 0]).argmax()]) if len(runs) else (0, 0)


def spans(pauses: list[Pause], longest: float) -> Iterator[tuple[int, int]]:
    """Yield (first, last) pauses of phrases that take as many pieces as fit in `longest` seconds."""
    first = 0
    while first < len(pauses) - 1:
        last = first + 1
        while last + 1 < len(pauses) and pauses[last + 1].start - pauses[first].end <= longest:
            last += 1
        yield first, last
        first = last


def phrase_text(words: list[str], ends_clip: bool) -> str:
    """Return the words with the punctuation that the last one has; a cut elsewhere adds none."""
    text = " ".join(words).strip(" ,;:-")
    return text if ends_clip or words[-1][-1] not in ",;:" else text + words[-1][-1]


def trimmed(audio: np.ndarray, sampling_rate: int) -> np.ndarray:
    """Return audio with LEAD and TAIL seconds of silence at its ends."""
    level = levels(audio, sampling_rate)
    loud = np.flatnonzero(level > np.percentile(level, 95) + EDGE_LEVEL)
    start, end = loud[0] * HOP - LEAD, (loud[-1] + 2) * HOP + TAIL
    return audio[max(0, int(start * sampling_rate)) : int(end * sampling_rate)]


def cut_clip(
    audio: np.ndarray, sampling_rate: int, transcript: str, heard: list[TimedWord], durations: list[float]
) -> Iterator[tuple[str, np.ndarray, str]]:
    """Yield (suffix of the name, audio, text) of the phrases of a clip, once per longest duration."""
    words = transcript.split()
    pauses = find_pauses(audio, sampling_rate, words, heard)
    seen = set()
    for kind, longest in zip(string.ascii_lowercase, durations, strict=False):
        for first, last in spans(pauses, longest):
            start, end = pauses[first], pauses[last]
            ends_clip = last == len(pauses) - 1
            text = phrase_text(words[start.word : end.word], ends_clip)
            begin = max(0.0, start.end - LEAD) if first else 0.0
            finish = end.start + (0.0 if ends_clip else LEAD)
            phrase = audio[int(begin * sampling_rate) : int(finish * sampling_rate)]
            seconds = len(phrase) / sampling_rate
            fits = MIN_SECONDS <= seconds <= max(durations) + 2 * LEAD and len(text) >= MIN_CHARACTERS
            if fits and (first, last) not in seen:
                seen.add((first, last))
                yield f"{kind}{first:02d}", trimmed(phrase, sampling_rate), text


def cut_phrases(
    manifest: Path, output_dir: Path, sampling_rate: int, recognizer: str, durations: list[float]
) -> Path:
    """Write the phrases of a manifest's clips to `output_dir`/wavs and return the path of `metadata.csv`.

    A line is written after each phrase, so that an interrupted run leaves a smaller corpus.
    Raises UserError if the folder already has phrases, or if the recognizer can't be used.
    """
    metadata = output_dir / "metadata.csv"
    if metadata.exists():
        raise UserError(f"{metadata} exists; choose another --output_dir or delete it")
    clips = read_manifest(manifest, sampling_rate)
    try:
        whisper = Recognizer(recognizer)
    except Unavailable as error:
        raise UserError(f"cut_phrases.py needs a recognizer: {error}") from error
    depth, count = distinct_depth(clips), 0
    for clip in tqdm(clips, desc="cutting", unit="clip", disable=None):
        audio, _, _ = read_audio(clip.path)
        heard = whisper.timed_words(audio, sampling_rate)
        for suffix, phrase, text in cut_clip(audio, sampling_rate, clip.transcript, heard, durations):
            name = f"{Path(mel_name(clip, depth)).with_suffix('').as_posix()}_{suffix}"
            write_wav(output_dir / "wavs" / f"{name}.wav", phrase, sampling_rate)
            with metadata.open("a", encoding="utf-8", newline="\n") as lines:
                lines.write(f"{name}|{text}|{text}\n")
            count += 1
    print(f"{count} phrases in {metadata}")
    return metadata


@report_user_errors
def main(arguments: list[str] | None = None) -> None:
    options = parse_options(PhraseOptions, "scripts/cut_phrases.py", __doc__, arguments)
    cut_phrases(
        options.path_to_manifest,
        options.output_dir,
        options.sampling_rate,
        options.recognizer,
        options.max_durations,
    )


if __name__ == "__main__":
    main()
