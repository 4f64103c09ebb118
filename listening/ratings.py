"""Evaluation of listening tests: which listeners are reliable, and the means of their ratings."""

import math
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from scipy import stats

from common.errors import UserError
from common.files import read_json
from evaluation import RECORDINGS
from evaluation.metrics import Column, Value
from evaluation.table import Table
from listening import KINDS
from listening.pages import ANCHOR, KEY

# A listener is removed whose mean rating of the hidden recordings is lower, or whose ratings of repeated
# sounds differ by more on average; in ABX, who misses more than a quarter of the obvious differences.
LOWEST_RECORDING = {"mos": 3.5, "mushra": 80.0}
LARGEST_CHANGE = {"mos": 1.0, "mushra": 20.0}
FEWEST_CHECKS_PASSED = 0.75

COLUMNS = {
    "mos": Column("mos", "MOS", "", True, "mean opinion score of listeners, 1 to 5", 2),
    "mushra": Column("mushra", "MUSHRA", "", True, "rating next to the recording by listeners, 0 to 100", 1),
}


@dataclass(frozen=True)
class Rating:
    """One answer: a rating of a sound, or in ABX the sound that was chosen."""

    trial: str
    sound: str
    value: float


@dataclass(frozen=True)
class Listener:
    """The answers of one exported file."""

    name: str
    ratings: list[Rating]


def read_key(path: Path) -> dict:
    """Return the key that `write_listening_test` wrote. Raises UserError if it is missing or damaged."""
    if not path.is_file():
        raise UserError(
            f"there is no {path.name} in {path.parent}; use the --output_dir of the --listening_test"
        )
    key = read_json(path)
    sounds, trials = (key.get(name) for name in ("sounds", "trials"))
    is_valid = (
        key.get("kind") in KINDS
        and all(isinstance(part, dict) for part in (sounds, trials))
        and all(has_texts(sound, "system", "clip") for sound in sounds.values())
        and all(is_trial(trial, key["kind"]) for trial in trials.values())
    )
    if not is_valid:
        raise UserError(f"{path} is damaged; restore it, or repeat the listening test")
    return key


def is_trial(trial: Any, kind: str) -> bool:
    if not has_texts(trial, "role") or not isinstance(trial.get("of"), str | None):
        return False
    pair = trial.get("pair")
    is_pair = isinstance(pair, list) and len(pair) == 2 and all(isinstance(name, str) for name in pair)
    return kind != "abx" or (has_texts(trial, "x") and (is_pair or trial["role"] == "repeat"))


def has_texts(values: Any, *names: str) -> bool:
    return isinstance(values, dict) and all(isinstance(values.get(name), str) for name in names)


def read_ratings(paths: Iterable[Path], key: dict) -> list[Listener]:
    """Return the listeners of exported files. Raises UserError for files of another test or another form."""
    listeners = {}
    for path in paths:
        try:
            exported = read_json(path)
            name, test = str(exported["listener"]), exported["test"]
            ratings = [
                Rating(str(r["trial"]), str(r["sound"]), float(r["value"])) for r in exported["ratings"]
            ]
        except (UserError, ValueError, KeyError, TypeError, OverflowError) as error:
            raise UserError(f"{path} is not an export of a listening test: {error!r}") from error
        if not all(math.isfinite(rating.value) for rating in ratings):
            raise UserError(f"{path} has ratings that are not finite; ask the listener for another export")
        known = all(r.trial in key["trials"] and r.sound in key["sounds"] for r in ratings)
        if test != key.get("test") or not known:
            raise UserError(f"{path} belongs to another listening test than {KEY}; use its --output_dir")
        if name in listeners:
            raise UserError(
                f"{path}: there are already ratings of the listener {name}; remove one of the files"
            )
        listeners[name] = Listener(name, ratings)
    return list(listeners.values())


def failed_check(listener: Listener, key: dict) -> str:
    """Return the reason why a listener is unreliable, or ""."""
    kind = key["kind"]
    if kind == "abx":
        checks = [is_correct(r, key) for r in listener.ratings if key["trials"][r.trial]["role"] == "check"]
        missed = bool(checks) and np.mean(checks) < FEWEST_CHECKS_PASSED
        return f"recognized {sum(checks)} of {len(checks)} obvious differences" if missed else ""
    counted = [r for r in listener.ratings if key["trials"][r.trial]["role"] != "training"]
    recordings = [r.value for r in counted if key["sounds"][r.sound]["system"] == RECORDINGS]
    if recordings and np.mean(recordings) < LOWEST_RECORDING[kind]:
        return f"rated the recordings {np.mean(recordings):.1f} on average"
    first = {(r.trial, r.sound): r.value for r in counted}
    changes = [
        abs(r.value - first[original, r.sound])
        for r in counted
        if (original := key["trials"][r.trial].get("of")) and (original, r.sound) in first
    ]
    if changes and np.mean(changes) > LARGEST_CHANGE[kind]:
        return f"changed ratings of repeated sounds by {np.mean(changes):.1f} on average"
    return ""


