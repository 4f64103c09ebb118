"""Change the code in one place at a time, and report the changes that no test notices.

`mutants.txt` lists the changes. A line `@ FILE TESTS` names a file and the arguments of pytest that
select the tests concerned; each `- old` and `+ new` after it is a mutant, which replaces the only place of
`old` in the file. The tests run in a copy of the repository, first without a change. A mutant is killed if a
test fails, or if the tests take far longer than without it. Needs requirements-dev.txt and a git checkout, on
Linux.
"""

import gc
import importlib
import os
import shlex
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from itertools import filterfalse
from pathlib import Path
from typing import NamedTuple

import pytest

if not __package__:  # run as `python dev/mutate.py`, which puts only dev/ on the path
    sys.path[:1] = [str(Path(__file__).resolve().parent.parent)]

from common.errors import UserError, report_user_errors
from common.options import Options, option
from common.parser import parse_options

ROOT = Path(__file__).resolve().parent.parent
# Imported once, before the process of each mutant is forked. None of them starts threads.
SLOW_IMPORTS = (
    "torch",
    "torch._dynamo",
    "accelerate",
    "librosa",
    "scipy.stats",
    "matplotlib.figure",
    "PIL.Image",
)
SLOW_IMPORTS += ("hypothesis", "pyarrow", "num2words", "soundfile", "filelock")
OUTPUT = "output.txt"
SLOWER, MARGIN = 5, 60  # a mutant may take this many times as long as no mutant, and this many seconds more


class Mutant(NamedTuple):
    """A change of one place of a file, and the tests concerned."""

    file: str
    tests: str
    old: str
    new: str


def read_mutants(path: Path) -> list[Mutant]:
    """Return the mutants of a list. Raises UserError for a line that is not understood."""
    mutants, file, tests, old = [], "", "", None
    for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), 1):
        mark, _, rest = line.partition(" ")
        if mark == "@":
            file, _, tests = rest.partition(" ")
        elif mark == "-" and file:
            old = rest
        elif mark == "+" and old is not None:
            mutants.append(Mutant(file, tests, old, rest))
            old = None
        elif line and mark != "#":
            raise UserError(
                f"{path}:{number}: {line!r} is no line `@ FILE TESTS`, `- old`, `+ new` or `# note`"
            )
    return mutants


def is_stale(mutant: Mutant) -> bool:
    """Return whether the old text is not in exactly one place of its file any more."""
    return (ROOT / mutant.file).read_text(encoding="utf-8").count(mutant.old) != 1


@contextmanager
def copy_of_repository() -> Iterator[Path]:
    """Copy the files that git knows, beside a link to ../shared, which some tests need."""
    with tempfile.TemporaryDirectory() as folder:
        tree = Path(folder) / "tree"
        command = ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"]
        listed = subprocess.check_output(command, cwd=ROOT, text=True)
        for name in filter(None, listed.split("\0")):
            if (ROOT / name).is_file():
                (tree / name).parent.mkdir(parents=True, exist_ok=True)
                shutil.copy(ROOT / name, tree / name)
        if (shared := ROOT.parent / "shared").is_dir():
            (Path(folder) / "shared").symlink_to(shared)
        yield tree


