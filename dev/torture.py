"""Kill a training run at random moments, break its disk and its data, and compare how it ends.

Every disturbed run is resumed until it is finished. Its log and its weights must then equal those of an
undisturbed run, bit for bit. Runs on a CPU, with a small model on generated audio.
"""

import csv
import importlib
import multiprocessing
import os
import random
import runpy
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))
# one thread, so that several processes share the cores; read when PyTorch is imported
os.environ |= {"OMP_NUM_THREADS": "1", "OMP_WAIT_POLICY": "passive", "ACCELERATE_USE_CPU": "true"}

import numpy as np  # noqa: E402

from common.errors import UserError, report_user_errors  # noqa: E402
from common.files import atomic_write  # noqa: E402
from common.options import Options, option, seed_option  # noqa: E402
from common.parser import parse_options  # noqa: E402
from corpus.audio import write_wav  # noqa: E402
from training.checkpoints import Progress, latest_checkpoint  # noqa: E402
from training.metrics_log import read_records  # noqa: E402

STEPS, SAVED_EVERY = 40, 3
REAL_SHARE = 0.05  # of the kills, of processes started as `python train.py`; the others are forked
MAX_STEPS_BEFORE_KILL = 8
TIMEOUT = 600.0  # seconds until a run counts as hanging
CLIPS = 8
SETTINGS = f"""
    --batch_size 2 --segment_size 1024 --training_epochs {STEPS // (CLIPS // 2)} --max_train_steps {STEPS}
    --checkpoint_epochs 3 --keep_checkpoints 2 --checkpoint_steps {SAVED_EVERY} --console_out_iters 1
    --upsample_initial_channel 16 --resblock_kernel_sizes 3 --resblock_dilation_sizes ((1,),)
    --mpd_periods 2 --msd_num_downsamples 0 --discriminator_channels 32
    --resume_from_checkpoint latest
""".split()

FORK = multiprocessing.get_context("fork")


class Run:
    """A training run in `folder`, which can be started again and again."""

    def __init__(self, corpus: Path, folder: Path, log: Path, num_workers: int = 0):
        self.corpus, self.folder, self.log, self.num_workers = corpus, folder, log, num_workers

    def start(self, real: bool = False) -> multiprocessing.Process:
        arguments = ["--experiment_name", self.folder.name, "--working_directory", str(self.folder.parent)]
        arguments += ["--path_to_train_manifest", str(self.corpus / "train.csv")]
        arguments += ["--path_to_val_manifest", str(self.corpus / "test.csv")]
        arguments += [*SETTINGS, "--num_workers", str(self.num_workers)]
        process = FORK.Process(target=train, args=(arguments, self.log, real))
        process.start()
        return process

    def finish(self, process: multiprocessing.Process | None = None) -> tuple[int, str]:
        """Wait for the end of a process, by default a new one; return its exit status and last message."""
        process = process or self.start()
        process.join(TIMEOUT)
        if process.exitcode is None:
            process.kill()
            raise AssertionError(f"a run does not end: see {self.log}")
        lines = [line for line in self.log.read_text(errors="replace").splitlines() if line.strip()]
        return process.exitcode, next((line for line in reversed(lines) if ": error: " in line), "")

    @property
    def steps_logged(self) -> int:
        path = self.folder / "metrics.jsonl"
        return sum(record["split"] == "train" for record in read_records(path)) if path.exists() else 0

    @property
    def steps_saved(self) -> int:
        checkpoint = latest_checkpoint(self.folder) if self.folder.is_dir() else None
        return Progress.of(checkpoint).step if checkpoint else 0

    def end(self) -> tuple[list[dict], dict[str, bytes]]:
        """Return the log without speeds, and the files of the final models."""
        speed = "frames_per_second"
        records = [
            {name: value for name, value in record.items() if name != speed}
            for record in read_records(self.folder / "metrics.jsonl")
        ]
        models = (self.folder / "final_checkpoint").glob("*.safetensors")
        return records, {path.name: path.read_bytes() for path in models}


def train(arguments: list[str], log: Path, real: bool) -> None:
    """Run train.py in this process, or replace this process with `python train.py`."""
    os.setsid()
    os.chdir(ROOT)
    output = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    os.dup2(output, 1)
    os.dup2(output, 2)
    if real:
        os.execv(sys.executable, [sys.executable, "train.py", *arguments])
    sys.argv = ["train.py", *arguments]
    runpy.run_path("train.py", run_name="__main__")
    log.with_suffix(".modules").write_text(" ".join(sys.modules))


def import_modules_of(log: Path) -> None:
    """Import what a finished run has imported, so that forks of this process start quickly."""
    for name in log.with_suffix(".modules").read_text().split():
        with suppress(Exception):
            importlib.import_module(name)


