import csv
import importlib.util
import inspect
import math
import sys

import librosa
import numpy as np
import pytest
import torch
from helpers import RATE, voice

from audio import read_audio, resample
from evaluation import metrics
from evaluation.metrics import METRICS, Metric, Unavailable, measure

BY_NAME = {metric.name: metric for metric in METRICS}
WITH_REFERENCE = [metric for metric in METRICS if "reference" in metric.needs]
ALIGNED = [metric for metric in METRICS if metric.needs == "aligned reference"]
# UTMOS has its own file and its own tests; here it needs weights that can't be assumed.
OFFLINE = [metric for metric in METRICS if metric.name != "utmos"]
PACKAGES = {
    "dnsmos": "speechmos",
    "pesq": "pesq",
    "wer": "pocketsphinx",
    **dict.fromkeys(("pitch_rmse", "voicing_f1", "periodicity_rmse"), "parselmouth"),
}
GAIN = 10 ** (3 / 20)  # 3 dB

each = {"argnames": "metric", "ids": lambda metric: metric.name}


def need(metric: Metric) -> None:
    if metric.name in PACKAGES:
        pytest.importorskip(PACKAGES[metric.name], reason=f"{metric.name} needs {PACKAGES[metric.name]}")


def harmonics(pitch: float, seconds: float = 1.0, rate: int = RATE) -> np.ndarray:
    """(samples,) of a steady voiced sound, peak about 0.3."""
    time = np.arange(round(seconds * rate)) / rate
    return (0.15 * sum(np.sin(2 * np.pi * k * pitch * time) / k for k in range(1, 12))).astype(np.float32)


def noise(seconds: float = 1.0, rate: int = RATE, seed: int = 0) -> np.ndarray:
    return (0.1 * np.random.default_rng(seed).standard_normal(round(seconds * rate))).astype(np.float32)


@pytest.fixture(scope="module")
def speech(shared) -> list[tuple[np.ndarray, str]]:
    """(audio, transcript) of twelve clips of LJSpeech."""
    folder = shared / "data" / "ljspeech-mini"
    with open(folder / "metadata.csv", encoding="utf-8", newline="") as file:
        rows = sorted(csv.reader(file, delimiter="|", quoting=csv.QUOTE_NONE))
    return [(read_audio(folder / "wavs" / f"{name}.wav")[0], text) for name, _, text in rows[:12]]


# Known answers.


@pytest.mark.parametrize(argvalues=WITH_REFERENCE, **each)
def test_a_clip_is_like_itself(metric):
    need(metric)
    best = {"pesq": 4.644, "voicing_f1": 1.0}.get(metric.name, 0.0)
    assert measure(metric, voice(1.0), RATE, voice(1.0)) == pytest.approx(best, abs=1e-3)


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
def test_three_decibels_more_read_what_they_must(name, expected):
    need(BY_NAME[name])
    # noise in every band: below their floors, the spectral measures would see no gain
    audio = harmonics(150) + 0.3 * noise()
    assert measure(BY_NAME[name], GAIN * audio, RATE, audio) == pytest.approx(expected, abs=2e-3)


def test_a_pitch_ten_cents_higher_reads_ten_cents():
    pytest.importorskip("parselmouth")
    for cents in (10, -50):
        shifted = harmonics(200 * 2 ** (cents / 1200))
        assert metrics.pitch_rmse(shifted, harmonics(200), RATE) == pytest.approx(abs(cents), abs=0.1)


def test_pitch_is_compared_only_where_both_are_voiced():
    pytest.importorskip("parselmouth")
    reference = harmonics(200, 2.0)
    half = np.concatenate([harmonics(200 * 2 ** (20 / 1200)), 0.01 * noise()])
    assert metrics.pitch_rmse(half, reference, RATE) == pytest.approx(20, abs=1)
    assert metrics.voicing_f1(half, reference, RATE) == pytest.approx(2 / 3, abs=0.02)  # recall is a half
    assert metrics.voicing_f1(reference, half, RATE) == pytest.approx(2 / 3, abs=0.02)  # precision is
    assert metrics.voicing_f1(noise(2.0), reference, RATE) == pytest.approx(0.0, abs=0.05)


def test_periodicity_is_the_share_of_power_that_repeats():
    pytest.importorskip("parselmouth")
    tone, hiss = harmonics(200, 3.0), noise(3.0)
    for share in (0.9, 0.6):
        hoarse = tone + hiss * np.float32(np.sqrt(np.mean(tone**2) * (1 / share - 1) / np.mean(hiss**2)))
        _, periodicity = metrics.pitch_track(hoarse, RATE)
        assert np.mean(periodicity) == pytest.approx(share, abs=0.03)
        assert metrics.periodicity_rmse(hoarse, tone, RATE) == pytest.approx(1 - share, abs=0.04)


