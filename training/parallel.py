"""The same work on many calls, on several cores: the models let go of Python's lock while they compute."""

import queue
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

Worker = TypeVar("Worker")
Item = TypeVar("Item")
Result = TypeVar("Result")

DEFAULT_CORES = 2
"""Cores that a command uses where it is not told."""

_cores = DEFAULT_CORES


def use_cores(number: int, *, is_training: bool = False) -> None:
    """Set how many cores this process uses from now on: torch, where it trains, and who asks :func:`cores`."""
    global _cores  # one number per process, as torch keeps its own
    _cores = number
    if is_training:
        import torch

        torch.set_num_threads(number)


def cores() -> int:
    """Cores that this process may use."""
    return _cores


def in_order(
    work: Callable[[Worker, Item], Result],
    workers: Sequence[Worker],
    items: Iterable[Item],
    advance: Callable[[], None] = lambda: None,
) -> list[Result]:
    """``work(worker, item)`` of every item, results in the order of ``items``.

    Args:
        work: done for each of them.
        workers: a thread for each; no worker is given to two at once.
        items: what is worked on.
        advance: told as each result is taken, in the caller's thread.

    Raises:
        Exception: what ``work`` raised first; what has not begun by then is not begun.
    """
    if len(workers) == 1:
        return [_and_tell(work(workers[0], item), advance) for item in items]
    free: queue.SimpleQueue[Worker] = queue.SimpleQueue()
    for worker in workers:
        free.put(worker)

    def one(item: Item) -> Result:
        worker = free.get()
        try:
            return work(worker, item)
        finally:
            free.put(worker)

    pool = ThreadPoolExecutor(len(workers))
    try:
        return [_and_tell(result, advance) for result in pool.map(one, items)]
    finally:
        pool.shutdown(cancel_futures=True)  # Ctrl-C and faults end at once


def _and_tell(result: Result, advance: Callable[[], None]) -> Result:
    advance()
    return result
