"""Memory of a process, and the file under it: what expires, what survives, what is bounded."""

import asyncio
import gc
import sqlite3

import pytest

from inference.errors import ConfigError, StoreError
from inference.screening import sqlite
from inference.screening.backend import Add, Fields, MemoryBackend
from inference.screening.lifetimes import KEYS_A_SHARE, Lifetimes
from inference.screening.remembered import WindowStore
from inference.screening.sqlite import SqliteBackend

NOW_S = 1_800_000_000.0
HOUR_S, DAY_S = 3600, 86_400
CALLER, CALLEE = "441632960001", "441632960002"


class Clock:
    now_s = NOW_S

    def __call__(self) -> float:
        return self.now_s


async def call(store, callee=CALLEE, at_s=NOW_S, caller=CALLER, is_night=False):
    return await store.attempt(caller, callee, at_s, is_night=is_night)


def test_what_expires_is_forgotten_and_memory_is_bounded():
    clock = Clock()
    backend = MemoryBackend(max_keys=100, clock=clock)

    async def go():
        for number in range(100):
            await backend.run([Add(f"k{number}", "f", 1, 60)])
        with pytest.raises(StoreError, match="100 keys"):
            await backend.run([Add("one more", "f", 1, 60)])
        clock.now_s += 200
        await backend.run([Add("one more", "f", 1, 60)])
        await backend.run([])  # a few at a time, so that no call waits for a minute's worth
        return len(backend), await backend.run([Fields("k5"), Fields("one more")])

    assert asyncio.run(go()) == (1, [{}, {"f": "1"}])


def test_what_was_said_survives_the_process(tmp_path):
    path, clock = tmp_path / "screening.db", Clock()

    async def go():
        first = WindowStore(SqliteBackend(path, clock=clock))
        await first.mark(CALLER, CALLEE, "complaint", NOW_S)
        await call(first)
        await first.aclose()
        second = WindowStore(SqliteBackend(path, clock=clock))
        seen = await call(second)
        await second.aclose()
        return seen

    seen = asyncio.run(go())
    assert (seen.caller.complaints, seen.caller.attempts, seen.caller.distinct_callees) == (1, 2, 1)


def test_a_crash_loses_no_complaint(tmp_path):
    """The durable keys are written within a second; here the process is gone before the windows are."""
    path, clock = tmp_path / "screening.db", Clock()

    async def go():
        backend = SqliteBackend(path, clock=clock)
        store = WindowStore(backend)
        await store.mark(CALLER, CALLEE, "complaint", NOW_S)
        await call(store)
        await backend.write(everything=False)
        backend._db.close()  # as a killed process leaves it
        again = WindowStore(SqliteBackend(path, clock=clock))
        seen = await call(again)
        await again.aclose()
        return seen

    seen = asyncio.run(go())
    assert (seen.caller.complaints, seen.caller.attempts) == (1, 1)


def test_what_expired_while_nobody_looked_is_not_read_back(tmp_path):
    path, clock = tmp_path / "screening.db", Clock()

    async def go():
        first = WindowStore(SqliteBackend(path, clock=clock))
        await call(first)
        await first.aclose()
        clock.now_s += 30 * HOUR_S + 7200
        second = SqliteBackend(path, clock=clock)
        held = set(second.fields) | set(second.sets)
        await second.aclose()
        return held

    assert {key[:2] for key in asyncio.run(go())} == {"f:", "b:"}


def test_two_workers_do_not_share_a_file(tmp_path):
    path = tmp_path / "screening.db"
    first = SqliteBackend(path)
    with pytest.raises(ConfigError, match="no other worker has"):
        SqliteBackend(path)
    asyncio.run(first.aclose())


def test_what_is_no_database_is_said(tmp_path):
    path = tmp_path / "screening.db"
    path.write_bytes(b"nonsense" * 1000)
    with pytest.raises(ConfigError, match=r"screening\.db"):
        SqliteBackend(path)


def test_a_flood_of_spoofed_numbers_drives_out_itself_and_not_what_people_said():
    clock = Clock()
    backend = MemoryBackend(max_keys=300, clock=clock)
    store = WindowStore(backend)

    async def go():
        await store.add_contact(CALLEE, "1")
        await store.mark(CALLER, CALLEE, "complaint", NOW_S)
        await store.shield(CALLEE, NOW_S + 600)
        for number in range(1000):
            clock.now_s += 0.1
            seen = await call(store, caller=f"4470{number:08}", at_s=clock.now_s)
        return seen, await call(store, caller=CALLER, at_s=clock.now_s), await call(store, caller="1", at_s=clock.now_s)

    seen, marked, contact = asyncio.run(go())
    assert seen.callee.attempts_60s >= 590  # the subscriber under attack is not forgotten
    assert seen.callee.shielded_until_s == NOW_S + 600
    assert marked.caller.complaints == pytest.approx(1.0, abs=0.01)
    assert contact.is_contact
    assert len(backend) <= 300
    assert backend.num_evicted > 0


