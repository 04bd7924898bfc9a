"""Work on several cores gives what work on one gives."""

import threading
import time

import pytest

from training import parallel
from training.parallel import in_order


@pytest.mark.parametrize("num_workers", [1, 3])
def test_results_come_in_order_and_each_is_told(num_workers):
    told = []

    def work(worker, item):
        time.sleep(0.002 * (item % 3))
        return item * 2

    found = in_order(work, range(num_workers), range(30), lambda: told.append(threading.get_ident()))
    assert found == [item * 2 for item in range(30)]
    assert told == [threading.get_ident()] * 30


def test_no_worker_is_used_twice_at_once():
    busy = {"a": threading.Lock(), "b": threading.Lock()}

    def work(worker, item):
        assert busy[worker].acquire(blocking=False)
        time.sleep(0.001)
        busy[worker].release()
        return worker

    assert set(in_order(work, list(busy), range(40))) == {"a", "b"}


@pytest.mark.parametrize("num_workers", [1, 2])
def test_a_fault_stops_the_rest(num_workers):
    begun = []

    def work(worker, item):
        begun.append(item)
        if item == 3:
            raise ValueError("call 3")
        time.sleep(0.005)

    with pytest.raises(ValueError, match="call 3"):
        in_order(work, range(num_workers), range(1000))
    assert len(begun) < 50


def test_a_command_says_how_many_cores_all_of_it_may_use(monkeypatch):
    monkeypatch.setattr(parallel, "_cores", parallel.DEFAULT_CORES)
    assert parallel.cores() == parallel.DEFAULT_CORES
    parallel.use_cores(5)
    assert parallel.cores() == 5
