import math

import librosa
import numpy as np
import pytest
import torch
from helpers import RATE, harmonics, noise, voice

from evaluation import signal
from evaluation.inputs import Unavailable


def test_a_pitch_ten_cents_higher_differs_by_ten_cents():
    pytest.importorskip("parselmouth")
    for cents in (10, -50):
        shifted = harmonics(200 * 2 ** (cents / 1200))
        assert signal.pitch_rmse(shifted, harmonics(200), RATE) == pytest.approx(abs(cents), abs=0.1)


def test_pitch_is_compared_only_where_both_are_voiced():
    pytest.importorskip("parselmouth")
    reference = harmonics(200, 2.0)
    half = np.concatenate([harmonics(200 * 2 ** (20 / 1200)), 0.01 * noise()])
    assert signal.pitch_rmse(half, reference, RATE) == pytest.approx(20, abs=1)
    assert signal.voicing_f1(half, reference, RATE) == pytest.approx(2 / 3, abs=0.02)  # recall is one half
    assert signal.voicing_f1(reference, half, RATE) == pytest.approx(2 / 3, abs=0.02)  # precision is
    assert signal.voicing_f1(noise(2.0), reference, RATE) == pytest.approx(0.0, abs=0.05)


def test_periodicity_is_the_periodic_fraction_of_the_power():
    pytest.importorskip("parselmouth")
    tone, hiss = harmonics(200, 3.0), noise(3.0)
    for share in (0.9, 0.6):
        hoarse = tone + hiss * np.float32(np.sqrt(np.mean(tone**2) * (1 / share - 1) / np.mean(hiss**2)))
        _, periodicity = signal.pitch_track(hoarse, RATE)
        assert np.mean(periodicity) == pytest.approx(share, abs=0.03)
        assert signal.periodicity_rmse(hoarse, tone, RATE) == pytest.approx(1 - share, abs=0.04)


def test_periodicity_is_zero_in_pauses():
    pytest.importorskip("parselmouth")
    _, periodicity = signal.pitch_track(np.concatenate([harmonics(200), 0.01 * harmonics(200)]), RATE)
    assert periodicity[:90].min() > 0.9
    assert periodicity[-90:].max() == 0.0


def test_periodicity_ignores_lags_shorter_than_those_of_voices():
    pytest.importorskip("parselmouth")
    spectrum, frequency = np.fft.rfft(noise(2.0)), np.fft.rfftfreq(2 * RATE, 1 / RATE)
    band = np.fft.irfft(np.where((frequency > 1500) & (frequency < 3500), spectrum, 0)).astype(np.float32)
    _, periodicity = signal.pitch_track(band, RATE)
    assert np.mean(periodicity) < 0.32  # 0.35 with the lags of 600 Hz and more


def test_a_ripple_over_the_bands_is_one_cepstral_coefficient():
    bands = np.arange(80)[:, None] + 0.5
    flat = np.full((80, 5), -3.0)
    for order in (1, 7, 13):
        cepstrum = signal.mel_cepstrum(flat + 2 * 0.25 * np.cos(np.pi * order * bands / 80))
        expected = np.zeros((13, 5))
        expected[order - 1] = 0.25
        np.testing.assert_allclose(cepstrum, expected, atol=1e-12)
        distance = signal.cepstral_distance(cepstrum, signal.mel_cepstrum(flat))
        np.testing.assert_allclose(distance, 10 / math.log(10) * math.sqrt(2) * 0.25)
    beyond = signal.mel_cepstrum(flat + np.cos(np.pi * 14 * bands / 80))
    np.testing.assert_allclose(beyond, 0.0, atol=1e-12)


def test_warping_aligns_sounds_of_different_durations():
    low, high = harmonics(110, 0.5), 0.5 * noise(0.5)
    early = np.concatenate([low[:5000], high, high[:6025]])
    late = np.concatenate([low, high])
    aligned = signal.mel_cepstral_distortion(early, late, RATE)
    assert signal.mel_cepstral_distortion_dtw(early, late, RATE) < 0.3 * aligned
    assert signal.mel_cepstral_distortion_dtw(np.concatenate([low, low]), low, RATE) < 0.1
    assert signal.mel_cepstral_distortion_dtw(voice(0.8, seed=1), voice(1.0), RATE) > 0.1