def make_corpus(folder: Path) -> Path:
    """Write clips of 0.1 to 0.3 s and their manifests."""
    generator = np.random.default_rng(0)
    for name, numbers in (("train.csv", range(CLIPS)), ("test.csv", range(CLIPS, CLIPS + 2))):
        rows = []
        for number in numbers:
            audio = 0.1 * generator.standard_normal(2048 + 512 * number).astype(np.float32)
            write_wav(folder / "wavs" / f"{number}.wav", audio, 22050)
            rows.append({"file_path": f"wavs/{number}.wav", "normalized_transcript": "a"})
            rows[-1] |= {"duration": len(audio) / 22050, "samples": len(audio), "peak": np.abs(audio).max()}
        with open(folder / name, "w", newline="") as file:
            writer = csv.DictWriter(file, rows[0])
            writer.writeheader()
            writer.writerows(rows)
    return folder


def wait_until(condition: Callable[[], bool], process: multiprocessing.Process) -> bool:
    """Wait; return whether the condition came true before the process ended."""
    deadline = time.monotonic() + TIMEOUT
    while not condition():
        if process.exitcode is not None or time.monotonic() > deadline:
            return False
        time.sleep(0.002)
    return True


def half_written(folder: Path) -> list[Path]:
    return [*folder.glob(".*.tmp"), *folder.glob("*.replaced")] if folder.is_dir() else []


def kill_once(run: Run, process: multiprocessing.Process, choice: random.Random) -> str | None:
    """Kill a process at a random moment; return what it was doing, or None if it had ended before."""
    done, steps = run.steps_logged, choice.randrange(MAX_STEPS_BEFORE_KILL)
    if not wait_until(lambda: run.steps_logged >= done + steps, process):
        return None
    if steps and choice.random() < 0.4:  # many of the kills are aimed at the writing of checkpoints
        if not wait_until(lambda: bool(half_written(run.folder)), process):
            return None
        time.sleep(choice.uniform(0, 0.02))
    else:
        time.sleep(choice.uniform(0, 0.5 if steps == 0 else 0.1))
    process.kill()
    process.join()
    if process.exitcode != -signal.SIGKILL:
        return None
    left = half_written(run.folder)
    if any(path.suffix == ".replaced" for path in left):
        return "replacing a checkpoint"
    if left:
        return "writing a file or checkpoint"
    return "training or validating" if run.steps_logged > done else "starting and resuming"