def test_periodicity_is_zero_in_pauses():
    pytest.importorskip("parselmouth")
    _, periodicity = metrics.pitch_track(np.concatenate([harmonics(200), 0.01 * harmonics(200)]), RATE)
    assert periodicity[:90].min() > 0.9
    assert periodicity[-90:].max() == 0.0


def test_a_ripple_over_the_bands_is_one_cepstral_coefficient():
    bands = np.arange(80)[:, None] + 0.5
    flat = np.full((80, 5), -3.0)
    for order in (1, 7, 13):
        cepstrum = metrics.mel_cepstrum(flat + 2 * 0.25 * np.cos(np.pi * order * bands / 80))
        expected = np.zeros((13, 5))
        expected[order - 1] = 0.25
        np.testing.assert_allclose(cepstrum, expected, atol=1e-12)
        distance = metrics.cepstral_distance(cepstrum, metrics.mel_cepstrum(flat))
        np.testing.assert_allclose(distance, 10 / math.log(10) * math.sqrt(2) * 0.25)
    beyond = metrics.mel_cepstrum(flat + np.cos(np.pi * 14 * bands / 80))
    np.testing.assert_allclose(beyond, 0.0, atol=1e-12)


def test_warping_pairs_what_lasts_longer_in_the_other_reading():
    low, high = harmonics(110, 0.5), 0.5 * noise(0.5)
    early = np.concatenate([low[:5000], high, high[:6025]])
    late = np.concatenate([low, high])
    aligned = metrics.mel_cepstral_distortion(early, late, RATE)
    assert metrics.mel_cepstral_distortion_dtw(early, late, RATE) < 0.3 * aligned
    assert metrics.mel_cepstral_distortion_dtw(np.concatenate([low, low]), low, RATE) < 0.1
    assert metrics.mel_cepstral_distortion_dtw(voice(0.8, seed=1), voice(1.0), RATE) > 0.1


def test_warping_finds_the_cheapest_path():
    ours, theirs = voice(0.4, seed=1), voice(0.3)
    distances = metrics.cepstral_distance(
        metrics.mel_cepstrum(metrics.log_mel(ours, RATE))[:, :, None],
        metrics.mel_cepstrum(metrics.log_mel(theirs, RATE))[:, None, :],
    )
    costs = np.full(np.add(distances.shape, 1), np.inf)
    lengths = np.zeros_like(costs)
    costs[0, 0] = 0.0
    for i, j in np.ndindex(distances.shape):
        before = min((i, j), (i, j + 1), (i + 1, j), key=lambda place: costs[place])
        costs[i + 1, j + 1] = costs[before] + distances[i, j]
        lengths[i + 1, j + 1] = lengths[before] + 1
    expected = costs[-1, -1] / lengths[-1, -1]
    assert metrics.mel_cepstral_distortion_dtw(ours, theirs, RATE) == pytest.approx(expected)


def test_warping_makes_no_pair_of_clips_less_alike():
    one, other = voice(1.0), voice(1.0, seed=3)
    assert metrics.mel_cepstral_distortion_dtw(one, other, RATE) <= metrics.mel_cepstral_distortion(
        one, other, RATE
    )


# Other people's programs.


def test_mel_l1_is_what_librosa_gives(speech):
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
    assert metrics.mel_l1(worse, audio, RATE) == pytest.approx(expected, abs=1e-3)


def test_the_stft_distance_is_that_of_auraloss():
    auraloss = pytest.importorskip("auraloss", reason="auraloss, to compare with, isn't installed")
    ours, theirs = voice(1.0, seed=1), voice(1.0)
    published = auraloss.freq.MultiResolutionSTFTLoss()
    expected = float(published(torch.from_numpy(ours)[None, None], torch.from_numpy(theirs)[None, None]))
    assert metrics.multi_resolution_stft(ours, theirs, RATE) == pytest.approx(expected, rel=1e-4)


def test_mel_cepstral_distortion_is_that_of_the_package_of_that_name():
    computation = pytest.importorskip(
        "mel_cepstral_distance.computation", reason="mel-cepstral-distance, to compare with, isn't installed"
    )
    ours, theirs = voice(1.0, seed=1), voice(1.0)
    # the package's coefficients are plain sums over the bands, and its distance is without the constant
    cepstra = [computation.get_MC_X_ik(metrics.log_mel(clip, RATE).T, 80) for clip in (ours, theirs)]
    published = computation.get_average_MCD(computation.get_MCD_k(*cepstra, 0, 13))
    expected = published / 80 * 10 / math.log(10) * math.sqrt(2)
    assert metrics.mel_cepstral_distortion(ours, theirs, RATE) == pytest.approx(expected)


