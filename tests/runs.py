"""Training runs for tests: a small corpus and model, functions that start runs and read their output."""

import csv
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch
from accelerate.state import AcceleratorState, GradientState
from helpers import RATE, ROOT, voice
from safetensors.torch import load_file
from torch import Tensor

import train
from corpus.audio import write_wav

PYTHON = [sys.executable]
SCRIPTS = Path(sys.executable).parent
TORCHRUN = [str(SCRIPTS / "torchrun"), "--standalone", "--nproc_per_node", "2"]
LAUNCH = [str(SCRIPTS / "accelerate"), "launch", "--num_machines", "1", "--mixed_precision", "no"]
LAUNCH += ["--dynamo_backend", "no"]
LAUNCH_ONE = [*LAUNCH, "--cpu", "--num_processes", "1"]
LAUNCH_TWO = [*LAUNCH, "--multi_gpu", "--num_processes", "2", "--main_process_port", "0"]

SMALL_MODEL = {
    "upsample_initial_channel": 16,
    "resblock_kernel_sizes": [3],
    "resblock_dilation_sizes": "((1,3),)",
    "mpd_periods": [2, 3],
    "msd_num_downsamples": 1,
    "discriminator_channels": 32,
}
QUICK = {"segment_size": 2048, "batch_size": 2, "num_workers": 0}
QUICK |= {"console_out_iters": 1, "checkpoint_epochs": 1}


def make_corpus(folder: Path, train_clips: int = 8, val_clips: int = 2) -> Path:
    """Write clips of 0.05 to 0.6 s, some shorter than a segment, with `train.csv` and `test.csv`."""
    rows = []
    for number in range(train_clips + val_clips):
        write_wav(folder / "wavs" / f"clip{number}.wav", voice(0.05 + 0.06 * number, seed=number), RATE)
        rows.append(manifest_row(folder / "wavs" / f"clip{number}.wav"))
    write_manifest(folder / "train.csv", rows[:train_clips])
    write_manifest(folder / "test.csv", rows[train_clips:])
    return folder


def manifest_row(wav: Path) -> dict:
    audio, rate = soundfile.read(wav, dtype="float32")
    peak = float(np.nanmax(np.abs(audio), initial=0.0))
    samples = len(audio)
    row = {"file_path": wav, "normalized_transcript": "a", "duration": samples / rate}
    return row | {"samples": samples, "peak": peak}


def write_manifest(path: Path, rows: list[dict]) -> Path:
    with open(path, "w", encoding="utf-8", newline="") as file:
        writer = csv.DictWriter(file, rows[0])
        writer.writeheader()
        writer.writerows(rows)
    return path


def command_line(corpus: Path, folder: Path, **settings) -> list[str]:
    """Return the flags of a small, quick run in `folder`.

    None omits a flag; True is a flag without a value.
    """
    required = {
        "experiment_name": folder.name,
        "working_directory": folder.parent,
        "path_to_train_manifest": corpus / "train.csv",
        "path_to_val_manifest": corpus / "test.csv",
    }
    arguments = []
    for name, value in (required | SMALL_MODEL | QUICK | settings).items():
        if value is True:
            arguments.append(f"--{name}")
        elif value is not None:
            values = value if isinstance(value, list) else [value]
            arguments += [f"--{name}", *map(str, values)]
    return arguments


@contextmanager
def as_own_process() -> Iterator[None]:
    """Restore what a run changes in its process: signal handlers, threads, Accelerate's singletons."""
    handlers = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    threads, used_cpu = torch.get_num_threads(), os.environ.get("ACCELERATE_USE_CPU")
    os.environ["ACCELERATE_USE_CPU"] = "true"  # also on a machine with a GPU
    try:
        yield
    finally:
        for number, handler in handlers.items():
            signal.signal(number, handler)
        torch.set_num_threads(threads)
        del os.environ["ACCELERATE_USE_CPU"]
        if used_cpu is not None:
            os.environ["ACCELERATE_USE_CPU"] = used_cpu
        AcceleratorState._reset_state(reset_partial_state=True)
        GradientState._reset_state()