def test_warping_finds_the_cheapest_path():
    ours, theirs = voice(0.4, seed=1), voice(0.3)
    distances = signal.cepstral_distance(
        signal.mel_cepstrum(signal.log_mel(ours, RATE))[:, :, None],
        signal.mel_cepstrum(signal.log_mel(theirs, RATE))[:, None, :],
    )
    costs = np.full(np.add(distances.shape, 1), np.inf)
    lengths = np.zeros_like(costs)
    costs[0, 0] = 0.0
    for i, j in np.ndindex(distances.shape):
        before = min((i, j), (i, j + 1), (i + 1, j), key=lambda place: costs[place])
        costs[i + 1, j + 1] = costs[before] + distances[i, j]
        lengths[i + 1, j + 1] = lengths[before] + 1
    expected = costs[-1, -1] / lengths[-1, -1]
    assert signal.mel_cepstral_distortion_dtw(ours, theirs, RATE) == pytest.approx(expected)


def test_warping_never_increases_the_distance():
    one, other = voice(1.0), voice(1.0, seed=3)
    assert signal.mel_cepstral_distortion_dtw(one, other, RATE) <= signal.mel_cepstral_distortion(
        one, other, RATE
    )


def test_mel_l1_equals_a_computation_with_librosa(speech):
    audio, _ = speech[1]
    audio = audio[: len(audio) // 256 * 256]
    worse = audio + 0.05 * noise(len(audio) / RATE)

    def ln_mel(clip):
        padded = np.pad(clip, 384, mode="reflect")
        mel = librosa.feature.melspectrogram(
            y=padded, sr=RATE, n_fft=1024, hop_length=256, n_mels=80, fmax=8000, power=1.0, center=False
        )
        return np.log(np.maximum(mel, 1e-5))

    expected = np.abs(ln_mel(worse) - ln_mel(audio)).mean()
    assert signal.mel_l1(worse, audio, RATE) == pytest.approx(expected, abs=1e-3)


def test_the_stft_distance_equals_auraloss():
    auraloss = pytest.importorskip("auraloss", reason="auraloss, to compare with, is not installed")
    ours, theirs = voice(1.0, seed=1), voice(1.0)
    published = auraloss.freq.MultiResolutionSTFTLoss()
    expected = float(published(torch.from_numpy(ours)[None, None], torch.from_numpy(theirs)[None, None]))
    assert signal.multi_resolution_stft(ours, theirs, RATE) == pytest.approx(expected, rel=1e-4)


def test_the_stft_distance_ignores_what_is_below_minus_80_decibels():
    sound = np.concatenate([voice(0.5), np.zeros(8000, dtype=np.float32)])
    audible, inaudible = sound.copy(), sound.copy()
    audible[-8000:], inaudible[-8000:] = 1e-3 * noise(8000 / RATE), 1e-6 * noise(8000 / RATE)
    assert signal.multi_resolution_stft(inaudible, sound, RATE) < 1e-5
    assert signal.multi_resolution_stft(audible, sound, RATE) > 0.1


def test_mel_cepstral_distortion_equals_the_package_mel_cepstral_distance():
    computation = pytest.importorskip(
        "mel_cepstral_distance.computation", reason="mel-cepstral-distance, to compare with, is not installed"
    )
    ours, theirs = voice(1.0, seed=1), voice(1.0)
    # the package's coefficients are sums over the bands, and its distance has no constant factor
    cepstra = [computation.get_MC_X_ik(signal.log_mel(clip, RATE).T, 80) for clip in (ours, theirs)]
    published = computation.get_average_MCD(computation.get_MCD_k(*cepstra, 0, 13))
    expected = published / 80 * 10 / math.log(10) * math.sqrt(2)
    assert signal.mel_cepstral_distortion(ours, theirs, RATE) == pytest.approx(expected)


def test_pitch_of_unvoiced_clips_is_unavailable():
    pytest.importorskip("parselmouth")
    with pytest.raises(Unavailable, match="no frame is voiced in both"):
        signal.pitch_rmse(0.01 * noise(), noise(), RATE)
    with pytest.raises(Unavailable, match="no frame of the reference"):
        signal.voicing_f1(harmonics(200), noise(), RATE)
