"""A real server that batches, is reloaded, killed, stopped, filled: what becomes of the requests."""

import os
import signal
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from tritonclient.utils import InferenceServerException

from inference.errors import CapacityError, EngineError

pytestmark = pytest.mark.triton

X = {"x": np.ones((1, 3), np.float32)}
QUICK = {"timeout_s": 8, "attempt_timeout_s": 0.5, "canary_timeout_s": 0.3}
PATIENT = QUICK | {"timeout_s": 60, "attempt_timeout_s": 4}
"""A busy machine's server may be slow to load or to stop, and is not full for that."""


def answer(engine):
    return float(engine.infer("scaled", X)["y"][0, 0])


def counted(client):
    """(rows inferred, runs of the graph)."""
    stats = client.get_inference_statistics("scaled").model_stats[0]
    return stats.inference_count, stats.execution_count


def test_requests_of_many_callers_share_runs_of_the_graph(serve, connect, admin, until, repository):
    repository.put(repository.scaled(3, num_trips=3))
    server = serve(repository.path)
    engine, client = connect(server), admin(server)
    answer(engine)
    rows, runs = counted(client)
    with ThreadPoolExecutor(32) as callers:
        answers = list(callers.map(lambda _: answer(engine), range(320)))
    assert answers == [3.0] * 320
    until(lambda: counted(client)[0] - rows >= 320)  # the server counts a run after it has answered
    rows, runs = (after - before for after, before in zip(counted(client), (rows, runs), strict=True))
    assert rows == 320
    assert runs <= rows / 4


def test_a_new_version_under_load_costs_no_request(serve, connect, admin, load, until, repository):
    server = serve(repository.path, *repository.controlled)
    engine, client = connect(server, **PATIENT), admin(server)
    with load(engine) as running:
        until(lambda: len(running.answers) > 50)
        repository.put(repository.scaled(2), version=2)
        client.load_model("scaled", headers=repository.admin)
        until(lambda: running.answers[-1] == 2.0)
        loaded = len(running.answers)
        until(lambda: len(running.answers) > loaded + 50)
    assert running.errors == []
    assert set(running.answers) == {1.0, 2.0}
    assert running.longest_s < 30
    assert engine.spec("scaled").version == 2


def test_a_broken_version_is_refused_and_the_one_before_serves_on(serve, connect, admin, load, until, repository):
    server = serve(repository.path, *repository.controlled)
    engine, client = connect(server, **PATIENT), admin(server)
    with load(engine) as running:
        until(lambda: len(running.answers) > 20)
        repository.put(repository.scaled(2), version=2)
        (repository.path / "scaled" / "2" / "model.onnx").write_bytes(b"not a graph")
        with pytest.raises(InferenceServerException, match="version 2 is at UNAVAILABLE state"):
            client.load_model("scaled", headers=repository.admin)
        refused = len(running.answers)
        until(lambda: len(running.answers) > refused + 50)
    assert running.errors == []
    assert set(running.answers) == {1.0}


def test_a_version_made_of_other_weights_is_refused_by_the_client(serve, connect, admin, repository):
    """What it was calibrated for would not fit it."""
    server = serve(repository.path, *repository.controlled)
    engine, client = connect(server, **QUICK), admin(server)
    assert answer(engine) == 1.0
    repository.put(repository.scaled(2, head="b"), version=2)
    client.load_model("scaled", headers=repository.admin)
    with pytest.raises(EngineError, match=r"version 2 of scaled, made of other weights .* restart it"):
        answer(engine)
    assert answer(connect(server)) == 2.0


def test_a_killed_server_that_comes_back_costs_no_request(serve, connect, load, until, repository):
    server = serve(repository.path)
    engine = connect(server, timeout_s=60, attempt_timeout_s=2)
    with load(engine) as running:
        until(lambda: len(running.answers) > 50)
        server.signal(signal.SIGKILL)
        killed_s = time.monotonic()
        server.restart()
        server.wait_ready()
        down_s = time.monotonic() - killed_s  # 2 to 4 s on an idle machine
        answered = len(running.answers)
        until(lambda: len(running.answers) > answered + 50)
    assert running.errors == []
    assert running.longest_s <= down_s + 15
    assert [is_away for is_away, _ in engine.told] == [True, False]


