"""Many calls, on one core or many: resumable, with a bar, and stopped after a sentence."""

import multiprocessing
import signal
from collections.abc import Callable, Generator, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from inference.errors import ConfigError, ScamTapError
from training.scripts import Script
from training.voice.call import call_key, is_voiced, save_call, voice_call
from training.voice.manifest import ManifestCall
from training.voice.recipe import Recipe
from training.voice.speaker import CachedSpeaker, Speaker

Job = tuple[ManifestCall, Script]
"""What to voice, and the script that it is read from."""

_REFRESH_S = 0.5  # how often the bar hears of other processes' turns


@dataclass(frozen=True, slots=True)
class VoicedSummary:
    """What a run did: recordings made, found already made, seconds of sound made, and sentences newly spoken."""

    num_made: int
    num_kept: int
    made_s: float
    num_spoken: int = 0


@dataclass(frozen=True, slots=True)
class _Made:
    stem: str
    duration_s: float
    ask_s: float | None
    num_spoken: int


@dataclass(frozen=True, slots=True)
class _Task:
    stem: str
    script: Script
    recipe: Recipe
    out: Path


def voice_all(
    jobs: Sequence[Job], out: Path, speaker: Speaker, console: Console, *, num_workers: int = 1
) -> VoicedSummary:
    """Voice every job into ``out``, leaving alone what is there already.

    Recordings are the same whatever ``num_workers`` is.

    Raises:
        ScamTapError: a voice is reserved, the synthesiser is missing, the disk is full, or a process was killed.
    """
    tasks = [
        _Task(job.stem, script, job.recipe(script), out) for job, script in jobs
    ]  # refuses before a minute is spent
    try:
        out.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise ConfigError(f"{out}: cannot be made ({error.strerror}); give another folder with --out") from error
    todo = [task for task in tasks if not is_voiced(out, task.stem, call_key(task.script, task.recipe, speaker))]
    num_turns, num_todo = (sum(len(task.script.turns) for task in some) for some in (tasks, todo))
    made: list[_Made] = []
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("turns"),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=console, transient=True) as progress:
        bar = progress.add_task("voicing", total=num_turns, completed=num_turns - num_todo)

        def on_turns(num: int) -> None:
            progress.update(bar, completed=num_turns - num_todo + num)

        voiced = (
            _one_by_one(todo, speaker, on_turns) if num_workers == 1 else _abreast(todo, speaker, on_turns, num_workers)
        )
        with closing(voiced):  # Ctrl-C here ends the processes at once, not when the memory is tidied
            for each in voiced:
                made.append(each)
                ask = "genuine" if each.ask_s is None else f"scam, ask at {each.ask_s:.1f} s"
                progress.console.print(f"{each.stem}: {each.duration_s:.1f} s, {ask}", markup=False, highlight=False)
    return VoicedSummary(
        num_made=len(made),
        num_kept=len(tasks) - len(todo),
        made_s=sum(each.duration_s for each in made),
        num_spoken=sum(each.num_spoken for each in made),
    )


def _num_spoken(speaker: Speaker) -> int:
    return speaker.num_spoken if isinstance(speaker, CachedSpeaker) else 0


def _voice(task: _Task, speaker: Speaker, on_turn: Callable[[], None]) -> _Made:
    before = _num_spoken(speaker)
    call = voice_call(task.script, task.recipe, speaker, on_turn)
    save_call(call, task.out, task.stem)
    return _Made(task.stem, call.duration_s, call.ask_s, _num_spoken(speaker) - before)


def _one_by_one(
    tasks: Sequence[_Task], speaker: Speaker, on_turns: Callable[[int], None]
) -> Generator[_Made, None, None]:
    num = 0

    def on_turn() -> None:
        nonlocal num
        num += 1
        on_turns(num)

    for task in tasks:
        yield _voice(task, speaker, on_turn)


class _StoppedError(Exception):
    """Ctrl-C or a fault elsewhere: what was spoken is kept, the call under way is not."""


class _Here:
    """What a process of the pool holds: its speaker, and what it shares with the one that started it."""

    speaker: Speaker
    stop: Any
    num_turns: Any


def _begin(speaker: Speaker, stop: Any, num_turns: Any) -> None:
    _Here.speaker, _Here.stop, _Here.num_turns = speaker, stop, num_turns


def _work(task: _Task) -> _Made:
    def on_turn() -> None:
        if _Here.stop.is_set():
            raise _StoppedError
        with _Here.num_turns.get_lock():
            _Here.num_turns.value += 1

    return _voice(task, _Here.speaker, on_turn)


@contextmanager
def _without_interrupts() -> Iterator[None]:
    """Ctrl-C waits until the block is done; processes begun in it never hear of it.

    It reaches all processes of a terminal at once: the first one is to tell the others.
    """
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


@contextmanager
def _pool(speaker: Speaker, stop: Any, num_turns: Any, num_workers: int) -> Iterator[ProcessPoolExecutor]:
    """Processes that end with the block, whatever ended it: the sentence or lines under way are finished, no more."""
    pool = ProcessPoolExecutor(
        num_workers, multiprocessing.get_context("spawn"), initializer=_begin, initargs=(speaker, stop, num_turns)
    )
    try:
        yield pool
    finally:
        stop.set()
        pool.shutdown(wait=True, cancel_futures=True)


def _abreast(
    tasks: Sequence[_Task], speaker: Speaker, on_turns: Callable[[int], None], num_workers: int
) -> Generator[_Made, None, None]:
    context = multiprocessing.get_context("spawn")
    stop, num_turns = context.Event(), context.Value("q", 0)
    with _pool(speaker, stop, num_turns, max(1, min(num_workers, len(tasks)))) as pool:
        with _without_interrupts():  # the pool begins its processes with the first task
            running: set[Future[_Made]] = {pool.submit(_work, task) for task in tasks}
        try:
            while running:
                done, running = wait(running, timeout=_REFRESH_S, return_when=FIRST_COMPLETED)
                on_turns(num_turns.value)
                for future in done:
                    yield future.result()
        except BrokenProcessPool as error:
            raise ScamTapError("a voicing process was killed (no memory?); give fewer --workers, run again") from error
