"""What every script shares: mistakes told in one line, and files that are whole or not there."""

import argparse
import functools
import json
import math
import os
import shutil
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path


class UserError(Exception):
    """Something the person at the keyboard can mend. The message is one line: what, where, what to do."""


class ArgumentParser(argparse.ArgumentParser):
    """argparse with errors of one line, defaults in `--help`, and no guessing at abbreviated flags."""

    def __init__(self, **kwargs):
        kwargs.setdefault("formatter_class", argparse.ArgumentDefaultsHelpFormatter)
        super().__init__(allow_abbrev=False, **kwargs)

    def error(self, message: str):
        self.exit(2, f"{self.prog}: error: {message} (see {self.prog} --help)\n")


def report_user_errors(main: Callable[..., None]) -> Callable[..., None]:
    """Decorate a script's `main`: a `UserError` becomes one line on stderr and exit status 2."""

    @functools.wraps(main)
    def wrapper(*args, **kwargs):
        try:
            return main(*args, **kwargs)
        except UserError as error:
            # from a loader's worker, PyTorch brings it with the worker's traceback before it
            message = " ".join(str(error).rpartition("UserError: ")[2].split())
            rank = os.environ.get("RANK", os.environ.get("LOCAL_RANK", "0"))
            of_process = "" if rank == "0" else f" (in process {rank})"
            script = Path(sys.argv[0])
            name = script.parent.name if script.name == "__main__.py" else script.name  # python -m <package>
            print(f"{name}: error{of_process}: {message}", file=sys.stderr)
            sys.exit(2)

    return wrapper


def number(kind: type, minimum: float = -math.inf, maximum: float = math.inf) -> Callable[[str], float]:
    """Return an argparse type for finite numbers of this kind (int or float) in [minimum, maximum]."""
    wanted = "an integer" if kind is int else "a finite number"
    if minimum == 0:
        wanted += " that is not negative"
    elif minimum > -math.inf:
        wanted += f" of at least {minimum}"
    if maximum < math.inf:
        wanted += f" and at most {maximum}"

    def parse(text: str) -> float:
        try:
            value = kind(text)
        except ValueError:
            value = math.nan
        if not (math.isfinite(value) and minimum <= value <= maximum):
            raise argparse.ArgumentTypeError(f"{text} is not {wanted}")
        return value

    return parse


def check_seed(seed: int) -> None:
    """Raise UserError for a `--seed` that PyTorch's or NumPy's random numbers can't start from."""
    if not 0 <= seed < 2**32:
        raise UserError(f"--seed is {seed}; it must lie between 0 and {2**32 - 1}")


@contextmanager
def atomic_write(path: Path | str) -> Iterator[Path]:
    """Yield a temporary path beside `path`; rename it to `path` when the block ends well, else delete it.

    The block may make a file or a folder there. A reader sees the old content or the new, never a part, and
    what was renamed is on the disk and not only in its cache. A folder that is replaced stands as
    `<name>.replaced` for the instant between two renames; `recover_replaced` puts it back if the process died
    in that instant.
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        yield temporary
        for file in temporary.rglob("*") if temporary.is_dir() else [temporary]:
            if file.is_file():
                flush_to_disk(file)
        if path.is_dir():
            replaced = path.with_name(path.name + ".replaced")
            shutil.rmtree(replaced, ignore_errors=True)
            path.rename(replaced)
            temporary.rename(path)
            shutil.rmtree(replaced)
        else:
            temporary.replace(path)
        if (
            os.name == "posix"
        ):  # a rename lasts once its directory is flushed; elsewhere directories can't be opened
            flush_to_disk(path.parent)
    finally:
        if temporary.is_dir():
            shutil.rmtree(temporary, ignore_errors=True)
        else:
            temporary.unlink(missing_ok=True)


def read_json(path: Path) -> dict:
    try:
        values = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise UserError(f"can't read the configuration {path}: {error}") from error
    if not isinstance(values, dict):
        raise UserError(f"{path} is not a configuration: it holds no JSON object")
    return values


def recover_replaced(parent: Path) -> None:
    """Put back each folder in `parent` that `atomic_write` had moved aside when its process was killed."""
    for replaced in parent.glob("*.replaced"):
        original = replaced.with_suffix("")
        if original.exists():
            shutil.rmtree(replaced)
        else:
            replaced.rename(original)


def flush_to_disk(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def available_cores() -> int:
    """Cores this process may run on, which `taskset` or a batch system may make fewer than the machine's."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
