"""A version is promoted and rolled back while calls are on: none is dropped, each ends with what it began with."""

import asyncio
from dataclasses import replace

import pytest

from inference.config import Settings
from inference.errors import WeightsError
from inference.gateway.spec import CallSpec
from inference.service.renewal import Renewal


class Counting:
    """A scorer that counts what it reads."""

    def __init__(self, scorer):
        self._scorer = scorer
        self.num_read = 0
        self.calibration = scorer.calibration

    def score(self, items):
        self.num_read += len(items)
        return self._scorer.score(items)


@pytest.fixture
def models_dir(tmp_path):
    (tmp_path / "scam_intent" / "1").mkdir(parents=True)
    return tmp_path


def parts_of(doubles, model):
    scorer = Counting(doubles.Scorer())
    return replace(doubles.parts(), model=model, scorer=scorer)


def test_new_calls_get_the_promoted_version_and_calls_that_are_on_keep_theirs(doubles, bench, spec_of, models_dir):
    old, new = parts_of(doubles, "scam_intent:old"), parts_of(doubles, "scam_intent:new")

    async def run():
        async with bench(parts=old, ports=(40000,)) as b:
            renewal = Renewal(Settings(models_dir=models_dir), b.stages, b.watch.use, lambda: new)
            said = doubles.packets(doubles.speech(doubles.HELLO, doubles.THREAT, doubles.ASK))
            b.watch.begin(CallSpec.model_validate(spec_of("before")))
            half = len(said) // 2
            await b.play({30000: said[:half]})
            assert not await renewal.look()
            (models_dir / "scam_intent" / "2").mkdir()
            assert await renewal.look()
            assert not await renewal.look()
            b.watch.begin(CallSpec.model_validate(spec_of("after", far=30010, near=30012)))
            await b.play({30000: said[half:], 30010: said[:half]})
            await b.play({30010: said[half:]})
            ended = {call: await b.watch.end(call) for call in ("before", "after")}
            return ended, [old.scorer.num_read, new.scorer.num_read]

    ended, num_read = asyncio.run(run())
    assert {call: verdict.level for call, verdict in ended.items()} == {"before": "danger", "after": "danger"}
    assert num_read == [3, 3]


def test_a_version_that_does_not_load_changes_nothing_until_it_does(doubles, bench, models_dir):
    used, tried = [], []

    def load():
        tried.append(1)
        if len(tried) < 3:
            raise WeightsError("not yet loaded by the server")
        return doubles.parts()

    async def run():
        async with bench() as b:
            renewal = Renewal(Settings(models_dir=models_dir), b.stages, used.append, load)
            (models_dir / "scam_intent" / "2").mkdir()
            return [await renewal.look() for _ in range(3)]

    assert asyncio.run(run()) == [False, False, True]
    assert len(used) == 1


def test_a_rollback_is_taken_up_too(doubles, bench, models_dir):
    used = []
    (models_dir / "scam_intent" / "2").mkdir()

    async def run():
        async with bench() as b:
            renewal = Renewal(Settings(models_dir=models_dir), b.stages, used.append, doubles.parts)
            (models_dir / "scam_intent" / "2").rename(models_dir / "scam_intent" / "2.retired")
            return await renewal.look()

    assert asyncio.run(run())
    assert len(used) == 1


def test_a_worker_looks_by_itself_until_it_stops(doubles, live, models_dir, monkeypatch):
    monkeypatch.setattr(Renewal, "_from_repository", lambda _self: replace(doubles.parts(), model="scam_intent:two"))

    async def run():
        async with live(models_dir=models_dir, renewal={"every_s": 0.02}) as (worker, _api, _gateway):
            (models_dir / "scam_intent" / "2").mkdir()
            await doubles.until(lambda: worker.watch._parts.model == "scam_intent:two")
        names = [task.get_coro().__qualname__ for task in asyncio.all_tasks()]
        assert "Renewal.run" not in names

    asyncio.run(run())
