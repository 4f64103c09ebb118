"""Measure systems on test clips, and keep what was measured."""

import importlib.util
import os
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

import torch
from tqdm import tqdm

from audio import read_audio
from dataset import Clip
from evaluation import metrics as measures
from evaluation.cache import digest, read_json_or_nothing, sha256, write_json
from evaluation.metrics import METRICS, Unavailable
from evaluation.report import COLUMNS, SPEED, Table, duration
from evaluation.systems import System
from evaluation.workers import Workers
from utils import UserError

METRIC = {metric.name: metric for metric in METRICS}


class Task(NamedTuple):
    """A clip, and for each system that misses some of its metrics its name, its audio and theirs names."""

    recording: Path
    transcript: str
    missing: list[tuple[str, Path, list[str]]]


def measure_clip(task: Task) -> tuple[str, list[tuple[str, str, float | str]]]:
    """The clip's name, and (system, metric, value, or in words why there is none) for all that is asked."""
    reference, reference_rate, _ = read_audio(task.recording)
    results = []
    for system, path, names in task.missing:
        audio, sampling_rate, _ = read_audio(path)
        for name in names:
            try:
                value = measures.measure(
                    METRIC[name], audio, sampling_rate, reference, reference_rate, task.transcript
                )
            except Unavailable as error:
                value = str(error)
            results.append((system, name, value))
    return task.recording.stem, results


def default_metrics(is_copy_synthesis: bool) -> list[str]:
    """The metrics that mean something: those of the text, or those of time-aligned audio."""
    needs = ("audio", "aligned reference") if is_copy_synthesis else ("audio", "reference", "transcript")
    return [metric.name for metric in METRICS if metric.needs in needs]


def evaluate(
    systems: Sequence[System],
    clips: list[Clip],
    folder: Path,
    metrics: Sequence[str] | None = None,
    is_copy_synthesis: bool = False,
    workers: "Workers | None" = None,
    device: str = "cpu",
    notes: Sequence[str] = (),
) -> Table:
    """Measure systems, the rows in their order, on `clips`; what was measured is kept in `folder`.

    `metrics` are names of `metrics.METRICS` and "rtf", the speed; by default `default_metrics`, and the speed
    where something was made here. A script with `workers` needs `if __name__ == "__main__"`, as their
    processes import it.
    """
    if metrics is None:
        metrics = default_metrics(is_copy_synthesis)
        metrics += [SPEED] if any(system.timings for system in systems) else []
    values = measure_all(systems, clips, folder, metrics, workers or Workers(0), device)
    return Table(list(systems), clips, [COLUMNS[name] for name in metrics], values, tuple(notes))


def measure_all(
    systems: Sequence[System],
    clips: list[Clip],
    folder: Path,
    metrics: Sequence[str],
    workers: Workers,
    device: str,
) -> dict[tuple[str, str, str], float | str]:
    """(system, clip, metric) to the value, or in words why there is none; from `folder` where it has it."""
    values = dict(speeds(systems)) if SPEED in metrics else {}
    names = [name for name in metrics if name != SPEED]
    code = {name: [sha256(Path(measures.__file__))] for name in names}
    if "utmos" in names:
        try:
            code["utmos"].append(utmos_fingerprint())
        except Unavailable as error:
            names.remove("utmos")
            values |= {(s.name, clip.path.stem, "utmos"): str(error) for s in systems for clip in clips}

    tasks, fingerprints = [], {}
    for clip in clips:
        stem, recorded = clip.path.stem, sha256(clip.path)
        found, missing = read_json_or_nothing(folder / f"{stem}.json"), []
        for system in systems:
            audio, wanted = sha256(system.wavs[stem]), []
            for name in names:
                needs = METRIC[name].needs
                if system.is_recording and "reference" in needs:
                    values[system.name, stem, name] = "it is what the others are compared with"
                    continue
                others = {"transcript": clip.transcript, "audio": ""}.get(needs, recorded)
                key = digest(name, code[name], audio, others)
                fingerprints[system.name, stem, name] = key
                entry = found.get(system.name, {}).get(name, {})
                if entry.get("made_with") == key:
                    values[system.name, stem, name] = entry["value"]
                else:
                    wanted.append(name)
            if wanted:
                missing.append((system.name, system.wavs[stem], wanted))
        if missing:
            tasks.append((clip.samples, Task(clip.path, clip.transcript, missing)))

    tasks = [
        task for _, task in sorted(tasks, key=lambda task: -task[0])
    ]  # a long one last would be waited for
    # UTMOS is slow on a CPU, and a GPU is this process's
    here = {"utmos"} if torch.device(device).type == "cuda" else set()
    for runner, asked in ((workers, set(names) - here), (Workers(0), here)):
        parts = [part for task in tasks if (part := task_for(task, asked)).missing]
        results = runner.run(measure_clip, parts)
        for stem, measured in tqdm(results, total=len(parts), desc="Metrics", unit="clip", disable=None):
            values |= {(system, stem, name): value for system, name, value in measured}
            remember_values(folder / f"{stem}.json", stem, measured, fingerprints)
    return values


def task_for(task: Task, names: set[str]) -> Task:
    """The part of a task that has to do with these metrics."""
    missing = [(system, path, [n for n in wanted if n in names]) for system, path, wanted in task.missing]
    return task._replace(missing=[part for part in missing if part[2]])


def remember_values(path: Path, stem: str, measured: list, fingerprints: dict) -> None:
    """Add to a clip's file what was measured. A reason is not kept: a package may be there the next time."""
    found = read_json_or_nothing(path)
    for system, name, value in measured:
        if not isinstance(value, str):
            key = fingerprints[system, stem, name]
            found.setdefault(system, {})[name] = {"made_with": key, "value": value}
    write_json(path, found)


def utmos_fingerprint() -> str:
    """Of UTMOS's weights and code; finds the weights once, for all processes. Raises Unavailable."""
    try:
        from evaluation import utmos

        path = utmos.find_checkpoint()
    except (UserError, ImportError, OSError) as error:
        raise Unavailable(" ".join(str(error).split())) from error
    os.environ[utmos.CHECKPOINT_VARIABLE] = str(path.resolve())  # workers inherit it
    return digest(sha256(path), sha256(Path(importlib.util.find_spec("evaluation.utmos").origin)))


def speeds(systems: Sequence[System]) -> Iterator[tuple[tuple[str, str, str], float | str]]:
    """Real-time factors: seconds of work for a second of audio, each system's on one device."""
    for system in systems:
        for clip, path in system.wavs.items():
            if clip not in system.timings:
                value = "it is a recording" if system.is_recording else "its audio was made elsewhere"
            else:
                seconds, device = system.timings[clip]
                value = seconds / duration(path)
                if device != system.main_device:
                    value = f"made on {device}, unlike the others"
            yield (system.name, clip, SPEED), value