def test_what_is_remembered_is_nothing_for_the_garbage_collector():
    """A pass over a set for every caller took .2 s after half a minute at 2,000 a second, and every call waited."""
    backend = MemoryBackend(clock=Clock())
    store = WindowStore(backend)

    async def go():
        await call(store)
        gc.collect()
        before = len(gc.get_objects())
        for number in range(500):
            await call(store, caller=f"4470{number:08}", callee=f"4420{number:08}")
        gc.collect()
        return len(gc.get_objects()) - before

    kept = asyncio.run(go())
    assert len(backend) >= 7 * 500
    assert kept < 50


def test_of_many_keys_about_the_longest_idle_goes_first():
    """Over several shares the order is nearly that of use."""
    lifetimes = Lifetimes(8 * KEYS_A_SHARE, NOW_S)
    keys = [f"c:{number}" for number in range(8 * KEYS_A_SHARE)]
    for key in keys:
        lifetimes.keep(key, NOW_S + DAY_S, may_go=True)
    gone = set()
    for _ in range(len(keys) // 2):
        idle = lifetimes.longest_idle()
        gone.add(idle)
        lifetimes.forget(idle)
    assert len(gone & set(keys[: len(keys) // 2])) >= 0.98 * len(gone)
    assert len(lifetimes) == len(keys) // 2


def test_counters_that_no_window_reads_are_dropped():
    clock = Clock()
    backend = MemoryBackend(clock=clock)
    store = WindowStore(backend)

    async def go():
        for step in range(5000):
            clock.now_s = NOW_S + step * 400
            await call(store, at_s=clock.now_s)
            await store.outcome(CALLER, CALLEE, clock.now_s, answered=True, rang_s=9, talked_s=5)
        return (
            max(map(len, backend.fields.values())),
            len(backend.lifetimes),
            backend.lifetimes.num_looked_at,
        )

    fields, kept, looked_at = asyncio.run(go())
    assert fields <= 1008 + 1  # a week of ten minutes
    assert looked_at <= kept + 2 < 40


def test_a_clock_that_jumps_leaves_nothing_behind_for_ever():
    clock = Clock()
    backend = MemoryBackend(clock=clock)
    store = WindowStore(backend)

    async def go():
        clock.now_s = NOW_S + DAY_S  # a day ahead by mistake
        await call(store, at_s=clock.now_s)
        clock.now_s = NOW_S
        seen = await call(store, at_s=NOW_S)
        clock.now_s = NOW_S + 80 * DAY_S
        for _ in range(5):
            await backend.run([])
        return seen, len(backend)

    seen, held = asyncio.run(go())
    assert seen.caller.attempts == 1  # what lies in the future is not counted
    assert held == 0


def test_expired_keys_leave_the_file_too(tmp_path):
    clock = Clock()

    async def go():
        backend = SqliteBackend(tmp_path / "s.db", clock=clock)
        for number in range(50):
            await backend.run([Add(f"c:{number}", "f", 1, 60)])
        await backend.write()
        clock.now_s += 200
        await backend.run([])
        await backend.write()
        (left,) = backend._db.execute("SELECT count(*) FROM field").fetchone()
        await backend.aclose()
        return left

    assert asyncio.run(go()) == 0


def test_windows_are_written_little_by_little_and_what_was_said_at_once(tmp_path, monkeypatch):
    """Half a million keys of a minute at once would hold calls up for seconds."""
    clock, sizes = Clock(), []

    async def go():
        backend = SqliteBackend(tmp_path / "s.db", clock=clock)
        write = backend._write
        monkeypatch.setattr(backend, "_write", lambda rows: (sizes.append(len(rows)), write(rows)))
        await backend.run([Add(f"c:{number}", "f", 1, HOUR_S) for number in range(1000)])
        await backend.run([Add("m:1", "complaint", 1, DAY_S)])
        writing = asyncio.create_task(backend.keep_writing())
        await asyncio.sleep(0)
        clock.now_s += sqlite.ALL_EVERY_S + 1
        while backend._dirty or backend._dirty_windows or backend._leaving:  # noqa: ASYNC110
            await asyncio.sleep(0.001)
        writing.cancel()
        await asyncio.gather(writing, return_exceptions=True)
        (rows,) = backend._db.execute("SELECT count(*) FROM field").fetchone()
        await backend.aclose()
        return rows

    monkeypatch.setattr(sqlite, "DURABLE_EVERY_S", 0.001)
    assert asyncio.run(go()) == 1001
    assert sizes == [1, *[sqlite.TRICKLE] * (1000 // sqlite.TRICKLE)]


def test_a_full_disk_keeps_windows_to_be_written(tmp_path, monkeypatch):
    async def go():
        backend = SqliteBackend(tmp_path / "s.db", clock=Clock())
        await backend.run([Add(f"c:{number}", "f", 1, HOUR_S) for number in range(30)])
        write = backend._write

        def full(_rows):
            raise sqlite3.OperationalError("database or disk is full")

        monkeypatch.setattr(backend, "_write", full)
        with pytest.raises(StoreError, match="free some disk"):
            await backend.write()
        monkeypatch.setattr(backend, "_write", write)
        await backend.write()
        (rows,) = backend._db.execute("SELECT count(*) FROM field").fetchone()
        await backend.aclose()
        return rows

    assert asyncio.run(go()) == 30
