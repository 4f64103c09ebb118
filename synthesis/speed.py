"""The speed of speech: mels resampled in time, so that the pitch stays as it is."""

from collections.abc import Iterable, Iterator

import torch
from torch import Tensor


def change_speed(mels: Iterable[Tensor], speed: float) -> Iterator[Tensor]:
    """Yield consecutive parts (num_mels, n) of a mel at `speed` times its speed, as soon as possible.

    The T frames of the mel become `round(T / speed)`, at least one. They are interpolated linearly between
    the centers of the frames, so the result does not depend on how the mel is divided into parts.
    """
    if speed == 1:
        yield from mels
        return
    pending: Tensor | None = None  # frames from `start` on
    start = done = 0
    for mel in mels:
        pending = mel if pending is None else torch.cat([pending, mel], dim=1)
        total = start + pending.shape[1]
        # the last frame that lies between two known ones; never more frames than the whole mel has
        end = max(done, int((total - 0.5) / speed - 0.5))
        if end > done:
            yield interpolate(pending, start, done, end, speed)
            done = end
            keep_from = min(max(start, int((done + 0.5) * speed - 0.5)), total - 1)
            pending, start = pending[:, keep_from - start :], keep_from
    if pending is not None:
        end = max(1, round((start + pending.shape[1]) / speed))
        if end > done:
            yield interpolate(pending, start, done, end, speed)


def interpolate(mel: Tensor, start: int, first: int, end: int, speed: float) -> Tensor:
    """Return the frames `first` to `end` of the faster mel from frames of the original from `start` on."""
    last = start + mel.shape[1] - 1
    positions = ((torch.arange(first, end, dtype=torch.float64) + 0.5) * speed - 0.5).clamp(0, last)
    left = positions.long()
    right = (left + 1).clamp(max=last)
    weight = (positions - left).to(mel)
    return mel[:, left - start] * (1 - weight) + mel[:, right - start] * weight
