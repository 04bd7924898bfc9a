"""The Triton engine where there is no server; with one it is tested in tests/triton."""

import threading
import time

import numpy as np
import pytest

from inference.engine.open import EngineConfig
from inference.engine.triton import TritonEngine
from inference.errors import EngineError

NOBODY = "triton://127.0.0.1:9"  # the discard port, where nobody listens
BATCH = {"x": np.ones((1, 3), np.float32)}


def test_whoever_waits_when_it_closes_is_told_at_once():
    engine = TritonEngine(EngineConfig(url=NOBODY, timeout_s=60, attempt_timeout_s=1))
    refused = []

    def ask():
        try:
            engine.infer("m", BATCH)
        except EngineError as error:
            refused.append(str(error))

    threads = [threading.Thread(target=ask) for _ in range(3)]
    for thread in threads:
        thread.start()
    time.sleep(0.2)
    engine.close()
    for thread in threads:
        thread.join(5)
    assert refused == ["the engine was closed while a model was at work"] * 3
    assert not [thread for thread in threading.enumerate() if thread.name == "triton"]


def test_closed_twice_is_closed_and_answers_nothing():
    engine = TritonEngine(EngineConfig(url=NOBODY))
    engine.close()
    engine.close()
    for ask in (lambda: engine.infer("m", BATCH), lambda: engine.spec("m")):
        with pytest.raises(EngineError, match="closed engine"):
            ask()


def test_nobody_there_is_told_once_and_refused_in_time():
    told = []
    engine = TritonEngine(
        EngineConfig(url=NOBODY, timeout_s=0.8, attempt_timeout_s=0.4), on_change=lambda *change: told.append(change)
    )
    for _ in range(3):
        started_s = time.monotonic()
        with pytest.raises(EngineError, match=r"has been away for \d s \(UNAVAILABLE"):
            engine.spec("m")
        assert time.monotonic() - started_s < 2
    engine.close()
    assert [is_away for is_away, _ in told] == [True]