def train_here(corpus: Path, folder: Path, **settings) -> Path:
    """Run `train.py` in this process, which saves the imports; return the run's folder."""
    with as_own_process():
        train.main(command_line(corpus, folder, **settings))
    return folder


def start(launcher: list[str], arguments: list[str], **environment: str | None) -> subprocess.Popen:
    """Start `train.py` in a new process group. None removes an environment variable."""
    variables = {**os.environ, "CUDA_VISIBLE_DEVICES": "", **environment}
    return subprocess.Popen(
        [*launcher, "train.py", *arguments],
        cwd=ROOT,
        env={name: value for name, value in variables.items() if value is not None},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )


def finish(process: subprocess.Popen, timeout: float = 120) -> tuple[int, str, str]:
    """Wait for the process; return (exit status, stdout, stderr)."""
    try:
        out, err = process.communicate(timeout=timeout)
    except subprocess.TimeoutExpired:
        kill_group(process)
        raise
    return process.returncode, out, err


def complete(launcher: list[str], arguments: list[str], **environment: str | None) -> str:
    """Run to the end, assert success, and return the output."""
    status, out, err = finish(start(launcher, arguments, **environment))
    assert status == 0, out + err
    return out + err


def kill_group(process: subprocess.Popen) -> None:
    """Kill all processes of a run at once, as a power failure does."""
    os.killpg(process.pid, signal.SIGKILL)
    process.communicate()


def children(pid: int) -> list[int]:
    """Return the processes started by the threads of `pid`."""
    lists = [task / "children" for task in Path(f"/proc/{pid}/task").iterdir()]
    return [int(child) for path in lists for child in path.read_text().split()]


def wait_until(condition: Callable[[], bool], process: subprocess.Popen, seconds: float = 60) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert process.poll() is None, process.communicate()
        assert time.monotonic() < deadline, "nothing has happened for too long"
        time.sleep(0.005)


def has_done(folder: Path, step: int) -> Callable[[], bool]:
    """Return a condition: the run has logged this step."""
    return lambda: any(record["step"] >= step for record in metrics(folder))


def metrics(folder: Path, split: str | None = None) -> list[dict]:
    """Return the records of `metrics.jsonl`, without an incomplete last line."""
    path = folder / "metrics.jsonl"
    lines = path.read_text().splitlines(keepends=True) if path.exists() else []
    records = [json.loads(line) for line in lines if line.endswith("\n")]
    return [record for record in records if split in (None, record["split"])]


def repeatable(records: list[dict]) -> list[dict]:
    """Return the records without the speed."""
    return [{name: record[name] for name in record if name != "frames_per_second"} for record in records]


def weights(checkpoint: Path) -> dict[str, Tensor]:
    """Return all tensors of the three models."""
    return {
        f"{model}.{name}": tensor
        for model in ("generator", "mpd", "msd")
        for name, tensor in load_file(checkpoint / f"{model}.safetensors").items()
    }


def different_weights(first: Path, second: Path) -> list[str]:
    """Return the names of the tensors that are not bitwise equal."""
    one, other = weights(first), weights(second)
    assert one.keys() == other.keys()
    return [name for name in one if not torch.equal(one[name], other[name])]


def error_line(stderr: str) -> str:
    """Return the line with the user error, and assert that there is exactly one."""
    assert "Traceback" not in stderr
    lines = [line for line in stderr.splitlines() if ": error: " in line]
    assert len(lines) == 1, stderr
    return lines[0]


def refused(
    capsys, corpus: Path, folder: Path, train_here: Callable[..., Path] = train_here, **settings
) -> str:
    """Return the error line of a run with these settings."""
    capsys.readouterr()
    with pytest.raises(SystemExit) as stop:
        train_here(corpus, folder, **settings)
    assert stop.value.code == 2
    return error_line(capsys.readouterr().err)
