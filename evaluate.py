"""Compare systems on a test set: `python evaluate.py …` makes a table of figures, and a page to listen to.

From text, Tacotron 2 speaks each clip's transcript once, and every vocoder makes audio of the same mels. In
copy synthesis they get the recordings' mels, and can be held against the recordings sample by sample. What
was made and measured is kept, with a fingerprint of all that it depends on: the same command again does only
what is missing.
"""

import hashlib
import importlib.util
import json
import multiprocessing
import os
import platform
import signal
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass, field
from functools import partial
from itertools import islice
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor, nn
from tqdm import tqdm

import metrics as measures
from audio import AUDIO_SUFFIXES, read_audio, write_wav
from checkpoint import load_on_device, load_tacotron2, read_tacotron2_config, weights_fingerprint
from common import (
    ArgumentParser,
    UserError,
    atomic_write,
    available_cores,
    check_seed,
    report_user_errors,
)
from dataset import Clip, read_manifest
from inference import load_vocoder, vocode
from metrics import METRICS, Unavailable
from report import COLUMNS, SPEED, Table, duration
from tacotron2.mel import MelConfig, MelSpectrogram, check_same_mel, convert_mel_scale, griffin_lim
from tacotron2.speak import speak

READY_MADE = GRIFFIN_LIM, HIFIGAN, FINETUNED, GROUND_TRUTH = (
    "Griffin-Lim", "HiFi-GAN", "HiFi-GAN fine-tuned", "Ground truth",
)  # fmt: skip
METRIC = {metric.name: metric for metric in METRICS}
# Part of every fingerprint: a new number when the code here comes to make other audio of the same inputs.
VERSION = 1
# What inference.py calls the audio that it makes of <clip>.
ENDINGS = ("", "_generated", "_generated_e2e")


@dataclass(frozen=True)
class System:
    """A row of the table: its name, and for each clip, by name, its audio file and how that was made.

    `timings` has the seconds that the work took and the device, for audio that was made here.
    """

    name: str
    wavs: dict[str, Path]
    timings: dict[str, tuple[float, str]] = field(default_factory=dict)
    is_recording: bool = False

    @property
    def main_device(self) -> str:
        """The one on which most of its clips were made: a mean of speeds over several would say nothing."""
        return Counter(device for _, device in self.timings.values()).most_common(1)[0][0]


@dataclass(frozen=True)
class MelSource:
    """What vocoders make audio of: for each clip, by name, a fingerprint, and its mels.

    `mels(name, config)` gives (mel (num_mels, T) as `config` has it, seconds of silence behind it) for each
    sentence; `notes` is what readers of the table must know.
    """

    fingerprints: dict[str, str]
    mels: Callable[[str, MelConfig], list[tuple[Tensor, float]]]
    notes: tuple[str, ...] = ()


# Systems.


def recordings(clips: list[Clip]) -> System:
    """The clips themselves."""
    return System(GROUND_TRUTH, {clip.path.stem: clip.path for clip in clips}, is_recording=True)


def folder_system(name: str, folder: Path, clips: list[Clip]) -> System:
    """Audio made elsewhere: `<clip>.wav`, or as inference.py names it. Raises UserError for missing clips."""
    if not folder.is_dir():
        raise UserError(f"there is no folder {folder} for --system {name}; name one as NAME=DIR")
    there = {path.name: path for path in folder.iterdir()}
    wavs = {}
    for clip in clips:
        names = [f"{clip.path.stem}{ending}{suffix}" for ending in ENDINGS for suffix in AUDIO_SUFFIXES]
        wavs[clip.path.stem] = next((there[file] for file in names if file in there), None)
    if missing := [stem for stem, path in wavs.items() if path is None]:
        shown = ", ".join(f"{stem}.wav" for stem in missing[:5]) + (", …" if len(missing) > 5 else "")
        raise UserError(
            f"{folder} of --system {name} lacks {len(missing)} of the {len(clips)} test clips: {shown}; add "
            "them, or name a manifest without them"
        )
    return System(name, wavs)


def true_mels(clips: list[Clip]) -> MelSource:
    """Copy synthesis: the mels of the recordings."""
    paths = {clip.path.stem: clip.path for clip in clips}

    def mels(name: str, config: MelConfig) -> list[tuple[Tensor, float]]:
        audio, sampling_rate, _ = read_audio(paths[name])
        if sampling_rate != config.sampling_rate or len(audio) < config.min_samples:
            raise UserError(
                f"{paths[name]} has {len(audio)} samples at {sampling_rate} Hz; the vocoder needs at least "
                f"{config.min_samples} at {config.sampling_rate} Hz: leave the clip out"
            )
        return [(MelSpectrogram(config)(torch.from_numpy(audio)), 0.0)]

    return MelSource({name: digest("recording", sha256(path)) for name, path in paths.items()}, mels)