def run_tests(tree: Path, tests: str, limit: float) -> str:
    """Run tests in a forked process; return "passed", "failed", "too slow", or what else pytest reports."""
    process = os.fork()
    if process == 0:
        os.setsid()
        os.chdir(tree)
        output = os.open(tree.parent / OUTPUT, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
        os.dup2(output, 1)
        os.dup2(output, 2)
        sys.path[0] = str(tree)
        for name in [name for name, module in sys.modules.items() if is_ours(module)]:
            del sys.modules[name]
        sys.modules["__main__"] = importlib.import_module("pytest.__main__")  # workers import it again
        os.environ["PYTEST_DISABLE_PLUGIN_AUTOLOAD"] = "1"  # the tests need none of those that are installed
        options = ["-x", "-q", "-p", "no:cacheprovider", "--basetemp", str(tree.parent / "temporary")]
        os._exit(int(pytest.main([*options, *shlex.split(tests)])))
    deadline = time.monotonic() + limit
    while (status := os.waitpid(process, os.WNOHANG)) == (0, 0) and time.monotonic() < deadline:
        time.sleep(0.05)
    with suppress(ProcessLookupError):
        os.killpg(process, signal.SIGKILL)  # also what the tests have started
    if status == (0, 0):
        os.waitpid(process, 0)
        return "too slow"
    code = os.waitstatus_to_exitcode(status[1])
    names = {0: "passed", 1: "failed", 2: "failed", 5: "no tests"}  # 2: a module cannot be imported
    return names.get(code, f"status {code}")


def is_ours(module) -> bool:
    return str(getattr(module, "__file__", None)).startswith(f"{ROOT}{os.sep}") and (
        ".venv" not in module.__file__
    )


def try_mutants(mutants: list[Mutant], seconds: float) -> dict[Mutant, str]:
    """Return the outcomes of the tests for each mutant, as `run_tests` does; start none after `seconds`.

    Mutants whose tests fail without a change are left out, with the reason on stderr.
    """
    for name in SLOW_IMPORTS:
        importlib.import_module(name)
    gc.freeze()  # pytest collects garbage several times, and need not look at what is imported here
    outcomes, limits, start = {}, {}, time.monotonic()
    with copy_of_repository() as tree:
        for number, mutant in enumerate(mutants, 1):
            if mutant.tests not in limits:
                limits[mutant.tests] = limit_of(tree, mutant.tests)
            limit, began = limits[mutant.tests], time.monotonic()
            if limit is None or began - start > seconds:
                continue
            path = tree / mutant.file
            source, changed = path.read_text(encoding="utf-8"), path.stat().st_mtime
            path.write_text(source.replace(mutant.old, mutant.new), encoding="utf-8")
            os.utime(path, (number, number))  # bytecode is recognized by a file's size and second of change
            outcomes[mutant] = outcome = run_tests(tree, mutant.tests, limit)
            path.write_text(source, encoding="utf-8")
            os.utime(path, (changed, changed))
            verdict = "SURVIVED" if outcome == "passed" else f"killed ({outcome})"
            took = time.monotonic() - began
            print(f"{number:3} {verdict:18} {took:5.1f} s  {mutant.file}: {mutant.new}", flush=True)
    return outcomes


def limit_of(tree: Path, tests: str) -> float | None:
    """Return how long tests may take with a mutant in seconds, or None if they fail without one."""
    start = time.monotonic()
    outcome = run_tests(tree, tests, 1800)
    if outcome == "passed":
        return SLOWER * (time.monotonic() - start) + MARGIN
    print(
        f"{(tree.parent / OUTPUT).read_text()[-2000:]}\n{outcome} without a mutant: {tests}", file=sys.stderr
    )
    return None


@dataclass(frozen=True, kw_only=True)
class MutateOptions(Options):
    """Options of `dev/mutate.py`."""

    only: str = option("", "Try the mutants whose file or change contains this text")
    minutes: float = option(120.0, "Try no further mutant after this time", above=0)


@report_user_errors
def main(arguments: list[str] | None = None) -> None:
    options = parse_options(MutateOptions, "mutate.py", __doc__, arguments)
    mutants = [
        mutant
        for mutant in read_mutants(Path(__file__).with_name("mutants.txt"))
        if options.only in mutant.file or options.only in mutant.new or options.only in mutant.old
    ]
    for mutant in filter(is_stale, mutants):
        print(f"no longer in one place of {mutant.file}: {mutant.old}", file=sys.stderr)
    mutants = list(filterfalse(is_stale, mutants))
    outcomes = try_mutants(mutants, 60 * options.minutes)
    survivors = [mutant for mutant, outcome in outcomes.items() if outcome == "passed"]
    print(f"\n{len(outcomes)} of {len(mutants)} mutants tried, {len(outcomes) - len(survivors)} killed")
    for mutant in survivors:
        print(f"\n{mutant.file}, pytest {mutant.tests}\n- {mutant.old}\n+ {mutant.new}")
    if survivors:
        raise UserError(f"{len(survivors)} mutants survived; add tests that notice them, or remove the code")


if __name__ == "__main__":
    main()
