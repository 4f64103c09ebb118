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

from utils import UserError


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
