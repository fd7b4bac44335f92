"""Many small operations on several cores: whole blocks to each thread, instead of each operation to all threads."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Generator, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from functools import lru_cache

import torch


@contextmanager
def undivided(device: torch.device) -> Generator[int]:
    """On a processor, let each operation of this thread run on one core; gives the threads that `in_threads` may have.

    A thread that helped with an operation waits for the next one for milliseconds, awake, and keeps its core from
    others. So what comes shortly before `in_threads` had better not be divided either. Elsewhere nothing changes: a
    GPU has its own queue, and one thread feeds it.
    """
    before = torch.get_num_threads()
    if device.type != "cpu" or before == 1:
        yield 1
        return
    torch.set_num_threads(1)
    try:
        yield before
    finally:
        torch.set_num_threads(before)


def in_threads(work: Callable[[Iterator[int]], object], tasks: Iterable[int], *, threads: int) -> None:
    """Share tasks out among threads; each takes the next task when it is free.

    PyTorch splits each operation over all cores and waits for the slowest, which costs little when the machine is
    quiet and very much when another program has one of the cores. Here a thread does whole tasks alone.

    Args:
        work: called once in each thread with an iterator over tasks; may write to tensors at disjoint places.
        tasks: the tasks.
        threads: how many, this one included.
    Raises:
        Whatever the work raises.
    """
    tasks = list(tasks)
    before = torch.get_num_threads()
    helpers = min(threads, len(tasks)) - 1
    if helpers < 1:
        work(iter(tasks))
        return
    shared, lock = iter(tasks), threading.Lock()

    def draw() -> Iterator[int]:
        while True:
            with lock:
                task = next(shared, None)
            if task is None:
                return
            yield task

    def alone() -> None:
        with torch.inference_mode():  # tensors made under it may be written to
            work(draw())

    others = [_pool(threads - 1).submit(alone) for _ in range(helpers)]
    try:
        torch.set_num_threads(1)  # this thread takes part, as the others alone
        alone()
    finally:
        for other in others:
            other.exception()  # waits
        torch.set_num_threads(
            before
        )  # the pool's threads have made 1 the start value of new threads; undone here
    for other in others:
        other.result()


@lru_cache(maxsize=1)
def _pool(size: int) -> ThreadPoolExecutor:
    """Threads are kept: a new one would spend a search's time on its first matrix product."""
    return ThreadPoolExecutor(size, initializer=torch.set_num_threads, initargs=(1,))


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_pool.cache_clear)  # a forked process has none of its parent's threads
