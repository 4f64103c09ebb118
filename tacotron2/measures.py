"""Measures of attention quality, which neither the losses nor a diagonal alignment reveal.

Guided attention that is active for too long teaches the attention to follow the time instead of the text. It
then moves during pauses, and speech without teacher forcing is unintelligible.
"""

import numpy as np
import torch
from torch import Tensor

from mel import MelConfig

MEASURES = ("attention_rest", "attention_sharpness", "attention_skipped", "attention_repeated")
SHORTEST_PAUSE = 0.12  # seconds; the closures of plosives are shorter
SKIPPED_STEPS = 0.1  # a token counts as skipped below this sum of its attention weights
REPEAT_DISTANCE = 2.0  # tokens; noise moves the attention back by less


def attention_measures(
    attention: Tensor, mel: Tensor, config: MelConfig, frames_per_step: int
) -> dict[str, float | None]:
    """Return MEASURES of one sentence's attention (steps, L), without padding, and its mel (num_mels, T).

    - `attention_rest`: 1 - (speed in pauses / speed in speech), in [0, 1]. Speed is the change of the
      attention's mean position per step. About 0 on a straight line, near 1 if the attention waits; None if
      the sentence has no pause of at least SHORTEST_PAUSE.
    - `attention_sharpness`: mean over steps of the largest weight; 1 if each step reads one token.
    - `attention_skipped`: share of tokens whose weights sum to less than SKIPPED_STEPS.
    - `attention_repeated`: share of steps that read more than REPEAT_DISTANCE behind the furthest position.
    """
    attention = attention.float().cpu()
    position = attention @ torch.arange(attention.shape[1], dtype=torch.float32)  # (steps,), in tokens
    behind = position.cummax(0).values - position
    return {
        "attention_rest": rest_in_pauses(position, pauses(mel, config, frames_per_step)),
        "attention_sharpness": attention.amax(1).mean().item(),
        "attention_skipped": (attention.sum(0) < SKIPPED_STEPS).float().mean().item(),
        "attention_repeated": (behind > REPEAT_DISTANCE).float().mean().item(),
    }


def rest_in_pauses(position: Tensor, is_pause: Tensor) -> float | None:
    """Return 1 - (speed in pauses / speed in speech) of the attention's mean position (steps,)."""
    if not is_pause.any():
        return None
    speed = position.diff().abs()  # from each step to the next
    from_pause = is_pause[:-1] & is_pause[1:]
    in_speech = speed[~(is_pause[:-1] | is_pause[1:])].mean()
    ratio = speed[from_pause].mean() / in_speech.clamp(min=1e-3)
    # an attention that hardly moves in speech does not read, and its rest in pauses means nothing
    return float((1 - ratio).clamp(0, 1)) if in_speech > 1e-2 else 0.0


def pauses(mel: Tensor, config: MelConfig, frames_per_step: int) -> Tensor:
    """Return a mask (steps,) of the decoder steps within pauses, except the silence at the clip's ends."""
    level = config.to_ln(mel.float().cpu()).mean(0)  # (T,)
    low, high = level.quantile(0.05), level.quantile(0.95)
    is_quiet = level < low + 0.3 * (high - low)
    steps = -(-len(level) // frames_per_step)
    padded = torch.nn.functional.pad(is_quiet, (0, steps * frames_per_step - len(level)), value=True)
    is_quiet = padded.view(steps, frames_per_step).all(1)

    shortest = max(2, round(SHORTEST_PAUSE * config.sampling_rate / config.hop_size / frames_per_step))
    is_pause = torch.zeros(steps, dtype=torch.bool)
    edges = torch.nn.functional.pad(is_quiet.int(), (1, 1)).diff()
    for first, end in zip(edges.eq(1).nonzero(), edges.eq(-1).nonzero(), strict=True):
        if first > 0 and end < steps and end - first >= shortest:
            is_pause[first:end] = True
    return is_pause


def aligned_difference(first: Tensor, second: Tensor) -> float:
    """Return the mean absolute difference per bin of two mels (num_mels, T), aligned in time.

    Dynamic time warping, because two utterances of a sentence differ in timing.
    """
    import librosa  # slow to import

    one, other = (mel.float().cpu().numpy().astype(np.float64) for mel in (first, second))
    costs, path = librosa.sequence.dtw(one, other, metric="cityblock")
    return float(costs[-1, -1]) / len(path) / len(one)