def test_dnsmos_is_the_packages_own_figure():
    for package in ("speechmos", "requests", "onnxruntime", "onnx"):
        pytest.importorskip(package, reason=f"comparing with speechmos's own program needs {package}")
    from speechmos import dnsmos

    # repeated to six windows, to eight of which rounding leaves out one, and long enough by itself
    for seconds in (1.9, 8.6, 10.5):
        audio = voice(seconds, 16000) + 0.1 * noise(seconds, 16000)
        assert metrics.dnsmos(audio, 16000) == pytest.approx(dnsmos.run(audio, 16000)["ovrl_mos"], abs=2e-4)


def test_pesq_is_the_packages_own_figure():
    pesq = pytest.importorskip("pesq", reason="pesq isn't installed: it needs a C compiler")
    reference = voice(2.0)
    audio = reference + 0.05 * noise(2.0)
    expected = pesq.pesq(16000, resample(reference, RATE, 16000), resample(audio, RATE, 16000), "wb")
    assert metrics.pesq_wideband(audio, reference, RATE) == pytest.approx(expected)
    assert 1.0 < expected < 4.6


def test_edit_distance_is_that_of_jiwer():
    jiwer = pytest.importorskip("jiwer", reason="jiwer, to compare with, isn't installed")
    random = np.random.default_rng(0)
    for _ in range(50):
        wanted, heard = (list(random.choice(list("abcd"), random.integers(1, 9))) for _ in range(2))
        found = jiwer.process_words(" ".join(wanted), " ".join(heard))
        errors = found.substitutions + found.deletions + found.insertions
        assert metrics.edit_distance(wanted, heard) == errors
    assert metrics.edit_distance(["one", "two"], []) == 2
    assert metrics.edit_distance([], ["one"]) == 1


# Real speech.


def test_words_of_real_speech_are_recognised(speech):
    pytest.importorskip("pocketsphinx", reason="the word error rate needs pocketsphinx")
    counts = [metrics.word_errors(audio, RATE, text) for audio, text in speech]
    errors, words = np.sum(counts, axis=0)
    assert 0.17 < errors / words < 0.22
    # in another order, the same
    audio, text = speech[1]
    assert metrics.word_errors(audio, RATE, text) == counts[1]
    assert metrics.word_error_rate(audio, RATE, text) == pytest.approx(100 * counts[1][0] / counts[1][1])


def test_silence_says_none_of_the_words():
    pytest.importorskip("pocketsphinx", reason="the word error rate needs pocketsphinx")
    silence = np.zeros(RATE, np.float32)
    assert metrics.word_error_rate(silence, RATE, "Not a word, of 4.") == 100.0


def test_the_official_v2_generator_scores_as_known(speech, shared):
    from checkpoint import load_generator
    from tacotron2.mel import MelSpectrogram

    generator = load_generator(shared / "pretrained" / "LJ_V2")
    mel_of = MelSpectrogram(metrics.MEL)
    values = {"mel_l1": [], "pesq": []}
    for audio, _ in speech[:5]:
        with torch.inference_mode():
            vocoded = generator(mel_of(torch.from_numpy(audio))[None])[0, 0].numpy()
        assert 0 <= len(audio) - len(vocoded) < 256
        for name, found in values.items():
            if importlib.util.find_spec(PACKAGES.get(name, "numpy")):
                found.append(measure(BY_NAME[name], vocoded, RATE, audio))
    assert np.mean(values["mel_l1"]) == pytest.approx(0.32, abs=0.01)
    if values["pesq"]:
        assert np.mean(values["pesq"]) == pytest.approx(3.02, abs=0.15)


# What can't be had, and says why.


@pytest.mark.parametrize(argvalues=METRICS, **each)
def test_damaged_audio_has_no_score(metric):
    damaged = voice(1.0)
    damaged[100] = np.nan
    with pytest.raises(Unavailable, match="not finite"):
        measure(metric, damaged, RATE, voice(1.0), transcript="a word")
    with pytest.raises(Unavailable, match="empty"):
        measure(metric, damaged[:0], RATE, voice(1.0), transcript="a word")
    with pytest.raises(ValueError, match=r"int16.*floats in \[-1, 1\]"):
        measure(metric, np.zeros(RATE, np.int16), RATE, voice(1.0), transcript="a word")


