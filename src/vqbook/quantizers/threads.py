"""Many small operations on several cores: whole blocks to each thread, instead of each operation to all threads."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor

import torch


def in_threads(work: Callable[[Iterator[int]], None], tasks: Iterable[int], *, parallel: bool = True) -> None:
    """Share tasks out among as many threads as PyTorch uses; each takes the next task when it is free.

    PyTorch splits each operation over all cores and waits for the slowest, which costs little when the machine is
    quiet and very much when another program has one of the cores. Here a thread does whole tasks alone.

    Args:
        work: called once in each thread with an iterator over tasks; may write to tensors at disjoint places.
        tasks: the tasks.
        parallel: False for a device that has its own queue.
    Raises:
        Whatever the work raises.
    """
    tasks = list(tasks)
    threads = min(torch.get_num_threads(), len(tasks)) if parallel else 1
    if threads <= 1:
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
        torch.set_num_threads(
            1
        )  # of this thread; that it is also the start value of new threads is undone below
        with torch.inference_mode():  # tensors made under it may be written to
            work(draw())

    before = torch.get_num_threads()
    try:
        with ThreadPoolExecutor(threads) as pool:
            for done in [pool.submit(alone) for _ in range(threads)]:
                done.result()
    finally:
        torch.set_num_threads(before)
