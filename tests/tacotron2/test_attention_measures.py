"""Measures of the attention, on alignments made by hand."""

import pytest
import torch

from mel import MelConfig
from tacotron2.measures import aligned_difference, attention_measures, pauses

CONFIG = MelConfig()
WORDS, TOKENS_PER_WORD, STEPS_PER_TOKEN, PAUSE_STEPS = 4, 6, 3, 12
LENGTH = WORDS * TOKENS_PER_WORD
FRAMES_PER_STEP = 2


def speech() -> tuple[torch.Tensor, torch.Tensor]:
    """The token that is spoken in each decoder step (steps,), and the mel, with pauses between words."""
    tokens, levels = [], []
    for word in range(WORDS):
        for token in range(word * TOKENS_PER_WORD, (word + 1) * TOKENS_PER_WORD):
            tokens += [token] * STEPS_PER_TOKEN
            levels += [0.0] * STEPS_PER_TOKEN
        tokens += [tokens[-1]] * PAUSE_STEPS
        levels += [-3.8] * PAUSE_STEPS
    mel = torch.tensor(levels).repeat_interleave(FRAMES_PER_STEP).expand(80, -1)
    return torch.tensor(tokens), mel + 0.1 * torch.randn(mel.shape, generator=torch.manual_seed(0))


def reading(positions: torch.Tensor, width: float = 0.1) -> torch.Tensor:
    """Attention (steps, LENGTH) around a position per step."""
    distance = torch.arange(LENGTH) - positions.unsqueeze(1)
    return torch.softmax(-(distance**2) / (2 * width**2), dim=1)


def measures(attention: torch.Tensor) -> dict:
    return attention_measures(attention, speech()[1], CONFIG, FRAMES_PER_STEP)


TOKENS = speech()[0].float()


def test_pauses_are_found_between_words_and_not_at_the_end():
    is_pause = pauses(speech()[1], CONFIG, FRAMES_PER_STEP)
    word = [False] * TOKENS_PER_WORD * STEPS_PER_TOKEN + [True] * PAUSE_STEPS
    assert is_pause.tolist() == word * (WORDS - 1) + [False] * len(word)


def test_a_silence_as_short_as_the_closure_of_a_plosive_is_no_pause():
    level = torch.zeros(120)
    level[40:48] = level[70:82] = -3.8  # 0.09 s and 0.14 s
    is_pause = pauses(level.expand(80, -1), CONFIG, FRAMES_PER_STEP)
    assert is_pause.nonzero().flatten().tolist() == [35, 36, 37, 38, 39, 40]


def test_waiting_in_pauses_is_measured_as_best():
    found = measures(reading(TOKENS))
    assert found["attention_rest"] > 0.95 and found["attention_sharpness"] > 0.95
    assert found["attention_skipped"] == found["attention_repeated"] == 0


def test_a_straight_line_is_sharp_and_complete_but_does_not_rest():
    found = measures(reading(torch.linspace(0, LENGTH - 1, len(TOKENS))))
    assert found["attention_rest"] < 0.1
    assert found["attention_sharpness"] > 0.8
    assert found["attention_skipped"] == found["attention_repeated"] == 0


def test_a_blurred_attention_is_not_sharp():
    assert measures(reading(TOKENS, width=3.0))["attention_sharpness"] < 0.25
    unread = measures(torch.full((len(TOKENS), LENGTH), 1 / LENGTH))
    assert unread["attention_sharpness"] == pytest.approx(1 / LENGTH)
    assert unread["attention_rest"] == 0


def test_a_skipped_word_and_a_repeated_word_are_counted():
    skipping = TOKENS.clone()
    skipping[(TOKENS >= TOKENS_PER_WORD) & (TOKENS < 2 * TOKENS_PER_WORD)] = 2 * TOKENS_PER_WORD
    found = measures(reading(skipping))
    assert found["attention_skipped"] == pytest.approx(1 / WORDS)
    assert found["attention_repeated"] == 0

    repeating = TOKENS.clone()
    second = TOKENS >= TOKENS_PER_WORD
    repeating[second] -= TOKENS_PER_WORD  # the first word twice, the last word never
    repeated = measures(reading(repeating))
    assert 0 < repeated["attention_repeated"] < 0.25
    assert repeated["attention_skipped"] == pytest.approx(1 / WORDS)


def test_a_clip_without_a_pause_has_no_measure_of_rest():
    mel = 0.1 * torch.randn(80, len(TOKENS) * FRAMES_PER_STEP, generator=torch.manual_seed(0))
    found = attention_measures(reading(TOKENS), mel, CONFIG, FRAMES_PER_STEP)
    assert found["attention_rest"] is None and found["attention_sharpness"] > 0.95


def test_mels_that_differ_only_in_timing_have_no_difference():
    mel = torch.randn(80, 30, generator=torch.manual_seed(1))
    slower = mel.repeat_interleave(2, dim=1)
    assert aligned_difference(mel, slower) == pytest.approx(0)
    assert aligned_difference(mel, slower + 0.5) == pytest.approx(0.5, rel=0.05)
    assert aligned_difference(mel, torch.randn(80, 60, generator=torch.manual_seed(2))) > 0.8
