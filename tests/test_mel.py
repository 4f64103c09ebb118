import json
import math

import librosa
import numpy as np
import pytest
import torch
from helpers import RATE, voice

from common.errors import UserError
from common.plots import plot_mels
from config import HiFiGANConfig
from mel import (
    MelConfig,
    MelSpectrogram,
    check_same_mel,
    convert_mel_scale,
    griffin_lim,
    mel_filter_bank,
    mel_to_magnitude,
)
from training.processes import use_tf32

DB, LN = MelConfig(), MelConfig(mel_scale="ln")
SETTINGS = {
    "default": LN,
    "up to half the rate": MelConfig(mel_scale="ln", fmax=None),
    "16 kHz, hop 240": MelConfig(mel_scale="ln", sampling_rate=16000, hop_size=240),
    "odd edges": MelConfig(mel_scale="ln", hop_size=275),
    "window smaller than n_fft": MelConfig(mel_scale="ln", window_size=800, hop_size=200),
    "odd window in an odd n_fft": MelConfig(mel_scale="ln", n_fft=1001, window_size=601, hop_size=150),
    "44.1 kHz, 128 bands, fmin": MelConfig(
        mel_scale="ln", sampling_rate=44100, n_fft=2048, window_size=2048, hop_size=512, num_mels=128, fmin=30
    ),
}
BY_NAME = {"argvalues": SETTINGS.values(), "ids": SETTINGS.keys()}


def mel_of(audio: np.ndarray, config: MelConfig = LN) -> torch.Tensor:
    return MelSpectrogram(config)(torch.from_numpy(audio))


def librosa_mel(audio: np.ndarray, config: MelConfig) -> np.ndarray:
    """Return the natural-log mel computed with librosa."""
    left = (config.n_fft - config.hop_size) // 2
    padded = np.pad(audio.astype(np.float64), (left, config.n_fft - config.hop_size - left), mode="reflect")
    spectrum = librosa.stft(
        padded, n_fft=config.n_fft, hop_length=config.hop_size, win_length=config.window_size, center=False
    )
    filters = librosa.filters.mel(
        sr=config.sampling_rate,
        n_fft=config.n_fft,
        n_mels=config.num_mels,
        fmin=config.fmin,
        fmax=config.fmax,
    )
    return np.log(np.maximum(filters @ np.abs(spectrum), 1e-5))


def test_the_mel_equals_the_official_one(formula, reference):
    official = reference("mel")
    audio = formula.audio(int(official["samples"]), int(official["seed"]))[0, 0].numpy()
    for name, fmax in (("fmax8000", 8000.0), ("fmax_none", None)):
        mel = mel_of(audio, MelConfig(mel_scale="ln", fmax=fmax))
        # amplitudes, because near the smallest one, 1e-5, the logarithm magnifies rounding, which depends on
        # the processor
        np.testing.assert_allclose(mel.exp().numpy(), np.exp(official[name]), rtol=1e-4, atol=1e-8)


@pytest.mark.parametrize("config", **BY_NAME)
def test_the_mel_equals_librosas(config):
    audio = voice(0.5, config.sampling_rate)
    np.testing.assert_allclose(mel_of(audio, config), librosa_mel(audio, config), atol=2e-3)


