"""Whether a sentence was read from beginning to end, judging by the attention. Needs no PyTorch."""

from dataclasses import dataclass
from enum import IntEnum

import numpy as np
from numpy.typing import ArrayLike

LIMIT_SECONDS = 2.0  # maximum duration of a sentence without the limit per token


@dataclass(frozen=True)
class ReadingLimits:
    """Bounds on the attention; outside of them, a word is skipped, repeated or drawn out."""

    token: str  # the name of a token in messages
    seconds_per_token: float  # about three times the mean of speech
    max_skipped: int  # tokens in a step forward
    max_repeated: int  # tokens in a step back
    max_unread: int  # tokens at the end, such as a full stop, a quotation mark and the end symbol
    max_seconds_on_token: float = 1.0


# English has 0.9 to 1.1 phoneme tokens per character. The attention may pass over stress and length marks,
# which make no sound of their own.
READING_LIMITS = {
    "characters": ReadingLimits("character", 0.2, max_skipped=4, max_repeated=6, max_unread=3),
    "phonemes": ReadingLimits("phoneme", 0.2, max_skipped=5, max_repeated=8, max_unread=4),
}


class Failure(IntEnum):
    """How an attempt at a sentence failed, from the best to the worst."""

    NONE = 0
    MISREAD = 1
    ENDLESS = 2

    @classmethod
    def of(cls, problem: str, stopped: bool) -> "Failure":
        """Return the failure of an attempt with a result of `attention_problem`."""
        return (cls.MISREAD if stopped else cls.ENDLESS) if problem else cls.NONE


def max_seconds(text_input: str, num_tokens):
    """Return the longest duration in seconds of a sentence, for a number, array or tensor of tokens."""
    return LIMIT_SECONDS + READING_LIMITS[text_input].seconds_per_token * num_tokens


def attention_problem(
    attention: ArrayLike,
    stopped: bool,
    seconds_per_step: float,
    limits: ReadingLimits = READING_LIMITS["characters"],
) -> str:
    """Return a description of the attention's failure on a sentence, or "" if there is none.

    In correct speech, the attention (steps, L) proceeds from the first token to the last, without skipping or
    repeating words or staying on one token. `stopped` is whether the gate ended the sentence.
    """
    attention = np.asarray(attention)
    length, token = attention.shape[1], limits.token
    position = attention.argmax(axis=1)  # (steps,)
    furthest = np.maximum.accumulate(position)
    if not stopped:
        return f"it did not end; the attention reached {token} {int(furthest[-1]) + 1} of {length}"
    leaps = np.diff(furthest, prepend=0)
    if leaps.max() > limits.max_skipped:
        seconds = seconds_per_step * int(leaps.argmax())
        return f"the attention skips {int(leaps.max())} {token}s after {seconds:.1f} s"
    if length - 1 - furthest[-1] > limits.max_unread:
        return f"it ended {length - 1 - int(furthest[-1])} {token}s too early"
    back = furthest - position
    if back.max() > limits.max_repeated:
        seconds = seconds_per_step * int(back.argmax())
        return f"the attention goes back {int(back.max())} {token}s after {seconds:.1f} s"
    rest = np.bincount(furthest).max() * seconds_per_step
    if rest > limits.max_seconds_on_token:
        return f"the attention stays on one {token} for {rest:.1f} s"
    return ""