def is_correct(rating: Rating, key: dict) -> bool:
    return rating.sound == key["trials"][rating.trial]["x"]


def opinions(listeners: Sequence[Listener], key: dict) -> dict[str, dict[str, float]]:
    """Return each listener's ratings by sound, without those of training and repeated trials."""
    return {
        listener.name: {
            r.sound: r.value for r in listener.ratings if key["trials"][r.trial]["role"] == "test"
        }
        for listener in listeners
    }


def mean_opinions(listeners: Sequence[Listener], key: dict) -> dict[tuple[str, str], float]:
    """Return the mean rating of each (system, clip) over listeners."""
    values = defaultdict(list)
    for ratings in opinions(listeners, key).values():
        for sound, value in ratings.items():
            values[key["sounds"][sound]["system"], key["sounds"][sound]["clip"]].append(value)
    return {place: float(np.mean(ratings)) for place, ratings in values.items()}


def agreement(listeners: Sequence[Listener], key: dict) -> float:
    """Return the mean Spearman correlation of a listener's ratings with the mean ratings of the others.

    nan with fewer than 2 listeners, or if no listener's ratings vary.
    """
    given, correlations = opinions(listeners, key), []
    for name, ratings in given.items():
        others = [other for other_name, other in given.items() if other_name != name]
        shared = [sound for sound in ratings if any(sound in other for other in others)]
        own = [ratings[sound] for sound in shared]
        means = [np.mean([other[sound] for other in others if sound in other]) for sound in shared]
        if len(set(own)) > 1 and len(set(means)) > 1:
            correlations.append(stats.spearmanr(own, means).statistic)
    return float(np.mean(correlations)) if correlations else math.nan


def abx_notes(listeners: Sequence[Listener], key: dict) -> list[str]:
    """Return, for each pair of systems, how often X was recognized, with a one-sided binomial test."""
    answers = defaultdict(list)
    for rating in (rating for listener in listeners for rating in listener.ratings):
        trial = key["trials"][rating.trial]
        if trial["role"] == "test":
            answers[tuple(trial["pair"])].append(is_correct(rating, key))
    notes = []
    for (above, below), correct in answers.items():
        p_value = stats.binomtest(sum(correct), len(correct), alternative="greater").pvalue
        shown = "p < 0.001" if p_value < 0.001 else f"p = {p_value:.3f}"
        notes.append(
            f"ABX, {above} and {below}: X recognized in {sum(correct)} of {len(correct)} trials ({shown})."
        )
    return notes


def add_ratings(table: Table, paths: Iterable[Path], folder: Path) -> Table:
    """Return the table with a column or, for ABX, notes from exported ratings.

    `folder` contains the key of the test. Raises UserError if it is missing or does not fit.
    """
    key = read_key(folder / KEY)
    everyone = read_ratings(paths, key)
    failed = {listener.name: failed_check(listener, key) for listener in everyone}
    listeners = [listener for listener in everyone if not failed[listener.name]]
    removed = "; ".join(f"{name} {reason}" for name, reason in failed.items() if reason)
    title = key["kind"].upper()
    count = len(listeners)
    notes = [
        f"{title}: {count} listener{'' if count == 1 else 's'}"
        + (f"; removed: {removed}." if removed else ".")
    ]
    if key["kind"] != "abx":
        notes.append(
            f"{title}: intervals and tests are about other clips for the same listeners, not about others."
        )
    if key["kind"] == "abx":
        notes += abx_notes(listeners, key)
        return Table(table.systems, table.clips, table.columns, table.values, (*table.notes, *notes))
    value = agreement(listeners, key)
    if not math.isnan(value):
        notes.append(
            f"{title}: mean Spearman correlation of a listener with the mean of the others {value:.2f}."
        )
    means = {
        place: Value(mean) for place, mean in mean_opinions(listeners, key).items() if place[0] != ANCHOR
    }
    column = COLUMNS[key["kind"]]
    values = {
        (system.name, clip.path.stem, column.name): means.get(
            (system.name, clip.path.stem), Value(reason="not rated")
        )
        for system in table.systems
        for clip in table.clips
    }
    columns = [column, *table.columns]
    return Table(table.systems, table.clips, columns, table.values | values, (*table.notes, *notes))