@pytest.mark.parametrize("config", **BY_NAME)
def test_the_number_of_frames_is_samples_over_hop_size(config):
    audio = voice(0.3, config.sampling_rate)
    for samples in (
        config.min_samples,
        3 * config.hop_size - 1,
        3 * config.hop_size,
        5 * config.hop_size + 1,
    ):
        mel = mel_of(audio[: max(samples, config.min_samples)], config)
        assert mel.shape == (config.num_mels, max(samples, config.min_samples) // config.hop_size)


@pytest.mark.parametrize("config", **BY_NAME)
def test_audio_too_short_for_a_mel_is_refused_with_both_lengths(config):
    with pytest.raises(ValueError, match=f"{config.min_samples - 1} samples.* {config.min_samples} "):
        mel_of(np.zeros(config.min_samples - 1, np.float32), config)


def test_frame_i_starts_at_sample_i_times_hop_size():
    audio = np.zeros(40 * 256, np.float32)
    audio[17 * 256 + 128] = 1.0
    loudness = mel_of(audio).mean(0)
    assert int(loudness.argmax()) == 17
    np.testing.assert_allclose(loudness[16], loudness[18], atol=1e-3)


def test_leading_dimensions_are_kept_and_a_batch_equals_its_clips():
    frontend = MelSpectrogram(DB)
    audio = torch.from_numpy(np.stack([voice(0.2, seed=seed) for seed in range(6)]))
    alone = torch.stack([frontend(clip) for clip in audio])
    assert alone.shape == (6, 80, len(audio[0]) // 256)
    for leading in ((6,), (6, 1), (2, 3), (1, 2, 3)):
        mel = frontend(audio.reshape(*leading, -1))
        assert mel.shape[:-2] == leading
        torch.testing.assert_close(mel.reshape(alone.shape), alone)


def test_autocast_does_not_change_the_mel():
    frontend, audio = MelSpectrogram(DB), torch.from_numpy(voice(0.2))
    with torch.autocast("cpu", torch.bfloat16):
        mel = frontend(audio)
    assert mel.dtype == torch.float32
    assert torch.equal(mel, frontend(audio))


def test_the_mel_is_computed_in_full_precision_in_a_run_with_tf32(monkeypatch):
    precisions, matmul = [], torch.matmul

    def recorded(*args):
        precisions.append(torch.get_float32_matmul_precision())
        return matmul(*args)

    monkeypatch.setattr(torch, "matmul", recorded)
    use_tf32(True)
    try:
        MelSpectrogram(DB)(torch.from_numpy(voice(0.2)))
        assert precisions == ["highest"]
        assert torch.get_float32_matmul_precision() == "high"  # as before
    finally:
        use_tf32(False)


def test_the_gradient_of_the_mel_equals_finite_differences():
    frontend = MelSpectrogram(DB)
    audio = torch.from_numpy(voice(0.2)).requires_grad_()
    frontend(audio).mean().backward()
    step = 1e-3 * torch.from_numpy(voice(0.2, seed=5))
    with torch.no_grad():
        change = (frontend(audio + step).mean() - frontend(audio - step).mean()) / 2
    assert float(change) == pytest.approx(float((audio.grad * step).sum()), rel=0.05)


@pytest.mark.parametrize("config", [DB, LN, MelConfig(min_db=-160)], ids=["db", "ln", "min_db -160"])
def test_gradients_are_finite_in_digital_silence(config):
    audio = np.concatenate([np.zeros(4000, np.float32), voice(0.2)])
    for clip in (audio, audio[:4000]):
        clip = torch.from_numpy(clip).requires_grad_()
        MelSpectrogram(config)(clip).sum().backward()
        assert torch.isfinite(clip.grad).all()


def test_the_db_scale_is_twenty_log10_with_minus_100_to_0_db_at_minus_4_to_4():
    audio = voice(0.3)
    decibels = 20 * np.log10(np.exp(mel_of(audio, LN).double().numpy()))
    np.testing.assert_allclose(mel_of(audio, DB), (decibels + 100) * 8 / 100 - 4, atol=1e-5)
    ends = np.log(np.array([1e-5, 10**-2.5, 1.0]))
    np.testing.assert_allclose(convert_mel_scale(ends, LN, DB), [-4, 0, 4], atol=1e-12)


def test_min_db_and_max_scaled_abs_set_the_scale():
    config = MelConfig(min_db=-80, max_scaled_abs=1)
    ends = np.log(np.array([1e-4, 1e-2, 1.0]))
    np.testing.assert_allclose(convert_mel_scale(ends, LN, config), [-1, 0, 1], atol=1e-12)
    quiet = mel_of(np.zeros(2000, np.float32), config)
    assert torch.allclose(quiet, torch.tensor(-1.0))


def test_ten_times_the_amplitude_is_one_unit_of_log10_and_2_3_of_ln():
    log10 = MelConfig(mel_scale="log10")
    assert log10.from_ln(math.log(1000.0)) == pytest.approx(3.0)
    assert log10.to_ln(3.0) == pytest.approx(math.log(1000.0))
    # 100 dB are 8 units of the scale "db"
    units = {scale: MelConfig(mel_scale=scale).ln_per_unit for scale in ("ln", "log10", "db")}
    assert units == pytest.approx({"ln": 1.0, "log10": math.log(10.0), "db": 12.5 * math.log(10.0) / 20})


def test_conversion_to_another_scale_is_invertible():
    mel = mel_of(voice(0.3), LN).double()
    for scale in (DB, MelConfig(min_db=-80, max_scaled_abs=1)):
        there = convert_mel_scale(mel, LN, scale)
        torch.testing.assert_close(convert_mel_scale(there, scale, LN), mel, rtol=0, atol=1e-12)
        torch.testing.assert_close(convert_mel_scale(there, scale, scale), there, rtol=0, atol=1e-12)


def test_a_converted_mel_equals_one_computed_in_the_other_scale():
    audio = voice(0.3)
    in_ln, in_db = mel_of(audio, LN), mel_of(audio, DB)
    np.testing.assert_allclose(convert_mel_scale(in_ln, LN, DB), in_db, atol=1e-5)
    np.testing.assert_allclose(convert_mel_scale(in_db, DB, LN), in_ln, atol=1e-5)
    np.testing.assert_allclose(convert_mel_scale(in_ln.numpy(), LN, DB), in_db, atol=1e-5)


def test_nothing_is_clipped_above_0_db():
    sine = np.sin(2 * np.pi * 1000 * np.arange(RATE // 2) / RATE).astype(np.float32)
    loud, louder = mel_of(sine, DB), mel_of(4 * sine, DB)
    assert loud.max() > 5
    top = loud > 4
    assert top.any()
    np.testing.assert_allclose(louder[top] - loud[top], 20 * math.log10(4) * 8 / 100, atol=1e-4)


@pytest.mark.parametrize("config", [DB, LN, MelConfig(min_db=-80, max_scaled_abs=1)], ids=["db", "ln", "-80"])
def test_the_silence_value_equals_the_mel_of_digital_silence(config):
    assert config.silence == pytest.approx({DB: -4.0, LN: math.log(1e-5)}.get(config, -1.0))
    mel = mel_of(np.zeros(5000, np.float32), config)
    np.testing.assert_allclose(mel, np.full(mel.shape, config.silence), rtol=1e-6)


def test_mels_of_other_frequencies_or_frames_are_not_converted():
    with pytest.raises(UserError, match=r"hop_size is 256 in .* 300"):
        convert_mel_scale(np.zeros((80, 3)), LN, MelConfig(hop_size=300))


def test_each_differing_setting_is_named_with_both_values():
    other = {
        "sampling_rate": 16000, "n_fft": 2048, "window_size": 800, "hop_size": 200, "num_mels": 64,
        "fmin": 50.0, "fmax": 7600.0, "mel_scale": "ln", "min_db": -80.0, "max_scaled_abs": 1.0,
    }  # fmt: skip
    for name, value in other.items():
        with pytest.raises(UserError) as error:
            check_same_mel(DB, MelConfig(**{name: value}), "the Tacotron", "the vocoder")
        assert f"{name} is {getattr(DB, name)} in the Tacotron but {value} in the vocoder" in str(error.value)
        assert str(error.value).count(" but ") == 1
    with pytest.raises(UserError) as error:
        check_same_mel(DB, MelConfig(hop_size=200, fmax=None), "a", "b")
    assert "hop_size is 256 in a but 200 in b" in str(error.value)
    assert "fmax is 8000.0 in a but 11025.0 in b" in str(error.value)


def test_equivalent_settings_are_not_a_difference():
    check_same_mel(MelConfig(fmax=None), MelConfig(fmax=11025.0), "a", "b")
    check_same_mel(LN, MelConfig(mel_scale="ln", max_scaled_abs=1.0), "a", "b")
    check_same_mel(DB, HiFiGANConfig(upsample_initial_channel=32), "a", "b")
    check_same_mel(LN, DB, "a", "b", scale_matters=False)


def test_a_configuration_is_unchanged_by_saving_and_loading():
    for config in (*SETTINGS.values(), DB, MelConfig(min_db=-80, max_scaled_abs=1), HiFiGANConfig()):
        assert type(config).from_dict(json.loads(json.dumps(config.to_dict()))) == config


def test_official_key_names_are_read_and_imply_natural_logarithms():
    official = {"win_size": 800, "hop_size": 200, "fmax_for_loss": 9000, "num_freq": 1025, "num_gpus": 0}
    assert MelConfig.from_dict(official) == MelConfig(window_size=800, hop_size=200, mel_scale="ln")
    assert HiFiGANConfig.from_dict({"fmax_for_loss": 9000}).fmax_loss == 9000
    assert MelConfig.from_dict({"mel_scale": "db"}) == DB


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"mel_scale": "log2"}, ["'log2'", "db, ln, log10"]),
        ({"hop_size": 0}, ["hop_size is 0", "at least 1"]),
        ({"num_mels": -1}, ["num_mels", "-1"]),
        ({"max_scaled_abs": 0}, ["max_scaled_abs"]),
        ({"window_size": 2048}, ["2048", "n_fft 1024"]),
        ({"hop_size": 1200}, ["1200", "window_size 1024"]),
        ({"fmax": 12000.0}, ["12000", "11025"]),
        ({"fmin": 9000.0}, ["9000", "8000"]),
        ({"fmin": 8000.0}, ["fmin 8000.0", "fmax 8000.0"]),
        ({"fmin": -1.0}, ["fmin is -1.0", "at least 0"]),
        ({"min_db": 0.0}, ["min_db", "negative"]),
        ({"hop_size": "256"}, ["wrong type"]),
        ({"fmin": None}, ["wrong type"]),
    ],
)
def test_impossible_mel_settings_are_refused_with_the_numbers(settings, words):
    with pytest.raises(UserError) as error:
        MelConfig.from_dict(settings)
    assert all(word in str(error.value) for word in words), error.value