def spoken_mels(path: Path, clips: list[Clip], folder: Path, device: str = "cpu", seed: int = 0) -> MelSource:
    """The mels with which the Tacotron 2 at `path` says the clips' transcripts, kept in `folder`."""
    if silent := [clip.path.stem for clip in clips if not any(map(str.isalnum, clip.transcript))]:
        raise UserError(
            f"{len(silent)} clips have no words in their normalized_transcript, the first {silent[0]}; there "
            "is nothing to say: add them to the manifest, or take --copy_synthesis"
        )
    model = load_on_device(load_tacotron2, path, device)
    weights = weights_fingerprint(model)
    fingerprints = {
        clip.path.stem: digest("spoken", weights, model.config.to_dict(), clip.transcript, seed)
        for clip in clips
    }
    records = {name: kept(folder / f"{name}.npz", fingerprint) for name, fingerprint in fingerprints.items()}
    missing = [clip for clip in clips if records[clip.path.stem] is None]
    for clip in tqdm(missing, desc="Tacotron 2", unit="clip", disable=None):
        start = time.perf_counter()
        utterances = speak(model, clip.transcript, seed)
        about = {
            "seconds": time.perf_counter() - start,
            "pauses": [utterance.pause for utterance in utterances],
            "problem": "; ".join(utterance.problem for utterance in utterances if utterance.problem),
        }
        mels = [utterance.mel.numpy() for utterance in utterances]
        name = clip.path.stem
        records[name] = keep(
            folder / f"{name}.npz", fingerprints[name], partial(save_arrays, arrays=mels), about
        )

    def mels(name: str, config: MelConfig) -> list[tuple[Tensor, float]]:
        with np.load(folder / f"{name}.npz", allow_pickle=False) as file:
            arrays = [torch.from_numpy(file[f"arr_{number}"]) for number in range(len(file.files))]
        converted = [convert_mel_scale(mel, model.config, config) for mel in arrays]
        return list(zip(converted, records[name]["pauses"], strict=True))

    notes = ()
    if failed := [name for name, record in records.items() if record["problem"]]:
        shown = "; ".join(f"{name}: {records[name]['problem']}" for name in failed[:3])
        notes = (
            f"Tacotron 2 did not speak {len(failed)} of the {len(clips)} clips well ({shown}"
            f"{'; …' if len(failed) > 3 else ''}), and they count all the same.",
        )
    return MelSource(fingerprints, mels, notes)


def save_arrays(path: Path, arrays: list[np.ndarray]) -> None:
    with atomic_write(path) as temporary, temporary.open("wb") as file:
        np.savez(file, *arrays)


def griffin_lim_system(source: MelSource, config: MelConfig, folder: Path, workers: "Workers") -> System:
    """The baseline without weights, its audio kept in `folder`. Each worker makes clips, on one core."""
    config = MelConfig.from_dict(config.to_dict())  # a model's other settings are nothing to it
    made_with = digest("griffin_lim", config.to_dict())

    def make(names: list[str]) -> Iterator[tuple[str, np.ndarray, float]]:
        tasks = ((name, config, source.mels(name, config)) for name in names)
        yield from workers.run(griffin_lim_clip, tasks)

    device = f"one thread of {processor_name()}" if workers.count else device_name("cpu")
    return made_here(GRIFFIN_LIM, source, made_with, make, folder, config.sampling_rate, device)


def griffin_lim_clip(
    task: tuple[str, MelConfig, list[tuple[Tensor, float]]],
) -> tuple[str, np.ndarray, float]:
    name, config, mels = task
    griffin_lim(mels[0][0][:, :8], config, iterations=1)  # what the first call imports and compiles
    return name, *timed(partial(griffin_lim, config=config), mels, config)


def vocoder_system(name: str, path: Path, source: MelSource, folder: Path, device: str = "cpu") -> System:
    """What the vocoder at `path`, in any form that inference.py takes, makes of mels, kept in `folder`."""
    vocoder = load_vocoder(path, device)
    config = vocoder.config
    # an .onnx file has no weights to ask for; of a checkpoint the file may change and the weights not
    weights = weights_fingerprint(vocoder) if isinstance(vocoder, nn.Module) else sha256(path)
    made_with = digest("vocoder", weights, config.to_dict())

    def audio_of(mel: Tensor) -> np.ndarray:
        return np.concatenate(list(vocode(vocoder, mel, device)))

    def make(names: list[str]) -> Iterator[tuple[str, np.ndarray, float]]:
        for number, clip in enumerate(names):
            mels = source.mels(clip, config)
            if number == 0:
                audio_of(mels[0][0])  # the first call allocates and chooses algorithms
            yield clip, *timed(audio_of, mels, config)

    return made_here(name, source, made_with, make, folder, config.sampling_rate, device_name(device))


