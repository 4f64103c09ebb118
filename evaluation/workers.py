"""Processes that make and measure clips."""

import multiprocessing
import os
import signal
import threading
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import FIRST_COMPLETED, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from itertools import islice

import torch

from common.errors import UserError


class Workers:
    """A pool of `count` processes, started when first needed. With 0, tasks run in the calling process."""

    def __init__(self, count: int):
        self.count = count
        # spawned: a process that has used threads or a GPU cannot be forked safely
        context = multiprocessing.get_context("spawn")
        self.pool = ProcessPoolExecutor(count, context, initialize_worker) if count else None

    def run(self, function: Callable, tasks: Iterable) -> Iterator:
        """Yield the result of the function for each task, in order of completion.

        Raises UserError if the operating system killed a process.
        """
        if self.pool is None:
            yield from map(function, tasks)
            return
        tasks, pending = iter(tasks), set()
        try:
            while True:
                # a few at a time, as tasks and results hold audio
                free = 2 * self.count - len(pending)
                pending |= {self.pool.submit(function, task) for task in islice(tasks, free)}
                if not pending:
                    return
                done, pending = wait(pending, return_when=FIRST_COMPLETED)
                for future in done:
                    yield future.result()
        except BrokenProcessPool as error:
            raise UserError(
                "a worker process was killed, possibly for lack of memory; repeat the command with fewer "
                "--num_workers: finished clips are kept"
            ) from error

    def __enter__(self) -> "Workers":
        return self

    def __exit__(self, *_) -> None:
        if self.pool is not None:
            self.pool.shutdown(cancel_futures=True)


def initialize_worker() -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the main process handles Ctrl-C
    os.environ["CUDA_VISIBLE_DEVICES"] = ""
    torch.set_num_threads(1)
    threading.Thread(target=exit_with_parent, daemon=True).start()


def exit_with_parent() -> None:
    """End this process when its parent dies; a pool's processes otherwise wait for tasks forever."""
    multiprocessing.parent_process().join()
    os._exit(1)
