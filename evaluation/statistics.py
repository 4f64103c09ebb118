"""Confidence intervals and paired tests of per-clip values, computed by `scipy.stats`."""

import math
from collections.abc import Iterable
from typing import NamedTuple

import numpy as np
from scipy import stats


class Interval(NamedTuple):
    """A mean over `count` clips and its confidence interval."""

    mean: float
    low: float
    high: float
    count: int


class Difference(NamedTuple):
    """The mean of second minus first over `count` clips, and the two-sided p-value of "no difference"."""

    mean: float
    p_value: float
    count: int


def weighted_mean(values: np.ndarray, weights: np.ndarray, axis: int = -1) -> np.ndarray:
    return (values * weights).sum(axis) / weights.sum(axis)


def bootstrap_interval(
    values: Iterable[float],
    weights: Iterable[float] | None = None,
    confidence: float = 0.95,
    resamples: int = 10_000,
    seed: int = 0,
) -> Interval:
    """Return the mean over clips, weighted by `weights` if given, and its percentile bootstrap interval.

    nan values are ignored. The ends of the interval are nan for a single value, and so is the mean without
    values. For a normal distribution, the interval contains the true mean less often than it says: at 95 %,
    in 94 % of cases with 42 clips and in 88 % with 7. Efron and Tibshirani, "An Introduction to the
    Bootstrap" (1993), chapter 13.
    """
    values = np.asarray(list(values), dtype=np.float64)
    valid = ~np.isnan(values)
    values = values[valid]
    if len(values) < 2:
        return Interval(float(values[0]) if len(values) else math.nan, math.nan, math.nan, len(values))
    samples, mean = (values,), np.mean
    if weights is not None:
        samples, mean = (values, np.asarray(list(weights), dtype=np.float64)[valid]), weighted_mean
    low, high = stats.bootstrap(
        samples,
        mean,
        paired=len(samples) > 1,
        n_resamples=resamples,
        confidence_level=confidence,
        method="percentile",
        rng=seed,
    ).confidence_interval
    return Interval(float(mean(*samples)), float(low), float(high), len(values))


def paired_difference(
    first: Iterable[float],
    second: Iterable[float],
    weights: Iterable[float] | None = None,
    resamples: int = 10_000,
    seed: int = 0,
) -> Difference:
    """Test whether two systems differ on the same clips: a two-sided permutation test of the mean difference.

    The mean is weighted by `weights`, one per clip, if given.

    Under the null hypothesis, the sign of each clip's difference is random. The test is exact if there are at
    most `resamples` combinations of signs, and otherwise draws that many. It assumes no distribution. With
    fewer than 6 clips, p cannot be below 0.05. Pairs with a nan are ignored; without pairs, both numbers are
    nan. Fisher, "The Design of Experiments" (1935).

    Raises ValueError if the numbers of values differ.
    """
    first, second = (np.asarray(list(values), dtype=np.float64) for values in (first, second))
    if first.shape != second.shape:
        raise ValueError(f"cannot pair {len(first)} values with {len(second)}")
    differences = second - first
    weights = np.ones_like(differences) if weights is None else np.asarray(list(weights), dtype=np.float64)
    valid = ~np.isnan(differences)
    weights = weights[valid]
    differences = differences[valid] * weights / (weights.mean() if len(weights) else 1.0)
    count = len(differences)
    if count == 0:
        return Difference(math.nan, math.nan, 0)
    if count == 1:  # which scipy refuses: both signs are equally far from 0
        return Difference(float(differences[0]), 1.0, 1)
    test = stats.permutation_test(
        (differences,), np.mean, permutation_type="samples", n_resamples=resamples, vectorized=True, rng=seed
    )
    return Difference(float(differences.mean()), float(test.pvalue), count)