def timed(
    audio_of: Callable[[Tensor], np.ndarray], mels: list[tuple[Tensor, float]], config: MelConfig
) -> tuple[np.ndarray, float]:
    """The audio of a clip, its sentences with their pauses between them, and the seconds that it took."""
    start = time.perf_counter()
    parts = []
    for mel, pause in mels:
        parts += [audio_of(mel), np.zeros(round(pause * config.sampling_rate), dtype=np.float32)]
    return np.concatenate(parts[:-1]), time.perf_counter() - start


def made_here(
    name: str,
    source: MelSource,
    made_with: str,
    make: Callable[[list[str]], Iterator[tuple[str, np.ndarray, float]]],
    folder: Path,
    sampling_rate: int,
    device: str,
) -> System:
    """The system whose audio `make` gives, called for those clips alone that `folder` lacks."""
    wavs = {clip: folder / f"{clip}.wav" for clip in source.fingerprints}
    fingerprints = {clip: digest(made_with, of_mel) for clip, of_mel in source.fingerprints.items()}
    records = {clip: kept(path, fingerprints[clip]) for clip, path in wavs.items()}
    missing = [clip for clip, record in records.items() if record is None]
    for clip, audio, seconds in tqdm(
        make(missing) if missing else (), total=len(missing), desc=name, unit="clip", disable=None
    ):
        about = {"seconds": seconds, "device": device}
        records[clip] = keep(
            wavs[clip],
            fingerprints[clip],
            partial(write_wav, audio=audio, sampling_rate=sampling_rate),
            about,
        )
    timings = {clip: (record["seconds"], record["device"]) for clip, record in records.items()}
    return System(name, wavs, timings)


def device_name(device: str) -> str:
    if torch.device(device).type == "cuda":
        return torch.cuda.get_device_name(device)
    threads = torch.get_num_threads()
    return f"{threads} threads of {processor_name()}" if threads > 1 else f"one thread of {processor_name()}"


def processor_name() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        lines = []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor() or platform.machine()


# What is kept, and with what it was made.


def digest(*parts) -> str:
    """A fingerprint of numbers, strings and containers of them."""
    return hashlib.sha256(json.dumps([VERSION, *parts], sort_keys=True).encode()).hexdigest()


def sha256(path: Path) -> str:
    try:
        return hashlib.sha256(path.read_bytes()).hexdigest()
    except OSError as error:
        raise UserError(f"can't read {path}: {error}; check the file, or leave it out") from error


def keep(path: Path, fingerprint: str, write: Callable[[Path], None], about: dict) -> dict:
    """Write a file, and beside it the record of what it was made with; gives the record."""
    record = path.with_suffix(".json")
    record.unlink(missing_ok=True)  # first: a record never stands beside a file that is not its own
    write(path)
    about = about | {"made_with": fingerprint, "sha256": sha256(path)}
    write_json(record, about)
    return about


def kept(path: Path, fingerprint: str) -> dict | None:
    """The record of a file that was made with `fingerprint` and is as it was; else None."""
    about = read_json_or_nothing(path.with_suffix(".json"))
    is_same = about.get("made_with") == fingerprint and path.is_file() and about["sha256"] == sha256(path)
    return about if is_same else None


def read_json_or_nothing(path: Path) -> dict:
    try:
        values = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return values if isinstance(values, dict) else {}


def write_json(path: Path, values: dict) -> None:
    with atomic_write(path) as temporary:
        temporary.write_text(json.dumps(values, indent=1) + "\n", encoding="utf-8")


# Processes.


class Workers:
    """Runs a function on tasks in `count` processes, or for 0 in this one. They start when first needed."""

    def __init__(self, count: int):
        self.count, self.pool = count, None

    def run(self, function: Callable, tasks: Iterable) -> Iterator:
        """What the function gives for each task, in the order in which they end."""
        if self.count == 0:
            yield from map(function, tasks)
            return
        tasks, pending = iter(tasks), set()
        try:
            while True:
                # a few at a time: tasks and what comes of them hold audio
                for task in islice(tasks, 2 * self.count - len(pending)):
                    pending.add(self.start().submit(function, task))
                if not pending:
                    return
                done, pending = wait(pending, return_when=FIRST_COMPLETED)
                for future in done:
                    yield future.result()
        except BrokenProcessPool as error:
            raise UserError(
                "a worker process was killed, perhaps for want of memory; give the same command again, with "
                "fewer --num_workers: what is done is kept"
            ) from error

    def start(self) -> ProcessPoolExecutor:
        if self.pool is None:
            # spawned: a process that has used threads or a GPU can't be forked safely
            self.pool = ProcessPoolExecutor(self.count, multiprocessing.get_context("spawn"), start_worker)
        return self.pool

    def __enter__(self) -> "Workers":
        return self

    def __exit__(self, *_) -> None:
        if self.pool is not None:
            self.pool.shutdown(cancel_futures=True)
            self.pool = None