def test_the_extremes_of_mel_settings_are_allowed():
    for settings in ({"sampling_rate": 768_000}, {"hop_size": 1024}, {"fmax": 11025.0}, {"fmin": 7999.0}):
        assert MelConfig.from_dict(settings).to_dict().items() >= settings.items()


@pytest.fixture(scope="module")
def spoken() -> np.ndarray:
    """Half a second of voice between silences, which shows a shift in time."""
    return np.concatenate([np.zeros(4000, np.float32), voice(0.4), np.zeros(6000, np.float32)])


def envelope(audio: np.ndarray) -> np.ndarray:
    level = np.convolve(np.abs(audio), np.hanning(401) / 200, mode="same")
    return level - level.mean()


@pytest.mark.parametrize("config", [DB, LN, MelConfig(hop_size=275)], ids=["db", "ln", "odd edges"])
def test_griffin_lim_keeps_timing_length_and_spectrum(config, spoken):
    mel = mel_of(spoken, config)
    audio = griffin_lim(mel, config, iterations=20)
    assert audio.dtype == np.float32
    assert audio.shape == (mel.shape[1] * config.hop_size,)
    original, again = envelope(spoken[: len(audio)]), envelope(audio)
    lag = int(np.correlate(again, original, mode="full").argmax()) - (len(audio) - 1)
    assert abs(lag) <= 20  # samples; a shift by the padding would be 374 or more
    voiced = mel[:, 20:40]
    error = float((mel_of(audio, config)[:, 20:40] - voiced).abs().mean())
    decibels = error * (20 / math.log(10) if config.mel_scale == "ln" else 100 / 8)
    assert decibels < 1.5