@pytest.mark.parametrize(argvalues=ALIGNED, **each)
def test_clips_that_are_not_aligned_have_no_score(metric):
    need(metric)
    with pytest.raises(Unavailable, match=r"lasts 1.20 s and its reference 1.00 s"):
        measure(metric, voice(1.2), RATE, voice(1.0))


@pytest.mark.parametrize(argvalues=WITH_REFERENCE, **each)
def test_a_frame_more_or_less_is_no_misfit(metric):
    need(metric)
    whole = voice(1.0)
    cut = measure(metric, whole[: -RATE // 50], RATE, whole)
    assert cut == pytest.approx(measure(metric, whole, RATE, whole), abs=0.05)


@pytest.mark.parametrize(argvalues=OFFLINE, **each)
def test_a_moment_is_too_short_or_has_a_number(metric):
    need(metric)
    moment = voice(1.0)[:200]
    try:
        assert math.isfinite(measure(metric, moment, RATE, moment.copy(), transcript="a word"))
    except Unavailable as error:
        assert "short" in str(error)


@pytest.mark.parametrize(argvalues=OFFLINE, **each)
def test_silence_is_refused_or_has_a_number(metric):
    need(metric)
    silence, sound = np.zeros(RATE, np.float32), voice(1.0)
    for audio, reference in ((silence, sound), (sound, silence), (silence, silence)):
        try:
            assert math.isfinite(measure(metric, audio, RATE, reference, transcript="a word"))
        except Unavailable as error:
            assert "silent" in str(error) or "voiced" in str(error)


@pytest.mark.parametrize(argvalues=[BY_NAME[name] for name in PACKAGES], **each)
def test_a_missing_package_is_named(metric, monkeypatch):
    package = {"parselmouth": "praat-parselmouth"}.get(PACKAGES[metric.name], PACKAGES[metric.name])
    monkeypatch.setitem(sys.modules, PACKAGES[metric.name], None)
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    for cached in (metrics.recogniser, metrics.dnsmos_network):
        cached.cache_clear()
    fresh = voice(1.0, seed=7 + len(metric.name))  # nothing about it is remembered
    with pytest.raises(Unavailable, match=f"pip install {package}"):
        measure(metric, fresh, RATE, fresh, transcript="a word")


def test_utmos_says_what_it_lacks_and_asks_once(monkeypatch):
    asked = []

    class Score:
        def __init__(self):
            asked.append(1)
            raise metrics.UserError("put the weights\nthere")

    monkeypatch.setitem(sys.modules, "evaluation.utmos", type(sys)("evaluation.utmos"))
    sys.modules["evaluation.utmos"].Score = Score
    metrics.utmos_scorer.cache_clear()
    for _ in range(2):
        with pytest.raises(Unavailable, match="put the weights there"):
            metrics.utmos(voice(0.5), RATE)
    assert len(asked) == 1
    metrics.utmos_scorer.cache_clear()


def test_pesq_is_not_computed_where_it_would_crash_or_err():
    pytest.importorskip("pesq", reason="pesq isn't installed: it needs a C compiler")
    with pytest.raises(Unavailable, match=r"30\.0 s"):
        metrics.pesq_wideband(noise(30.0), noise(30.0), RATE)
    with pytest.raises(Unavailable, match=r"0\.25 s"):
        metrics.pesq_wideband(noise(0.2), noise(0.2), RATE)


def test_without_voice_there_is_no_pitch():
    pytest.importorskip("parselmouth")
    with pytest.raises(Unavailable, match="no frame is voiced in both"):
        metrics.pitch_rmse(0.01 * noise(), noise(), RATE)
    with pytest.raises(Unavailable, match="no frame of the reference"):
        metrics.voicing_f1(harmonics(200), noise(), RATE)


def test_what_a_metric_needs_is_asked_for():
    for metric in METRICS:
        if metric.needs != "audio":
            lacking = "transcript" if metric.needs == "transcript" else "reference"
            with pytest.raises(Unavailable, match=f"needs .*{lacking}"):
                measure(metric, voice(0.5), RATE)
    with pytest.raises(Unavailable, match="no words"):
        metrics.word_error_rate(voice(0.5), RATE, " -- ")


# Rates.


def test_a_clip_at_another_rate_is_judged_at_its_references():
    pytest.importorskip("parselmouth")
    reference = harmonics(200, 1.0, 44100)
    candidate = harmonics(200 * 2 ** (10 / 1200), 1.0, 16000)
    assert measure(BY_NAME["pitch_rmse"], candidate, 16000, reference, 44100) == pytest.approx(10, abs=0.2)


def test_distances_mean_the_same_at_any_rate():
    ours, theirs = voice(1.0, 22050, seed=1), voice(1.0, 22050)
    faster = [resample(clip, 22050, 48000) for clip in (ours, theirs)]
    for name in ("mel_l1", "mr_stft", "mcd", "mcd_dtw"):
        there = measure(BY_NAME[name], faster[0], 48000, faster[1], 48000)
        assert there == pytest.approx(measure(BY_NAME[name], ours, 22050, theirs), rel=0.03)


# The list.


def test_the_list_says_what_a_table_must_know():
    assert len(BY_NAME) == len(METRICS) == len({metric.title for metric in METRICS})
    arguments = {
        "audio": ["audio", "sampling_rate"],
        "aligned reference": ["audio", "reference", "sampling_rate"],
        "reference": ["audio", "reference", "sampling_rate"],
        "transcript": ["audio", "sampling_rate", "transcript"],
    }
    for metric in METRICS:
        assert list(inspect.signature(metric.function).parameters) == arguments[metric.needs]
        direction = "higher is better" if metric.higher_is_better else "lower is better"
        assert direction in " ".join(metric.function.__doc__.split())


# Means and differences.


def test_the_interval_is_that_of_scipys_bootstrap():
    from scipy import stats

    values = np.random.default_rng(1).gamma(2.0, size=40)
    interval = metrics.bootstrap_interval(values)
    expected = stats.bootstrap((values,), np.mean, method="percentile", rng=1).confidence_interval
    assert interval.mean == pytest.approx(values.mean())
    assert interval.low == pytest.approx(expected.low, abs=0.02)
    assert interval.high == pytest.approx(expected.high, abs=0.02)
    assert metrics.bootstrap_interval(values) == interval
    narrower = metrics.bootstrap_interval(values, confidence=0.5)
    assert interval.low < narrower.low < narrower.mean < narrower.high < interval.high


def test_the_interval_holds_the_true_mean_as_often_as_it_says():
    random = np.random.default_rng(0)
    intervals = [metrics.bootstrap_interval(random.normal(3.0, 1.0, 60), resamples=500) for _ in range(400)]
    hits = np.mean([interval.low <= 3.0 <= interval.high for interval in intervals])
    assert 0.91 < hits < 0.98


def test_clips_without_a_value_are_left_out_of_the_mean():
    assert metrics.bootstrap_interval([1.0, math.nan, 3.0])[::3] == (2.0, 2)
    one = metrics.bootstrap_interval([4.0])
    assert (one.mean, one.count) == (4.0, 1)
    assert math.isnan(one.low) and math.isnan(one.high)
    assert math.isnan(metrics.bootstrap_interval([math.nan]).mean)


@pytest.mark.parametrize("count", [8, 40], ids=["all signs", "drawn signs"])
def test_the_paired_test_is_scipys_permutation_test(count):
    from scipy import stats

    random = np.random.default_rng(2)
    first = random.normal(3.0, 1.0, count)
    second = first + random.normal(0.3, 1.0, count)
    difference = metrics.paired_difference(first, second)
    expected = stats.permutation_test(
        (second, first), lambda x, y: np.mean(x - y), permutation_type="samples", n_resamples=10_000, rng=3
    )
    assert difference.mean == pytest.approx(np.mean(second - first))
    assert difference.p_value == pytest.approx(expected.pvalue, abs=0.0 if count == 8 else 0.02)
    assert difference.count == count
    assert metrics.paired_difference(first, second) == difference
    assert metrics.paired_difference(second, first).mean == -difference.mean


def test_a_real_difference_is_found_and_none_is_not():
    random = np.random.default_rng(0)
    clips = random.normal(3.0, 1.0, 100)  # clips differ by far more than systems do
    better = clips + 0.05 + random.normal(0.0, 0.1, 100)
    assert metrics.paired_difference(clips, better).p_value < 0.001
    assert metrics.paired_difference(clips, clips) == (0.0, 1.0, 100)
    same = [random.normal(size=(2, 30)) for _ in range(300)]
    alarms = [metrics.paired_difference(*pair, resamples=500).p_value < 0.05 for pair in same]
    assert np.mean(alarms) < 0.09


def test_pairs_need_both_values():
    difference = metrics.paired_difference([1.0, math.nan, 3.0, 1.0], [2.0, 5.0, 4.0, math.nan])
    assert (difference.mean, difference.count) == (1.0, 2)
    assert math.isnan(metrics.paired_difference([math.nan], [1.0]).p_value)
    with pytest.raises(ValueError, match="2 values and 1"):
        metrics.paired_difference([1.0, 2.0], [1.0])
