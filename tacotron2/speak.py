"""Speak text of any length sentence by sentence, repeating sentences on which the attention fails."""

from collections.abc import Generator, Mapping
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence
from tqdm import tqdm

from common.errors import UserError
from tacotron2.config import Tacotron2Config
from tacotron2.model import Speech, Tacotron2
from tacotron2.reading import READING_LIMITS, Failure, attention_problem, max_seconds
from text import PAD_ID, encode_texts, pause_after, split_text


@dataclass
class Utterance:
    """A spoken sentence: its mel (num_mels, T), its attention (steps, L), and its problem or "".

    The mel is in the scale of the Tacotron 2; `synthesis.speech.Speaker` converts it to that of the vocoder.
    """

    text: str
    mel: Tensor
    attention: Tensor
    problem: str
    attempts: int
    failure: Failure = Failure.NONE

    @property
    def pause(self) -> float:
        """Duration in seconds of the silence after the sentence."""
        return pause_after(self.text)


def speak(model: Tacotron2, text: str, seed: int = 0, **options) -> list[Utterance]:
    """Speak a text with the options of `speak_sentences`. Raises UserError for a text without words."""
    return speak_sentences(model, [piece.text for piece in split_text(text, model.config)], seed, **options)


def speak_sentences(
    model: Tacotron2,
    sentences: list[str],
    seed: int = 0,
    max_attempts: int = 6,
    batch_size: int = 16,
    lexicon: Mapping[str, str] | None = None,
) -> list[Utterance]:
    """Speak sentences in batches, with up to `max_attempts` attempts for those on which the attention fails.

    Each attempt draws a different dropout. A sentence that never succeeds is returned with its best attempt
    and its `problem`. The result depends only
    on the sentences, the seed and the lexicon (see `text.read_lexicon`), and not on the batches, except for
    rounding (see `Tacotron2.infer`).
    """
    spoken: list[Utterance | None] = [None] * len(sentences)
    waiting = sorted(range(len(sentences)), key=lambda number: len(sentences[number]))
    for attempt in range(max_attempts):
        batches = range(0, len(waiting), batch_size)
        shown = len(batches) > 1 or attempt > 0  # on a terminal
        title = f"attempt {attempt + 1}"
        for first in tqdm(batches, title, unit="batch", leave=False, disable=None if shown else True):
            batch = waiting[first : first + batch_size]
            texts = [sentences[number] for number in batch]
            utterances = speak_batch(model, texts, seed + attempt, lexicon)
            for number, utterance in zip(batch, utterances, strict=True):
                before = spoken[number]
                if before is None or utterance.failure < before.failure:
                    spoken[number] = utterance
                spoken[number].attempts = attempt + 1
        waiting = [number for number in waiting if spoken[number].failure]
    return spoken


def prepare(
    model: Tacotron2, sentences: list[str], lexicon: Mapping[str, str] | None
) -> tuple[Tensor, Tensor, Tensor]:
    """Return tokens (B, L), their lengths (B,) and the limits of the sentences in frames (B,).

    Raises UserError for a model with several speakers, which `Tacotron2.for_speaker` reduces to one.
    """
    device, config = next(model.parameters()).device, model.config
    if config.speakers:
        raise UserError(
            f"the Tacotron 2 model has several speakers; choose one: {', '.join(config.speakers)}"
        )
    tokens = [torch.tensor(ids) for ids in encode_texts(sentences, config, lexicon)]
    lengths = torch.tensor([len(ids) for ids in tokens])
    return pad_sequence(tokens, True, PAD_ID).to(device), lengths.to(device), frame_limits(config, lengths)


def frame_limits(config: Tacotron2Config, lengths: Tensor) -> Tensor:
    """Return the longest mel (B,) in frames of sentences with these numbers of tokens (B,)."""
    seconds = max_seconds(config.text_input, lengths)
    return (seconds * config.sampling_rate / config.hop_size).long()


def speak_batch(
    model: Tacotron2, sentences: list[str], seed: int, lexicon: Mapping[str, str] | None = None
) -> list[Utterance]:
    """Speak each sentence once."""
    tokens, lengths, limits = prepare(model, sentences, lexicon)
    speech = model.infer(tokens, lengths, limits, seed)
    return [
        to_utterance(model.config, sentence, speech, row, int(lengths[row]))
        for row, sentence in enumerate(sentences)
    ]


def stream_sentence(
    model: Tacotron2,
    sentence: str,
    seed: int = 0,
    lexicon: Mapping[str, str] | None = None,
    chunk_frames: int = 32,
) -> Generator[Tensor, None, Utterance]:
    """Yield the mel of a sentence in parts (num_mels, n) while it is decoded; return the `Utterance`."""
    tokens, lengths, limits = prepare(model, [sentence], lexicon)
    speech = yield from model.stream(tokens, int(limits[0]), seed, chunk_frames=chunk_frames)
    return to_utterance(model.config, sentence, speech, 0, int(lengths[0]))


def to_utterance(config: Tacotron2Config, sentence: str, speech: Speech, row: int, length: int) -> Utterance:
    """Return the sentence in a row of a batch, which has `length` tokens, and check its attention."""
    frames = int(speech.frames[row])
    attention = speech.attention[row, : frames // config.frames_per_step, :length].cpu()
    seconds_per_step = config.frames_per_step * config.hop_size / config.sampling_rate
    limits = READING_LIMITS[config.text_input]
    stopped = bool(speech.stopped[row])
    problem = attention_problem(attention, stopped, seconds_per_step, limits)
    failure = Failure.of(problem, stopped)
    return Utterance(sentence, speech.mel[row, :, :frames].float().cpu(), attention, problem, 1, failure)