def test_a_server_that_hangs_holds_up_nobody_beyond_the_deadline(serve, connect, load, until, repository):
    server = serve(repository.path)
    engine, hasty = connect(server, **QUICK), connect(server, **{**QUICK, "timeout_s": 1.0})
    assert answer(engine) == answer(hasty) == 1.0
    server.signal(signal.SIGSTOP)
    stopped_s = time.monotonic()
    with pytest.raises(EngineError, match=r"away for|no answer within 1 s"):
        answer(hasty)
    assert 0.4 < time.monotonic() - stopped_s < 5
    # Found out by the first silence, it is asked nothing but canaries: more callers do not wait for attempts of theirs.
    with load(engine, num_callers=8) as running:
        until(lambda: engine.told and engine.told[0][0])
        assert "DEADLINE_EXCEEDED" in engine.told[0][1]
        time.sleep(0.5)
        assert running.answers == []
        server.signal(signal.SIGCONT)
        continued_s = time.monotonic()
        until(lambda: len(running.answers) > 20)
        assert time.monotonic() - continued_s < 15
    assert running.errors == []
    assert [is_away for is_away, _ in engine.told] == [True, False]


def test_a_server_that_stops_politely_hands_over_to_the_other(serve, connect, load, until, repository):
    """Two servers, asked in turn; either may go."""
    one, other = serve(repository.path), serve(repository.path)
    url = f"{one.url},{other.url.removeprefix('triton://')}"
    engine = connect(url, **PATIENT)
    with load(engine) as running:
        until(lambda: len(running.answers) > 50)
        os.kill(one.pid, signal.SIGTERM)
        one.wait()
        stopped = len(running.answers)
        until(lambda: len(running.answers) > stopped + 50)
        one.restart()
        one.wait_ready()
        other.signal(signal.SIGKILL)
        killed = len(running.answers)
        until(lambda: len(running.answers) > killed + 50)
    assert running.errors == []
    assert running.longest_s < 30


def test_a_full_queue_is_shed_at_once(serve, connect, repository):
    repository.put(repository.scaled(1, num_trips=400))  # a second of work
    config = repository.path / "scaled" / "config.pbtxt"
    config.write_text(config.read_text().replace("max_queue_size: 256", "max_queue_size: 1").replace("64", "1", 1))
    engine = connect(serve(repository.path), timeout_s=20, attempt_timeout_s=20)
    engine.spec("scaled")
    shed = []
    outcomes = []

    def ask():
        started_s = time.monotonic()
        try:
            outcomes.append(answer(engine))
        except CapacityError as error:
            shed.append((time.monotonic() - started_s, str(error)))

    threads = [threading.Thread(target=ask) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(outcomes) + len(shed) == 8
    assert len(outcomes) >= 1
    assert len(shed) >= 4
    assert "server is full" in shed[0][1]
    assert min(took_s for took_s, _ in shed) < 1
    assert engine.told == []  # full is not away


def test_an_unknown_model_is_said_in_a_line(serve, connect, repository):
    engine = connect(serve(repository.path), **{**QUICK, "timeout_s": 1})
    with pytest.raises(EngineError, match=r"model nothing: no answer .*NOT_FOUND.*nothing.*"):
        engine.spec("nothing")


def test_nobody_there_is_said_in_a_line_in_time(connect):
    engine = connect("triton://127.0.0.1:9", timeout_s=1, attempt_timeout_s=0.5)
    started_s = time.monotonic()
    with pytest.raises(EngineError, match="refused"):
        engine.spec("scaled")
    assert time.monotonic() - started_s < 10
