"""Errors of the user, reported as one line with exit status 2."""

import errno
import functools
import os
import re
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

MAX_REASON = 300  # characters of a library's message
ESCAPE_CODES = re.compile(r"\x1b\[[0-9;]*[A-Za-z]")  # colors of a terminal


class UserError(Exception):
    """A mistake that the user can fix. The message is one line: what, where, what to do."""


def report_user_errors(main: Callable[..., None]) -> Callable[..., None]:
    """Decorate a script's `main` to report some errors as one line on stderr with exit status 2.

    These are a `UserError`, an error of the operating system that names its file, a full disk, and too little
    memory. Ctrl+C ends the script without a traceback.
    """

    @functools.wraps(main)
    def wrapper(*args, **kwargs):
        if sys.stderr is None:  # closed: print would write to standard output instead, and tqdm fails
            sys.stderr = open(os.devnull, "w")  # noqa: SIM115
        try:
            result = main(*args, **kwargs)
            with standard_output():  # flushed here, since Python can't report an error on exit in one line
                return result
        except (UserError, OSError, MemoryError, RuntimeError) as error:
            if not (message := message_for_user(error)):
                raise
            rank = os.environ.get("RANK", os.environ.get("LOCAL_RANK", "0"))
            of_process = "" if rank == "0" else f" (in process {rank})"
            module = main.__globals__.get("__spec__")  # none of `python <script>`
            is_in_package = module and "." in module.name  # of `python -m <module>`
            name = module.name.removesuffix(".__main__") if is_in_package else Path(sys.argv[0]).name
            # control characters, for example of a file's name, are written as escapes
            text = "".join(c if c.isprintable() else repr(c)[1:-1] for c in message[:2000])
            print(f"{name}: error{of_process}: {text}", file=sys.stderr)
            sys.exit(2)
        except KeyboardInterrupt:
            # Python still ends by the signal, so that a shell ends the loop that it runs in
            sys.excepthook = lambda *error: None
            raise

    return wrapper


@contextmanager
def standard_output() -> Iterator[None]:
    """Write to standard output in this block, and flush it.

    If its reader was closed, exit as a program that SIGPIPE ends. Other errors get its name.
    """
    try:
        yield
        print(end="", flush=True)
    except OSError as error:
        with suppress(OSError):  # of an object that stands in for standard output
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # Python flushes once more on exit
        if isinstance(error, BrokenPipeError):
            sys.exit(128 + 13)
        error.filename = "standard output"
        raise


def one_line(error: Exception | str) -> str:
    """Return a library's message in one line, without escape codes and without advice to trust a file."""
    text = " ".join(ESCAPE_CODES.sub("", str(error)).split()) or type(error).__name__
    if re.search("weights_only|allow_pickle|trust_remote_code", text):
        return "it contains more than numbers, which could run code on loading"
    return text if len(text) <= MAX_REASON else text[:MAX_REASON].rpartition(" ")[0] + " …"


def message_for_user(error: Exception) -> str:
    """Return one line for an error that the user can fix, or "" for a bug."""
    if isinstance(error, UserError):
        # PyTorch prepends the traceback of a data loader's worker
        return " ".join(ESCAPE_CODES.sub("", str(error)).rpartition("UserError: ")[2].split())
    if isinstance(error, OSError) and (error.filename is not None or error.errno == errno.ENOSPC):
        name = "" if error.filename is None else f": {error.filename}"
        return f"{error.strerror}{name}; check the path, its permissions and the free space"
    is_memory = isinstance(error, MemoryError) or re.search("out of memory|allocate memory", str(error))
    device = "CUDA " if "CUDA" in str(error) else ""
    return f"{device}out of memory; use smaller sizes, such as --batch_size" if is_memory else ""
