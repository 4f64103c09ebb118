import math

import numpy as np
import pytest

from evaluation import statistics


def test_the_interval_is_about_two_standard_errors_wide_and_repeatable():
    values = np.random.default_rng(1).normal(size=400)
    interval = statistics.bootstrap_interval(values)
    error = values.std(ddof=1) / 20
    assert interval.mean == pytest.approx(values.mean())
    assert interval.low == pytest.approx(values.mean() - 1.96 * error, abs=0.2 * error)
    assert interval.high == pytest.approx(values.mean() + 1.96 * error, abs=0.2 * error)
    assert statistics.bootstrap_interval(values) == interval
    narrower = statistics.bootstrap_interval(values, confidence=0.5)
    assert interval.low < narrower.low < narrower.mean < narrower.high < interval.high


def test_the_interval_contains_the_true_mean_with_its_nominal_frequency():
    random = np.random.default_rng(0)
    intervals = [
        statistics.bootstrap_interval(random.normal(3.0, 1.0, 60), resamples=500) for _ in range(400)
    ]
    hits = np.mean([interval.low <= 3.0 <= interval.high for interval in intervals])
    assert 0.91 < hits < 0.98


def test_the_interval_lies_between_the_percentiles_of_means_of_resampled_clips():
    """A skewed sample, for which other kinds of interval, mirrored or with corrections, differ."""
    values = np.random.default_rng(0).lognormal(sigma=1.5, size=25)
    means = np.random.default_rng(1).choice(values, (20_000, 25)).mean(1)
    low, high = np.percentile(means, [2.5, 97.5])
    interval = statistics.bootstrap_interval(values)
    mirrored = 2 * values.mean() - high
    assert interval.low == pytest.approx(low, abs=0.1 * abs(low - mirrored))
    assert interval.high == pytest.approx(high, rel=0.02)


def test_weights_make_a_mean_of_rates_the_rate_of_all_clips():
    errors, words = np.array([4, 0, 3, 1, 2]), np.array([4, 20, 9, 16, 1])
    rates = [*errors / words, math.nan]
    interval = statistics.bootstrap_interval(rates, [*words, 7])
    assert interval.mean == pytest.approx(10 / 50)
    picks = np.random.default_rng(1).integers(0, 5, (20_000, 5))
    low, high = np.percentile(errors[picks].sum(1) / words[picks].sum(1), [2.5, 97.5])
    assert interval.low == pytest.approx(low, abs=0.02)
    assert interval.high == pytest.approx(high, abs=0.02)

    fewer = [0.5, *rates[1:]]
    difference = statistics.paired_difference(rates, fewer, [*words, 7])
    assert difference == (pytest.approx(-2 / 50), 1.0, 5)
    assert statistics.paired_difference(rates, fewer).mean == pytest.approx(-0.5 / 5)


def test_clips_without_a_value_are_ignored():
    assert statistics.bootstrap_interval([1.0, math.nan, 3.0])[::3] == (2.0, 2)
    one = statistics.bootstrap_interval([4.0])
    assert (one.mean, one.count) == (4.0, 1)
    assert math.isnan(one.low) and math.isnan(one.high)
    assert math.isnan(statistics.bootstrap_interval([math.nan]).mean)


# Fisher, "The Design of Experiments" (1935), section 21: crossed minus self-fertilized maize, in 1/8 inch.
DARWIN = (49, -67, 8, 16, 6, 23, 28, 41, 14, 29, 56, 24, 75, 60, -48)


def test_the_paired_test_reproduces_fishers_analysis_of_darwins_maize():
    exact = statistics.paired_difference(np.zeros(15), DARWIN, resamples=2**15)
    assert exact == (pytest.approx(314 / 15), pytest.approx(1726 / 2**15), 15)
    drawn = statistics.paired_difference(np.zeros(15), DARWIN)
    assert drawn.p_value == pytest.approx(1726 / 2**15, abs=0.01)
    assert statistics.paired_difference(np.zeros(15), DARWIN) == drawn
    assert statistics.paired_difference(DARWIN, np.zeros(15)).mean == -drawn.mean


def test_a_real_difference_is_significant_and_chance_rarely_is():
    random = np.random.default_rng(0)
    clips = random.normal(3.0, 1.0, 100)  # clips differ by far more than systems do
    better = clips + 0.05 + random.normal(0.0, 0.1, 100)
    assert statistics.paired_difference(clips, better).p_value < 0.001
    assert statistics.paired_difference(clips, clips) == (0.0, 1.0, 100)
    same = [random.normal(size=(2, 12)) for _ in range(200)]
    alarms = [statistics.paired_difference(*pair, resamples=500).p_value < 0.05 for pair in same]
    assert np.mean(alarms) < 0.09


def test_pairs_need_both_values():
    difference = statistics.paired_difference([1.0, math.nan, 3.0, 1.0], [2.0, 5.0, 4.0, math.nan])
    assert (difference.mean, difference.count) == (1.0, 2)
    assert math.isnan(statistics.paired_difference([math.nan], [1.0]).p_value)
    assert statistics.paired_difference([1.0], [2.0]) == (1.0, 1.0, 1)
    with pytest.raises(ValueError, match="2 values with 1"):
        statistics.paired_difference([1.0, 2.0], [1.0])