def start_worker() -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is the main process's to answer
    os.environ["CUDA_VISIBLE_DEVICES"] = ""
    torch.set_num_threads(1)
    threading.Thread(target=end_with_parent, daemon=True).start()


def end_with_parent() -> None:
    """A pool's processes would wait for tasks forever if the one that started them were killed."""
    multiprocessing.parent_process().join()
    os._exit(1)


# Measuring.


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
        import utmos

        path = utmos.find_checkpoint()
    except (UserError, ImportError, OSError) as error:
        raise Unavailable(" ".join(str(error).split())) from error
    os.environ[utmos.CHECKPOINT_VARIABLE] = str(path.resolve())  # workers inherit it
    return digest(sha256(path), sha256(Path(importlib.util.find_spec("utmos").origin)))


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


# The command line.


def build_parser() -> ArgumentParser:
    parser = ArgumentParser(prog="evaluate.py", description=__doc__.splitlines()[0])
    parser.add_argument("--path_to_manifest", type=Path, required=True, help="the test clips")
    parser.add_argument("--input_wavs_dir", type=Path, help="where the clips of an official filelist lie")
    parser.add_argument(
        "--output_dir", type=Path, default=Path("evaluation"),
        help="for table.md, table.csv, clips.csv, report.html, and what they are made of",
    )  # fmt: skip
    group = parser.add_argument_group("systems, the rows of the table; ground truth is the last")
    group.add_argument("--taco_weights", type=Path, help="a Tacotron 2: it speaks the clips' transcripts")
    group.add_argument("--checkpoint_file", type=Path, help="a vocoder, as inference.py takes it")
    group.add_argument("--finetuned_checkpoint_file", type=Path, help="the vocoder after fine-tuning")
    group.add_argument(
        "--copy_synthesis", action="store_true",
        help="vocoders get the recordings' mels, and systems are compared with the recordings in time",
    )  # fmt: skip
    group.add_argument(
        "--system", action="append", default=[], metavar="NAME=DIR",
        help="one more row: a folder of wavs named after the clips; as often as you like",
    )  # fmt: skip
    group = parser.add_argument_group("what is measured")
    group.add_argument(
        "--metrics", nargs="+", choices=list(COLUMNS), metavar="METRIC",
        help=f"of {', '.join(COLUMNS)}; by default those that fit",
    )  # fmt: skip
    group.add_argument("--max_clips", type=int, help="only the first so many clips of the manifest")
    group.add_argument("--report_clips", type=int, default=12, help="clips to hear in report.html")
    group.add_argument("--seed", type=int, default=0, help="of Tacotron 2's dropout")
    group.add_argument(
        "--sampling_rate", type=int, default=22050, help="of the clips in Hz, where no model says it"
    )
    group.add_argument(
        "--num_workers", type=int, default=available_cores(), help="processes; with 0 there is just the one"
    )
    group.add_argument(
        "--device", default="cuda" if torch.cuda.is_available() else "cpu", help="cpu, cuda, cuda:1, …"
    )
    return parser


