"""Read damaged files and unusual text with everything that reads input: `python dev/fuzz.py`.

A reader may accept an input or raise `UserError`. Other exceptions, crashes, more than 20 s of CPU time and
more than 2 GB of memory are failures: their inputs and tracebacks are written to --output_dir. Hypothesis
chooses the inputs, most of them valid files with a few changes. Needs requirements-dev.txt.
"""

import multiprocessing
import os
import re
import resource
import signal
import sys
import time
import traceback
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path

import torch
from hypothesis import HealthCheck, Phase, given, seed, settings

if not __package__:  # run as `python dev/fuzz.py`, which puts only dev/ on the path
    root = Path(__file__).resolve().parent.parent
    sys.path[:0] = [str(root), str(root / "tests")]

from readers import READERS, Reader, read_one

from common.errors import UserError, report_user_errors
from common.files import atomic_write
from common.options import Options, option, seed_option
from common.parser import parse_options

MAX_SECONDS = 20  # CPU time per input
MAX_BYTES = 2 << 30  # memory in addition to that of the imports
SLICE_SECONDS = 60  # of one reader, before the next one takes its turn


class Hang(BaseException):
    """An input took too much CPU time. Not an Exception, which a reader could catch."""


@dataclass
class Result:
    """Counts of inputs, the slowest one's CPU time in seconds, and tracebacks by the place of the error."""

    counts: Counter = field(default_factory=Counter)
    slowest: float = 0.0
    megabytes: float = 0.0
    failures: dict[str, str] = field(default_factory=dict)


def fuzz(reader: Reader, folder: Path, seconds: float, first_seed: int) -> Result:
    """Read inputs for some seconds."""
    result, inputs = Result(), reader.prepare(folder)
    deadline, number = time.monotonic() + seconds, first_seed

    def attempt(data: bytes) -> None:
        if time.monotonic() > deadline:
            return
        start = time.process_time()
        signal.setitimer(signal.ITIMER_PROF, MAX_SECONDS)
        try:
            outcome = read_one(reader, folder, data)
        except (Exception, Hang) as error:
            outcome = "failed"
            place = traceback.extract_tb(error.__traceback__)[-1]
            key = f"{type(error).__name__} in {Path(place.filename).name}:{place.lineno}"
            if key not in result.failures:
                result.failures[key] = traceback.format_exc()[-5000:]
                (folder / f"{len(result.failures)}_{reader.file}.failed").write_bytes(data)
        finally:
            signal.setitimer(signal.ITIMER_PROF, 0)
        result.counts[outcome] += 1
        result.slowest = max(result.slowest, time.process_time() - start)

    while time.monotonic() < deadline:
        run = given(inputs)(attempt)
        run = settings(
            max_examples=500, deadline=None, database=None, phases=[Phase.generate],
            suppress_health_check=list(HealthCheck),
        )(run)  # fmt: skip
        seed(number)(run)()
        number += 1
    result.megabytes = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    return result


def run_in_process(name: str, folder: Path, seconds: float, first_seed: int) -> Result:
    """Run `fuzz` in a process with limits. If it dies, its last input and the signal are a failure."""
    context = multiprocessing.get_context("fork")
    receive, send = context.Pipe(duplex=False)
    reader = READERS[name]

    def work() -> None:
        def stop(*_):
            raise Hang(f"more than {MAX_SECONDS} s")

        signal.signal(signal.SIGPROF, stop)
        used = int(re.search(r"VmData:\s+(\d+)", Path("/proc/self/status").read_text())[1]) * 1024
        resource.setrlimit(resource.RLIMIT_DATA, (used + MAX_BYTES,) * 2)
        silence = os.open(os.devnull, os.O_WRONLY)
        os.dup2(silence, 1)
        os.dup2(silence, 2)
        send.send(vars(fuzz(reader, folder, seconds, first_seed)))

    process = context.Process(target=work)
    process.start()
    send.close()
    try:
        if receive.poll(seconds + 10 * MAX_SECONDS):
            return Result(**receive.recv())
    except EOFError:
        pass
    process.kill()
    process.join()
    last = folder / reader.file
    if last.is_file():
        last.rename(folder / f"killed_{first_seed}_{reader.file}.failed")
    message = f"the process ended with status {process.exitcode}, or hung"
    return Result(Counter(failed=1), 0.0, 0.0, {f"status {process.exitcode}": message})


def add(total: Result, part: Result) -> None:
    total.counts += part.counts
    total.slowest, total.megabytes = max(total.slowest, part.slowest), max(total.megabytes, part.megabytes)
    total.failures |= part.failures


def table(results: dict[str, Result], minutes: float) -> str:
    lines = [f"{minutes:.0f} minutes.", ""]
    lines += [
        "| reader | inputs | accepted | refused | failed | share accepted | slowest (s) | memory (MB) |",
        "|---|--:|--:|--:|--:|--:|--:|--:|",
    ]
    for name, result in results.items():
        counts = [result.counts.total(), *(result.counts[key] for key in ("accepted", "refused", "failed"))]
        numbers = " | ".join(f"{count:,}" for count in counts)
        share = counts[1] / max(1, counts[0])
        lines.append(f"| {name} | {numbers} | {share:.0%} | {result.slowest:.1f} | {result.megabytes:.0f} |")
    return "\n".join(lines) + "\n"


@dataclass(frozen=True, kw_only=True)
class FuzzOptions(Options):
    """Options of `dev/fuzz.py`."""

    minutes: float = option(10.0, "Duration of the run", above=0)
    readers: tuple[str, ...] = option(tuple(READERS), "Test these readers", choices=tuple(READERS))
    output_dir: Path = option(Path("generated_fuzz"), "Write the results into this folder")
    seed: int = seed_option(0, "the inputs")


@report_user_errors
def main(arguments: list[str] | None = None) -> None:
    options = parse_options(FuzzOptions, "fuzz.py", __doc__, arguments)
    torch.set_num_threads(1)
    results = {name: Result() for name in options.readers}
    start, number = time.monotonic(), options.seed
    while (left := 60 * options.minutes - (time.monotonic() - start)) > 0:
        for name, result in results.items():
            folder = options.output_dir / re.sub(r"\W+", "_", name).strip("_")
            folder.mkdir(parents=True, exist_ok=True)
            seconds = min(SLICE_SECONDS, left / len(results))
            add(result, run_in_process(name, folder, seconds, number))
            for index, text in enumerate(result.failures.values(), 1):
                (folder / f"failure_{index}.txt").write_text(text, encoding="utf-8")
        number += 1000
        with atomic_write(options.output_dir / "report.md") as temporary:
            temporary.write_text(table(results, (time.monotonic() - start) / 60), encoding="utf-8")
    print(table(results, (time.monotonic() - start) / 60))
    if failed := sum(result.counts["failed"] for result in results.values()):
        raise UserError(f"{failed} inputs failed; their files and tracebacks are in {options.output_dir}")


if __name__ == "__main__":
    main()
