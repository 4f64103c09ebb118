"""Measurement of systems on test clips, with a cache of the values."""

import os
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

import torch
from tqdm import tqdm

from common.errors import UserError, one_line
from corpus.audio import read_audio
from corpus.manifest import Clip
from evaluation import metrics, utmos
from evaluation.cache import code_of, digest, read_json_or_nothing, sha256, write_json
from evaluation.inputs import Unavailable
from evaluation.metrics import COLUMNS, DEFAULT_RECOGNIZER, METRICS, SPEED, Value, metric_value
from evaluation.recognition import RecognizerModel, find_recognizer
from evaluation.systems import System
from evaluation.table import Table, audio_seconds
from evaluation.workers import Workers

# Networks that are slow on a CPU. With --device cuda, the main process runs them, as it owns the GPU.
ON_GPU = {"utmos", "distillmos"}

Place = tuple[str, str, str]  # system, clip, metric
Values = dict[Place, Value]


class Task(NamedTuple):
    """A recording, and the (system, its audio, metric) to be measured on it."""

    recording: Path
    transcript: str
    recognizer: str
    device: str
    missing: list[tuple[str, Path, str]]


def default_metrics(is_copy_synthesis: bool) -> list[str]:
    """Return the metrics that apply. Only copy synthesis is aligned in time with the recordings."""
    reference = "aligned reference" if is_copy_synthesis else "reference"
    return [metric.name for metric in METRICS.values() if metric.needs in ("audio", "transcript", reference)]


def evaluate(
    systems: Sequence[System],
    clips: list[Clip],
    folder: Path,
    metrics: Sequence[str] | None = None,
    is_copy_synthesis: bool = False,
    workers: Workers | None = None,
    device: str = "cpu",
    notes: Sequence[str] = (),
    recognizer: str = DEFAULT_RECOGNIZER,
) -> Table:
    """Measure systems on clips and return the comparison, one row per system.

    Args:
        systems: the rows of the table, in order.
        folder: the cache of values.
        metrics: names in `METRICS`, and "rtf" for the speed. Defaults to `default_metrics`, and the speed if
            audio was made here.
        workers: processes that measure. A script that passes them needs `if __name__ == "__main__"`.
        device: the device of UTMOS and DistillMOS, which run in the workers unless it is a GPU.
        notes: sentences below the table.
        recognizer: the speech recognizer of the word error rate.
    """
    if metrics is None:
        metrics = default_metrics(is_copy_synthesis)
        metrics += [SPEED] if any(system.timings for system in systems) else []
    values = dict(speeds(systems)) if SPEED in metrics else {}
    names = [name for name in metrics if name != SPEED]
    versions, reasons, whisper = versions_of(names, recognizer)
    for name, reason in reasons.items():
        values |= {
            (system.name, clip.path.stem, name): Value(reason=reason) for system in systems for clip in clips
        }
    if whisper:
        notes = [*notes, f"{COLUMNS['wer'].title}: recognizer Whisper {whisper.name} (faster-whisper, int8)."]
        recognizer = str(whisper.folder)
    values |= measure_all(systems, clips, folder, versions, workers or Workers(0), device, recognizer)
    return Table(list(systems), clips, [COLUMNS[name] for name in metrics], values, tuple(notes))


def versions_of(
    names: list[str], recognizer: str
) -> tuple[dict[str, str], dict[str, str], RecognizerModel | None]:
    """Return (fingerprints of the code and weights of metrics, reasons why others are missing, recognizer).

    Downloads missing weights once, before several processes need them.
    """
    versions, reasons, whisper = {}, {}, None
    for name in names:
        # `metrics` prepares the audio of each of them; what it imports for the others does not count
        made_with = [code_of(METRICS[name].function.__module__), sha256(Path(metrics.__file__))]
        try:
            if name == "wer":
                whisper = find_recognizer(recognizer)
                made_with += [sha256(path) for path in sorted(whisper.folder.iterdir()) if path.is_file()]
            elif name == "utmos":
                made_with.append(utmos_weights())
            versions[name] = digest(*made_with)
        except Unavailable as error:
            reasons[name] = str(error)
    return versions, reasons, whisper