def check_arguments(args) -> dict[str, Path]:
    """The folders of --system by their names. Raises UserError for flags that don't go together."""
    check_seed(args.seed)
    vocoders = args.checkpoint_file or args.finetuned_checkpoint_file
    if args.copy_synthesis and args.taco_weights:
        raise UserError("--taco_weights speaks text, --copy_synthesis takes the true mels; leave one out")
    if vocoders and not (args.taco_weights or args.copy_synthesis):
        raise UserError(
            "a vocoder needs mels: add --taco_weights for those of a Tacotron 2, or --copy_synthesis for the "
            "recordings' own"
        )
    if not (args.taco_weights or args.copy_synthesis or args.system):
        raise UserError(
            "there is nothing to compare: name --taco_weights and --checkpoint_file, or --copy_synthesis, or "
            "--system NAME=DIR"
        )
    for name, least in (("max_clips", 1), ("report_clips", 0), ("num_workers", 0), ("sampling_rate", 1)):
        if (value := getattr(args, name)) is not None and value < least:
            raise UserError(f"--{name} is {value}; it must be at least {least}")
    if args.num_workers > available_cores():
        print(f"--num_workers {args.num_workers} is more than the {available_cores()} cores: using these")
        args.num_workers = available_cores()
    aligned = [n for n in args.metrics or () if n in METRIC and METRIC[n].needs == "aligned reference"]
    if aligned and not args.copy_synthesis:
        raise UserError(
            f"--metrics {aligned[0]} compares with the recording sample by sample, which speech from text "
            "can't be; leave it out, or take --copy_synthesis"
        )
    try:
        torch.empty(0, device=args.device)
    except (RuntimeError, AssertionError) as error:
        raise UserError(f"can't use --device {args.device}: {error}") from error

    folders = {}
    for text in args.system:
        name, equals, folder = (part.strip() for part in text.partition("="))
        if not (name and equals and folder):
            raise UserError(f"--system {text!r} is not NAME=DIR, such as --system 'WaveNet=wavs/wavenet'")
        if name in folders or name in READY_MADE:
            raise UserError(f"two rows would be called {name!r}; give --system {text!r} another name")
        folders[name] = Path(folder)
    return folders


def read_clips(args, sampling_rate: int) -> list[Clip]:
    clips = read_manifest(args.path_to_manifest, sampling_rate, args.input_wavs_dir)[: args.max_clips]
    stem, count = Counter(clip.path.stem for clip in clips).most_common(1)[0]
    if count > 1:
        raise UserError(f"{count} clips of {args.path_to_manifest} are called {stem}; keep or rename one")
    return clips


def compare(args, folders: dict[str, Path]) -> Table:
    """Make the audio that is to be made, and measure all."""
    paths = {HIFIGAN: args.checkpoint_file, FINETUNED: args.finetuned_checkpoint_file}
    paths = {name: path for name, path in paths.items() if path}
    mel = common_mel_config(args, paths)
    clips = read_clips(args, mel.sampling_rate)
    others = [folder_system(name, folder, clips) for name, folder in folders.items()]
    systems, notes = [], ()
    with Workers(args.num_workers) as workers:
        if args.taco_weights or paths or not others:
            if args.taco_weights:
                mels = args.output_dir / "mels"
                source = spoken_mels(args.taco_weights, clips, mels, args.device, args.seed)
            else:
                source = true_mels(clips)
            notes, wavs = source.notes, args.output_dir / "wavs"
            systems.append(griffin_lim_system(source, mel, wavs / "griffin_lim", workers))
            for name, path in paths.items():
                folder = wavs / name.lower().replace("-", "").replace(" ", "_")
                systems.append(vocoder_system(name, path, source, folder, args.device))
        return evaluate(
            [*systems, *others, recordings(clips)],
            clips,
            args.output_dir / "values",
            args.metrics,
            args.copy_synthesis,
            workers,
            args.device,
            notes,
        )


def common_mel_config(args, paths: dict[str, Path]) -> MelConfig:
    """The settings of Griffin-Lim's mel: Tacotron 2's, or the first vocoder's. Raises UserError for a misfit.

    The vocoders are loaded for it, so that one that can't be is told before Tacotron 2 speaks for minutes.
    """
    configs = {name: load_vocoder(path, args.device).config for name, path in paths.items()}
    if args.taco_weights:
        speaker = read_tacotron2_config(args.taco_weights)
        for name, config in configs.items():
            check_same_mel(speaker, config, str(args.taco_weights), str(paths[name]), scale_matters=False)
        return speaker
    rates = {config.sampling_rate for config in configs.values()}
    if len(rates) > 1:
        raise UserError(
            f"the vocoders make audio of {' and '.join(map(str, sorted(rates)))} Hz; compare two of one rate"
        )
    return next(iter(configs.values()), MelConfig(sampling_rate=args.sampling_rate))


@report_user_errors
def main(arguments: list[str] | None = None) -> None:
    args = build_parser().parse_args(arguments)
    folders = check_arguments(args)
    try:
        args.output_dir.mkdir(parents=True, exist_ok=True)
        table = compare(args, folders)
        table.save(args.output_dir, args.report_clips)
    except OSError as error:
        raise UserError(f"can't write to {args.output_dir}: {error}; name another --output_dir") from error
    except KeyboardInterrupt:
        print("interrupted; the same command goes on from here", file=sys.stderr)
        sys.exit(128 + signal.SIGINT)
    print(table.to_markdown())
    print(args.output_dir / "report.html")


if __name__ == "__main__":
    main()
