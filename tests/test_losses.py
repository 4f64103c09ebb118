import math

import numpy as np
import pytest
import scipy.signal
import torch
from numpy.lib.stride_tricks import sliding_window_view

from losses import (
    adversarial_loss,
    discriminator_loss,
    feature_matching_loss,
    mel_loss,
    multi_resolution_stft_loss,
)

REAL = [torch.tensor([[1.0, 0.5]]), torch.tensor([[0.0], [2.0], [1.0]])]
GENERATED = [torch.tensor([[0.0, 0.5]]), torch.tensor([[1.0], [0.0], [-1.0]])]


def test_the_discriminator_loss_is_minimal_at_real_scores_of_1_and_generated_scores_of_0():
    first = (0 + 0.25) / 2 + (0 + 0.25) / 2
    second = (1 + 1 + 0) / 3 + (1 + 0 + 1) / 3
    assert float(discriminator_loss(REAL, GENERATED)) == pytest.approx(first + second)
    perfect = discriminator_loss([torch.ones(2, 3)], [torch.zeros(2, 3)])
    assert float(perfect) == 0.0


def test_the_adversarial_loss_is_minimal_at_scores_of_1():
    assert float(adversarial_loss(GENERATED)) == pytest.approx((1 + 0.25) / 2 + (0 + 1 + 4) / 3)
    assert float(adversarial_loss([torch.ones(2, 3)])) == 0.0


def test_feature_matching_sums_the_mean_differences_of_all_layers_unweighted():
    real = [[torch.zeros(1, 2, 2), torch.ones(1, 3)], [torch.full((2, 1), 5.0)]]
    generated = [
        [torch.full((1, 2, 2), 0.5), torch.tensor([[1.0, 4.0, 1.0]])],
        [torch.tensor([[3.0], [5.0]])],
    ]
    assert float(feature_matching_loss(real, generated)) == pytest.approx(0.5 + 1.0 + 1.0)
    assert float(feature_matching_loss(real, real)) == 0.0


def test_the_mel_loss_is_the_mean_absolute_difference():
    real = torch.tensor([[[0.0, 1.0], [2.0, 3.0]]])
    generated = torch.tensor([[[1.0, 1.0], [2.0, 0.0]]])
    assert float(mel_loss(real, generated)) == pytest.approx((1 + 3) / 4)


def test_every_loss_is_a_scalar_with_a_gradient_for_the_generated_audio():
    scores = [score.clone().requires_grad_() for score in GENERATED]
    maps = [[torch.rand(1, 4, 5, requires_grad=True)], [torch.rand(1, 2, requires_grad=True)]]
    real_maps = [[torch.rand_like(layer) for layer in layers] for layers in maps]
    losses = (
        discriminator_loss(REAL, scores) + adversarial_loss(scores),
        feature_matching_loss(real_maps, maps),
        mel_loss(real_maps[0][0], maps[0][0]),
    )
    assert all(loss.shape == () for loss in losses)
    sum(losses).backward()
    for tensor in (*scores, *(layer for layers in maps for layer in layers)):
        assert tensor.grad.abs().sum() > 0


@pytest.mark.parametrize("loss", [discriminator_loss, feature_matching_loss])
def test_lists_of_unequal_length_are_refused(loss):
    one, two = [torch.zeros(1, 2)], [torch.zeros(1, 2)] * 2
    with pytest.raises(ValueError):
        loss(one, two) if loss is discriminator_loss else loss([one], [two])


def test_the_stft_loss_is_zero_for_the_same_audio_and_grows_with_the_difference():
    torch.manual_seed(0)
    real = torch.randn(2, 1, 4096)
    assert multi_resolution_stft_loss(real, real) == 0
    half, tenth = (multi_resolution_stft_loss(real, factor * real) for factor in (0.5, 0.1))
    # at each of 3 resolutions: the relative difference, and that of the logarithms
    assert half.item() == pytest.approx(3 * (0.5 + math.log(2)), rel=1e-3)
    assert tenth.item() == pytest.approx(3 * (0.9 + math.log(10)), rel=0.02)


def test_the_stft_loss_follows_its_formula_down_to_minus_80_db():
    """Audio whose second half is far below the clamp, which a computation with scipy does not resolve."""
    random = np.random.default_rng(0)
    real, generated = random.normal(size=(2, 6000)) * np.where(np.arange(6000) < 3000, 0.1, 1e-6)
    total = 0.0
    for size in (512, 1024, 2048):
        hop, window = size // 4, scipy.signal.get_window("hann", size)
        magnitudes = []
        for audio in (real, generated):
            frames = sliding_window_view(np.pad(audio, size // 2, mode="reflect"), size)[::hop]
            magnitudes.append(np.sqrt(np.abs(np.fft.rfft(frames * window)) ** 2 + 1e-9))
        logarithms = [np.log(np.maximum(magnitude, 1e-4)) for magnitude in magnitudes]
        total += np.abs(magnitudes[0] - magnitudes[1]).mean() / magnitudes[0].mean()
        total += np.abs(logarithms[0] - logarithms[1]).mean()
    given = (torch.from_numpy(audio).float().view(1, 1, -1) for audio in (real, generated))
    assert float(multi_resolution_stft_loss(*given)) == pytest.approx(total, rel=1e-4)


def test_silence_has_a_finite_gradient_in_the_stft_loss():
    generated = torch.zeros(1, 1, 4096, requires_grad=True)
    multi_resolution_stft_loss(torch.randn(1, 1, 4096), generated).backward()
    assert generated.grad.isfinite().all()
