"""Work on all cores."""

import itertools
import os
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any


def map_in_threads(function: Callable[[Any], Any], items: Iterable, chunk: int = 1) -> Iterator:
    """Yield `function(item)` for each item, in order, from threads: for work without the interpreter lock.

    Few items are held at a time. A thread takes `chunk` of them at once, which saves time if each takes
    microseconds. There are more threads than cores, since waiting for a network file system needs no core.
    """
    threads, items = available_cores() + 16, iter(items)
    with ThreadPoolExecutor(threads) as pool:
        while window := list(itertools.islice(items, 8 * threads * chunk)):
            chunks = (window[start : start + chunk] for start in range(0, len(window), chunk))
            for results in pool.map(lambda part: list(map(function, part)), chunks):
                yield from results


def available_cores() -> int:
    """Return the number of cores that this process may use, given `taskset` or a batch system."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
