"""Speak sentences several times and keep the best attempts: a corpus on which a voice learns from itself.

    python scripts/best_attempts.py --text_file texts.txt --output_dir attempts

Each attempt draws another dropout. The best one has no word that Whisper mishears, and among those the
highest DistillMOS. A Tacotron 2 that is trained on the best attempts, together with its recordings, speaks
more often like them. The corpus is in LJSpeech's layout.
"""

import sys
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from tqdm import tqdm

if not __package__:  # run as `python scripts/best_attempts.py`, which puts only scripts/ on the path
    sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from checkpoint.voices import find_voice, load_voice_tacotron2
from common.errors import UserError, report_user_errors
from common.files import atomic_write
from common.options import Options, option, seed_option
from common.parser import parse_options
from corpus.audio import write_wav
from evaluation.inputs import Unavailable, optional_package
from evaluation.perception import distillmos, distillmos_model
from evaluation.recognition import Recognizer, words_of
from synthesis.inputs import read_text
from synthesis.speech import TextToSpeech
from synthesis.vocoder import load_vocoder
from tacotron2.model import Tacotron2
from tacotron2.speak import speak_sentences

GROUP = 48  # sentences that are spoken and recognized together
WINDOW, GAP = 28.0, 0.6  # seconds of audio that are recognized at a time, and of silence between two clips


@dataclass(frozen=True, kw_only=True)
class AttemptOptions(Options):
    """Options of `scripts/best_attempts.py`."""

    text_file: Path = option(help="Speak the sentences in this file, one per line, English only")
    output_dir: Path = option(help="Write metadata.csv and wavs/ into this folder")
    voice: str | None = option(None, "Name or folder of the voice; default: the default voice")
    attempts: int = option(6, "Number of attempts at each sentence", minimum=1)
    prenet_dropout: tuple[float, ...] | None = option(
        None, "Dropout of the prenet, one value per attempt in turn; default: that of the model",
        minimum=0, below=1, metavar="P",
    )  # fmt: skip
    recognizer: str = option("tiny.en", "Whisper model: a name or a folder")
    seed: int = seed_option(0, "the prenet's dropout")


@dataclass(frozen=True)
class Attempt:
    """The audio (samples,) of a sentence, its word errors, and its DistillMOS (0 with errors)."""

    audio: np.ndarray
    errors: int
    rating: float


def with_dropout(model: Tacotron2, dropout_p: float) -> Tacotron2:
    """Return a model with the weights of this one and another dropout in its prenet."""
    result = Tacotron2(replace(model.config, decoder_prenet_dropout_p=dropout_p)).eval()
    result.load_state_dict(model.state_dict())
    return result


def misheard_words(
    clips: Sequence[np.ndarray], texts: Sequence[str], sampling_rate: int, recognizer: Recognizer
) -> list[int]:
    """Return the number of word errors in each clip (samples,).

    Whisper takes as long for a sentence as for 30 s, so clips are joined, and the words heard are aligned
    with all their texts. A word that was inserted between two clips counts for the second one.
    """
    silence = np.zeros(round(GAP * sampling_rate), dtype=np.float32)
    errors = [0] * len(clips)
    for window in windows([len(clip) / sampling_rate + GAP for clip in clips]):
        audio = np.concatenate([part for number in window for part in (clips[number], silence)])
        heard = words_of(recognizer.transcribe(audio, sampling_rate))
        wanted = [(word, number) for number in window for word in words_of(texts[number])]
        words = " ".join(word for word, _ in wanted)
        alignment = optional_package("jiwer").process_words(words, " ".join(heard)).alignments[0]
        for part in alignment:
            if part.type == "insert":
                place = min(part.ref_start_idx, len(wanted) - 1)
                errors[wanted[place][1]] += part.hyp_end_idx - part.hyp_start_idx
            elif part.type != "equal":
                for _, number in wanted[part.ref_start_idx : part.ref_end_idx]:
                    errors[number] += 1
    return errors