def utmos_weights() -> str:
    """Return a fingerprint of UTMOS's weights. Raises Unavailable if there are none."""
    try:
        path = utmos.find_checkpoint()
    except (UserError, OSError) as error:
        raise Unavailable(one_line(error)) from error
    os.environ[utmos.CHECKPOINT_VARIABLE] = str(path.resolve())  # inherited by the workers
    return sha256(path)


def measure_all(
    systems: Sequence[System],
    clips: list[Clip],
    folder: Path,
    versions: dict[str, str],
    workers: Workers,
    device: str,
    recognizer: str,
) -> Values:
    """Return all values, from the cache in `folder` if possible. `versions` has the metrics' fingerprints."""
    values, fingerprints, tasks = {}, {}, []
    wavs = {system.name: system.wavs for system in systems}
    for clip in sorted(clips, key=lambda clip: -clip.samples):  # the longest first, to balance the workers
        stem = clip.path.stem
        cached, missing = look_up(systems, clip, folder / f"{stem}.json", versions)
        values |= cached
        fingerprints |= missing
        todo = [(system, wavs[system][stem], name) for system, _, name in missing]
        tasks.append(Task(clip.path, clip.transcript, recognizer, "cpu", todo))

    here = ON_GPU if torch.device(device).type == "cuda" else set()
    for runner, place, names in ((workers, "cpu", set(versions) - here), (Workers(0), device, here)):
        parts = [
            task._replace(device=place, missing=[part for part in task.missing if part[2] in names])
            for task in tasks
        ]
        parts = [part for part in parts if part.missing]
        results = runner.run(measure_clip, parts)
        for measured in tqdm(results, total=len(parts), desc="Metrics", unit="clip", disable=None):
            values |= measured
            remember_values(folder, measured, fingerprints)
    return values


def look_up(
    systems: Sequence[System], clip: Clip, path: Path, versions: dict[str, str]
) -> tuple[Values, dict[Place, str]]:
    """Return (the known values of a clip, the fingerprints of the values to be measured)."""
    cached, recording, stem = read_json_or_nothing(path), sha256(clip.path), clip.path.stem
    values, missing = {}, {}
    for system in systems:
        audio = sha256(system.wavs[stem])
        for name, version in versions.items():
            needs = METRICS[name].needs
            if system.is_recording and "reference" in needs:
                values[system.name, stem, name] = Value(
                    reason="the recording is the reference of this metric"
                )
                continue
            other = {"transcript": clip.transcript, "audio": ""}.get(needs, recording)
            fingerprint = digest(name, version, audio, other)
            entry = cached.get(system.name, {}).get(name, {})
            if entry.get("made_with") == fingerprint:
                values[system.name, stem, name] = Value(entry["value"])
            else:
                missing[system.name, stem, name] = fingerprint
    return values, missing


def measure_clip(task: Task) -> Values:
    """Return the missing values of a clip."""
    reference, reference_rate, _ = read_audio(task.recording)
    audios = {path: read_audio(path)[:2] for path in {path for _, path, _ in task.missing}}
    values = {}
    for system, path, name in task.missing:
        try:
            inputs = reference, reference_rate, task.transcript, task.recognizer, task.device
            value = Value(metric_value(METRICS[name], *audios[path], *inputs))
        except Unavailable as error:
            value = Value(reason=str(error))
        values[system, task.recording.stem, name] = value
    return values


def remember_values(folder: Path, measured: Values, fingerprints: dict[Place, str]) -> None:
    """Add a clip's values to its file. Reasons are not cached: a missing package may be installed later."""
    path = folder / f"{next(iter(measured))[1]}.json"
    cached = read_json_or_nothing(path)
    for (system, stem, name), value in measured.items():
        if not value.reason:
            entry = {"made_with": fingerprints[system, stem, name], "value": value.number}
            cached.setdefault(system, {})[name] = entry
    write_json(path, cached)


def speeds(systems: Sequence[System]) -> Iterator[tuple[Place, Value]]:
    """Yield real-time factors: seconds of computation per second of audio, on one device per system."""
    for system in systems:
        for clip, path in system.wavs.items():
            if clip not in system.timings:
                reason = "recordings are not synthesized" if system.is_recording else "audio made elsewhere"
                value = Value(reason=reason)
            else:
                seconds, device = system.timings[clip]
                value = Value(seconds / audio_seconds(path))
                if device != system.main_device:
                    value = Value(reason=f"made on {device}, unlike the others")
            yield (system.name, clip, SPEED), value