def test_griffin_lim_keeps_the_position_of_a_click():
    audio = np.zeros(40 * 256, np.float32)
    audio[5000] = 0.9
    rebuilt = griffin_lim(mel_of(audio, DB), DB)
    energy = np.convolve(rebuilt**2, np.ones(65), mode="same")
    assert abs(int(energy.argmax()) - 5000) <= 128


def test_griffin_lim_is_reproducible_with_a_seed(spoken):
    mel = mel_of(spoken, DB)
    first, same, other = (griffin_lim(mel, DB, iterations=2, seed=seed) for seed in (3, 3, 4))
    assert np.array_equal(first, same)
    assert not np.allclose(first, other, atol=1e-3)


def test_magnitudes_are_not_negative_and_explain_the_mel_better_than_the_pseudo_inverse(spoken):
    mel = mel_of(spoken, DB).numpy()
    filters = MelSpectrogram(DB).filters.numpy()
    magnitude = mel_to_magnitude(mel, DB)
    assert magnitude.shape == (513, mel.shape[1])
    assert magnitude.min() >= 0
    in_ln = convert_mel_scale(mel, DB, LN)
    error = np.abs(np.log(filters @ magnitude) - in_ln).mean()
    clipped = np.maximum(np.linalg.pinv(filters) @ np.exp(in_ln), 0)
    clipped_error = np.abs(np.log(np.maximum(filters @ clipped, 1e-5)) - in_ln).mean()
    assert error < 0.005 < 0.02 < clipped_error


def test_a_plot_of_mels_has_axes_in_seconds_and_hertz(tmp_path):
    sine = np.sin(2 * np.pi * 2000 * np.arange(RATE) / RATE).astype(np.float32)
    mel = mel_of(sine, DB)
    figure = plot_mels({"real": mel, "generated": mel.numpy()}, DB)
    pictures = [axes for axes in figure.axes if axes.get_title()]
    assert [axes.get_title() for axes in pictures] == ["real", "generated"]
    assert pictures[0].get_xlim() == pytest.approx((0.0, mel.shape[1] * 256 / RATE))
    places = dict(
        zip(
            [tick.get_text() for tick in pictures[0].get_yticklabels()], pictures[0].get_yticks(), strict=True
        )
    )
    assert places["2000"] == pytest.approx(int(mel.mean(1).argmax()), abs=1)
    figure.savefig(tmp_path / "mels.png")
    assert (tmp_path / "mels.png").stat().st_size > 1000


@pytest.mark.parametrize(
    ("settings", "filters"),
    [
        ({}, "slaney"),
        ({"sampling_rate": 48000, "n_fft": 2048, "fmin": 1200, "fmax": 20000}, "slaney"),
        ({"sampling_rate": 24000, "num_mels": 100, "fmax": None}, "htk"),
    ],
)
def test_the_filters_are_librosa_s_to_the_last_bit(settings, filters):
    config, is_htk = MelConfig(**settings, mel_filters=filters), filters == "htk"
    expected = librosa.filters.mel(
        sr=config.sampling_rate, n_fft=config.n_fft, n_mels=config.num_mels,
        fmin=config.fmin, fmax=config.fmax, htk=is_htk, norm=None if is_htk else "slaney",
    )  # fmt: skip
    np.testing.assert_array_equal(mel_filter_bank(config), expected)