def torture(corpus: Path, work: Path, expected: tuple, kills: int, seed: int) -> Counter:
    """Kill runs until there have been `kills` kills or Ctrl+C, and compare how each ends; return counts."""
    choice, counts, number = random.Random(seed), Counter(kills=0), 0
    reals = set(choice.sample(range(kills), -(-round(kills * REAL_SHARE * 100) // 100)))
    try:
        while counts["kills"] < kills:
            run, saved = Run(corpus, work / f"run{number}", work / f"run{number}.log", number % 2), 0
            while counts["kills"] < kills:
                real = counts["kills"] in reals
                doing = kill_once(run, process := run.start(real), choice)
                if doing is None:
                    break
                counts.update(["kills", f"kills while {doing}", *["kills of python train.py"] * real])
                lost = run.steps_logged - run.steps_saved
                counts["steps to repeat"] += max(0, lost)
                counts["most steps to repeat after a kill"] = max(
                    counts["most steps to repeat after a kill"], lost
                )
                assert run.steps_saved >= saved, f"{run.folder} has lost a checkpoint"
                saved = run.steps_saved
                print(f"\r{counts['kills']} kills", end="", flush=True)
            status, message = run.finish(process if process.exitcode is None else None)
            assert status == 0, message
            assert run.end() == expected, f"{run.folder} ended differently"
            counts["finished runs that equal the undisturbed run"] += 1
            shutil.rmtree(run.folder)
            number += 1
    except KeyboardInterrupt:
        process.kill()
    print()
    return counts


def start_and_wait(run: Run, steps: int = 4) -> multiprocessing.Process:
    process = run.start()
    assert wait_until(lambda: run.steps_logged >= steps, process), run.log.read_text()
    return process


def on_disk(folder: Path, command: str, *arguments: str) -> None:
    """Run `mount` or `umount`. Waits while the disk is busy: workers survive a killed run for seconds."""
    deadline = time.monotonic() + 60
    while True:
        done = subprocess.run([command, *arguments, str(folder)], capture_output=True, text=True)
        if not (done.returncode and "busy" in done.stderr and time.monotonic() < deadline):
            return done.check_returncode()
        time.sleep(0.2)


def fill(disk: Path) -> Path:
    """Fill a disk with a file, whose path is returned."""
    with open(disk / "filler", "wb", buffering=0) as file, suppress(OSError):
        while file.write(bytes(4096)):
            pass
    return disk / "filler"


# Each fault yields how the broken run ends, and then removes the cause.
Fault = Iterator[tuple[int, str]]


def full_for_a_while(run: Run) -> Fault:
    process = start_and_wait(run)
    filler = fill(run.folder.parent)
    assert wait_until(lambda: run.log.read_text().count("can't write") >= 3, process), run.log.read_text()
    filler.unlink()
    yield run.finish(process)


def full_until_the_end(run: Run) -> Fault:
    process = start_and_wait(run)
    filler = fill(run.folder.parent)
    yield run.finish(process)
    filler.unlink()


def read_only(run: Run) -> Fault:
    process = start_and_wait(run)
    process.kill()  # a disk can't become read-only while the lock is open
    process.join()
    on_disk(run.folder.parent, "mount", "-oremount,ro")
    yield run.finish()
    on_disk(run.folder.parent, "mount", "-oremount,rw")


def vanished_clip(run: Run) -> Fault:
    process = start_and_wait(run)
    clip = (run.corpus / "wavs" / "3.wav").rename(run.corpus / "wavs" / "3.gone")
    yield run.finish(process)
    clip.rename(clip.with_suffix(".wav"))


def killed_worker(run: Run) -> Fault:
    process = start_and_wait(run)
    children = Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split()
    os.kill(int(children[0]), signal.SIGKILL)
    yield run.finish(process)


FAULTS = {
    "disk full for a while": full_for_a_while,
    "disk full until the end": full_until_the_end,
    "disk read-only at a resume": read_only,
    "clip that vanishes": vanished_clip,
    "killed worker": killed_worker,
}


def break_and_resume(name: str, corpus: Path, disk: Path, expected: tuple) -> str:
    """Return a row of the report: what a run says about a fault, and how it ends after a resume."""
    disk.mkdir()
    try:
        if "disk" in name:
            on_disk(disk, "mount", "tmpfs", "-osize=16m", "-ttmpfs")
        run = Run(corpus, disk / "run", disk.with_suffix(".log"), num_workers=1)
        fault = FAULTS[name](run)
        status, message = next(fault)
        missing = max(0, run.steps_logged - run.steps_saved)
        next(fault, None)
        resumed, reason = run.finish() if status else (0, "")
        assert resumed == 0, reason
        same = "yes" if run.end() == expected else "NO"
    except subprocess.CalledProcessError as error:
        return f"| {name} | not run: {error.stderr.strip()} | | | |"
    finally:
        if disk.is_mount():
            on_disk(disk, "umount")
    message = message.partition("error: ")[2].replace(str(disk.parent), "…") or "warnings, then done"
    return f"| {name} | {status} | {message} | {missing} | {same} |"


def report(counts: Counter, rows: list[str], seconds: float, seed: int) -> str:
    lines = [
        "# Torture report",
        "",
        f"Written by `python dev/torture.py --kills {counts['kills']} --seed {seed}` in "
        f"{seconds / 60:.0f} minutes. A small HiFi-GAN trains for {STEPS} steps on a CPU, with checkpoints "
        f"every {SAVED_EVERY} steps and before validation. SIGKILL ends runs at random moments, and they "
        "are resumed until they are finished. Each of the other faults happens in a run of its own, which is "
        "resumed after the cause is removed.",
        "",
        *("| count | |", "|---|--:|", *(f"| {name} | {count} |" for name, count in counts.items()), ""),
        "| fault | exit status | message | steps to repeat | the resumed run equals the undisturbed run |",
        *("|---|--:|---|--:|---|", *rows),
    ]
    return "\n".join(lines) + "\n"


@dataclass(frozen=True, kw_only=True)
class TortureOptions(Options):
    """Options of `dev/torture.py`."""

    kills: int = option(200, "Number of SIGKILLs; Ctrl+C ends them earlier", minimum=0)
    faults: tuple[str, ...] = option(
        tuple(FAULTS), "Other faults, each in a run of its own; full and read-only disks need the right to "
        "mount one", choices=tuple(FAULTS), may_be_empty=True, metavar="FAULT",
    )  # fmt: skip
    seed: int = seed_option(0, "the moments")
    report: Path | None = option(None, "Write a Markdown file; default: only print it")


@report_user_errors
def main(arguments: list[str] | None = None) -> None:
    options = parse_options(TortureOptions, "torture.py", __doc__, arguments)
    if not hasattr(os, "fork"):
        raise UserError("torture.py needs Linux: it forks processes")
    begin = time.monotonic()
    with tempfile.TemporaryDirectory() as folder:
        work = Path(folder)
        corpus = make_corpus(work / "corpus")
        undisturbed = Run(corpus, work / "undisturbed", work / "undisturbed.log")
        status, _ = undisturbed.finish()
        assert status == 0, undisturbed.log.read_text()
        expected = undisturbed.end()
        import_modules_of(undisturbed.log)
        rows = []
        for name in options.faults:
            rows.append(break_and_resume(name, corpus, work / name.replace(" ", "_"), expected))
            print(rows[-1], flush=True)
        counts = torture(corpus, work, expected, options.kills, options.seed)
    text = report(counts, rows, time.monotonic() - begin, options.seed)
    if options.report:
        with atomic_write(options.report) as temporary:
            temporary.write_text(text, encoding="utf-8")
    print(text)


if __name__ == "__main__":
    main()