def windows(seconds: Iterable[float]) -> Iterator[list[int]]:
    """Yield the numbers of successive clips that fit together into WINDOW seconds."""
    window, total = [], 0.0
    for number, duration in enumerate(seconds):
        if window and total + duration > WINDOW:
            yield window
            window, total = [], 0.0
        window.append(number)
        total += duration
    if window:
        yield window


def attempt_all(tts: TextToSpeech, texts: list[str], seed: int, recognizer: Recognizer) -> list[Attempt]:
    """Speak each sentence once. An attempt whose attention fails has an error."""
    spoken = speak_sentences(tts.tacotron2, texts, seed, max_attempts=1)
    clips, rate = [tts.audio_of(utterance.mel).clip(-1, 1) for utterance in spoken], tts.sampling_rate
    errors = misheard_words(clips, texts, rate, recognizer)
    errors = [count + bool(utterance.problem) for count, utterance in zip(errors, spoken, strict=True)]
    return [
        Attempt(clip, count, 0.0 if count else distillmos(clip, rate))
        for clip, count in zip(clips, errors, strict=True)
    ]


def best_of(attempts: Sequence[Attempt]) -> list[Attempt]:
    """Return the best attempt without errors, the two best ones if others have errors, or none."""
    good = sorted((one for one in attempts if not one.errors), key=lambda one: -one.rating)
    return good[: 1 if len(good) == len(attempts) else 2]


def best_attempts(options: AttemptOptions) -> str:
    """Write the best attempts to `options.output_dir` and return the message for the user.

    Raises UserError if the folder has a corpus, or if Whisper or DistillMOS can't be used.
    """
    metadata = options.output_dir / "metadata.csv"
    if metadata.exists():
        raise UserError(f"{metadata} exists; choose another --output_dir or delete it")
    lines = read_text(options.text_file).replace("|", " ").splitlines()  # | separates fields in metadata.csv
    texts = [line for line in lines if words_of(line)]
    if not texts:
        raise UserError(f"{options.text_file} has no sentences; write one per line")
    voice = find_voice(options.voice)
    model, vocoder = load_voice_tacotron2(voice), load_vocoder(voice.vocoder)
    dropouts = options.prenet_dropout or [model.config.decoder_prenet_dropout_p]
    voices = [TextToSpeech(with_dropout(model, dropout_p), vocoder) for dropout_p in dropouts]
    try:
        recognizer, *_ = Recognizer(options.recognizer), distillmos_model("cpu"), optional_package("jiwer")
    except Unavailable as error:
        raise UserError(f"best_attempts.py needs a recognizer and DistillMOS: {error}") from error
    lines, ratings = [], []
    for first in tqdm(range(0, len(texts), GROUP), desc="speaking", unit="group", disable=None):
        group = texts[first : first + GROUP]
        attempts = [
            attempt_all(voices[number % len(voices)], group, options.seed + number, recognizer)
            for number in range(options.attempts)
        ]
        for place, text in enumerate(group):
            for rank, best in enumerate(best_of([attempt[place] for attempt in attempts])):
                name = f"{first + place + 1:06d}_{rank + 1}"
                write_wav(options.output_dir / "wavs" / f"{name}.wav", best.audio, voices[0].sampling_rate)
                lines.append(f"{name}|{text}|{text}\n")
                ratings.append(best.rating)
    if not lines:
        raise UserError(f"no attempt at the {len(texts)} sentences was understood; train the voice longer")
    with atomic_write(metadata) as temporary:
        temporary.write_text("".join(lines), encoding="utf-8", newline="\n")
    return (
        f"{len(lines)} clips of {len(texts)} sentences in {metadata}, mean DistillMOS {np.mean(ratings):.2f}"
    )


@report_user_errors
def main(arguments: list[str] | None = None) -> None:
    print(best_attempts(parse_options(AttemptOptions, "scripts/best_attempts.py", __doc__, arguments)))


if __name__ == "__main__":
    main()
