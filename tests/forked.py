"""Processes of scripts, forked from one that has imported everything, which saves seconds for each."""

import atexit
import inspect
import multiprocessing
import os
import signal
import socket
import subprocess
import sys
import tempfile
from collections.abc import Callable
from multiprocessing import forkserver
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
IMPORTED = ["forked", "torch._dynamo", "train", "tacotron2.train", "save_taco_mels", "evaluate"]


class Forked:
    """Like `subprocess.Popen` of `python <script of main> <arguments>`, in a session of its own."""

    def __init__(self, main: Callable, arguments: list, **environment: str | None):
        variables = {**os.environ, "CUDA_VISIBLE_DEVICES": "", **environment}
        variables = {name: value for name, value in variables.items() if value is not None}
        context = multiprocessing.get_context("forkserver")
        context.set_forkserver_preload(IMPORTED)
        with pytest.MonkeyPatch.context() as patch:
            patch.setenv("PYTHONPATH", os.pathsep.join([str(ROOT), str(ROOT / "tests")]))
            forkserver.ensure_running()
        self.folder = tempfile.TemporaryDirectory()
        self.outputs = [Path(self.folder.name) / name for name in ("out", "err")]
        words = (main, list(map(str, arguments)), variables, self.outputs)
        self.process = context.Process(target=run, args=words)
        self.process.start()
        self.pid = self.process.pid

    @property
    def returncode(self) -> int | None:
        return self.process.exitcode

    def poll(self) -> int | None:
        return self.process.exitcode

    def send_signal(self, number: int) -> None:
        os.kill(self.pid, number)

    def communicate(self, timeout: float | None = None) -> tuple[str, str]:
        self.process.join(timeout)
        if self.returncode is None:
            raise subprocess.TimeoutExpired("a forked process", timeout)
        out, err = (path.read_text() if path.exists() else "" for path in self.outputs)
        return out, err


def run(main: Callable, arguments: list[str], variables: dict[str, str], outputs: list[Path]) -> None:
    """Become a process of the command line, in the child."""
    os.setsid()
    # background jobs of a shell ignore SIGINT, and so would their children
    signal.signal(signal.SIGINT, signal.default_int_handler)
    multiprocessing.set_start_method(None, force=True)  # the usual one for the process's own children
    for number, path in enumerate(outputs, 1):
        os.dup2(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND), number)
    os.environ.clear()
    os.environ.update(variables)
    os.chdir(ROOT)
    sys.argv = [inspect.getfile(inspect.unwrap(main)), *arguments]
    is_interrupted = False
    try:
        main(arguments)
    except KeyboardInterrupt:
        is_interrupted = True
        sys.excepthook(*sys.exc_info())
    finally:
        atexit._run_exitfuncs()  # which multiprocessing leaves out
    if is_interrupted:  # Python ends a script by the signal
        signal.signal(signal.SIGINT, signal.SIG_DFL)
        os.kill(os.getpid(), signal.SIGINT)


def fork_two(main: Callable, *arguments: list, **environment: str) -> list[Forked]:
    """Start two processes of one group, as torchrun does; given two lists, each has its own arguments."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = str(probe.getsockname()[1])
    group = {"WORLD_SIZE": "2", "LOCAL_WORLD_SIZE": "2", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port}
    return [
        Forked(main, own, RANK=str(rank), LOCAL_RANK=str(rank), **group, **environment)
        for rank, own in enumerate(arguments if len(arguments) == 2 else arguments * 2)
    ]


def execute(arguments: list[str]) -> None:
    """Run a program given as text."""
    exec(arguments[0], {})


def complete(processes: list[Forked], timeout: float = 240) -> str:
    """Wait for processes, assert their success, and return the output of all."""
    said = "".join(text for process in processes for text in process.communicate(timeout))
    assert [process.returncode for process in processes] == [0] * len(processes), said
    return said
