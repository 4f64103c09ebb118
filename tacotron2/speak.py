"""Text of any length to mels, a sentence each: spoken in batches, and again where the attention failed."""

from collections.abc import Generator, Mapping
from dataclasses import dataclass

import torch
from torch import Tensor
from tqdm import tqdm

from tacotron2.config import Tacotron2Config
from tacotron2.dataset import pad
from tacotron2.model import Speech, Tacotron2
from tacotron2.text import PAD_ID, encode_texts, split_sentences
from utils import UserError

# A sentence may take so many seconds and so many a character; speech takes about 0.07 of them.
LIMIT_SECONDS, LIMIT_SECONDS_PER_CHARACTER = 2.0, 0.2
# Longer than these, a step on, a step back or a rest of the attention is a word lost, repeated or drawn out.
MAX_SKIPPED_CHARACTERS, MAX_REPEATED_CHARACTERS, MAX_SECONDS_ON_A_CHARACTER = 4, 6, 1.0
MAX_UNREAD_CHARACTERS = 3  # at the end: a full stop, a quotation mark and the end itself make no sound
# Silence after a sentence or clause in seconds, by its last character. The clip's own ends add 0.15.
PAUSES = {".": 0.3, "!": 0.3, "?": 0.3, ";": 0.2, ":": 0.2, ",": 0.1}


@dataclass
class Utterance:
    """A sentence, its mel (num_mels, T), its attention (steps, L), and what went wrong, "" if nothing did."""

    text: str
    mel: Tensor
    attention: Tensor
    problem: str
    attempts: int

    @property
    def pause(self) -> float:
        """Seconds of silence that belong behind it."""
        return PAUSES.get(self.text.rstrip("\"')]”’»").strip()[-1:], 0.05)


def speak(
    model: Tacotron2,
    text: str,
    seed: int = 0,
    max_attempts: int = 6,
    batch_size: int = 16,
    lexicon: Mapping[str, str] | None = None,
) -> list[Utterance]:
    """Speak the sentences of `text`; see `speak_sentences`. Raises UserError for a text without words."""
    return speak_sentences(model, split_text(text), seed, max_attempts, batch_size, lexicon)


def split_text(text: str) -> list[str]:
    """Return the sentences of a text. Raises UserError for a text without words."""
    sentences = split_sentences(text)
    if not sentences:
        raise UserError(f"there is nothing to say in the text {text.strip()[:50]!r}; it needs words")
    return sentences


def speak_sentences(
    model: Tacotron2,
    sentences: list[str],
    seed: int = 0,
    max_attempts: int = 6,
    batch_size: int = 16,
    lexicon: Mapping[str, str] | None = None,
) -> list[Utterance]:
    """Speak sentences in batches. One that fails is spoken again with other dropout, up to `max_attempts`.

    `lexicon` is the pronunciation of words, see `tacotron2.text.read_lexicon`.

    Returns the best attempt, with its `problem`, for a sentence that never succeeds. The result depends only
    on the sentences and the seed, not on the batches.
    """
    spoken: list[Utterance | None] = [None] * len(sentences)
    waiting = sorted(range(len(sentences)), key=lambda number: len(sentences[number]))
    for attempt in range(max_attempts):
        batches = range(0, len(waiting), batch_size)
        for first in tqdm(batches, unit="batch", leave=False, disable=None if len(batches) > 1 else True):
            batch = waiting[first : first + batch_size]
            said = speak_batch(model, [sentences[number] for number in batch], seed + attempt, lexicon)
            for number, utterance in zip(batch, said, strict=True):
                before = spoken[number]
                if before is None or severity(utterance) < severity(before):
                    spoken[number] = utterance
                spoken[number].attempts = attempt + 1
        waiting = [number for number in waiting if spoken[number].problem]
    return spoken


def severity(utterance: Utterance) -> int:
    """How much of a sentence may be lost: to run on without end is worse than to stumble."""
    return 2 * utterance.problem.startswith("it did not end") + bool(utterance.problem)


def prepare(
    model: Tacotron2, sentences: list[str], lexicon: Mapping[str, str] | None
) -> tuple[Tensor, Tensor, Tensor]:
    """Return tokens (B, L), their lengths (B,) and the limits of the sentences in frames (B,)."""
    device, config = next(model.parameters()).device, model.config
    tokens = [torch.tensor(ids) for ids in encode_texts(sentences, config, lexicon)]
    lengths = torch.tensor([len(text) for text in tokens])
    seconds = LIMIT_SECONDS + LIMIT_SECONDS_PER_CHARACTER * lengths
    limits = (seconds * config.sampling_rate / config.hop_size).long()
    return pad(tokens, PAD_ID).to(device), lengths.to(device), limits


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
    """Speak a sentence once, yield its mel in parts (num_mels, n) while it is decoded, and return it."""
    tokens, lengths, limits = prepare(model, [sentence], lexicon)
    speech = yield from model.stream(tokens, int(limits[0]), seed, chunk_frames=chunk_frames)
    return to_utterance(model.config, sentence, speech, 0, int(lengths[0]))


def to_utterance(config: Tacotron2Config, sentence: str, speech: Speech, row: int, length: int) -> Utterance:
    """Return the sentence of `length` tokens in a row of a batch, with its attention checked."""
    frames = int(speech.frames[row])
    attention = speech.attention[row, : frames // config.frames_per_step, :length].cpu()
    seconds_per_step = config.frames_per_step * config.hop_size / config.sampling_rate
    problem = attention_problem(attention, bool(speech.stopped[row]), seconds_per_step)
    return Utterance(sentence, speech.mel[row, :, :frames].cpu(), attention, problem, 1)


def attention_problem(attention: Tensor, stopped: bool, seconds_per_step: float) -> str:
    """What is wrong with the attention (steps, L) of a spoken sentence, in words; "" where all is well.

    Speech reads on: from the first character to the last, with no leap over a word, no way back, and no rest
    on one place. `stopped` says whether it ended by itself.
    """
    length = attention.shape[1]
    place = attention.argmax(dim=1)  # (steps,)
    furthest = place.cummax(0).values
    if not stopped:
        return f"it did not end; the attention came to character {int(furthest[-1]) + 1} of {length}"
    leaps = torch.diff(furthest, prepend=furthest.new_zeros(1))
    if leaps.max() > MAX_SKIPPED_CHARACTERS:
        seconds = seconds_per_step * int(leaps.argmax())
        return f"the attention skips {int(leaps.max())} characters after {seconds:.1f} s"
    if length - 1 - furthest[-1] > MAX_UNREAD_CHARACTERS:
        return f"it ended {length - 1 - int(furthest[-1])} characters too early"
    back = furthest - place
    if back.max() > MAX_REPEATED_CHARACTERS:
        seconds = seconds_per_step * int(back.argmax())
        return f"the attention goes back {int(back.max())} characters after {seconds:.1f} s"
    rest = torch.bincount(furthest).max() * seconds_per_step
    if rest > MAX_SECONDS_ON_A_CHARACTER:
        return f"the attention stays on one character for {rest:.1f} s"
    return ""
