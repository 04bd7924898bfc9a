"""Compiled kernel, NumPy twin and slow model agree on everything a listener can see."""

import dataclasses

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from inference.rtp.jit import HAS_NUMBA
from inference.rtp.plane import PacketPlane, PlaneConfig
from tests.rtp.model import LEG_COUNTERS, ModelLeg, ModelPlane
from tests.rtp.traffic import CODED, LOCAL_PORT, RED, SOURCES, play, scripts
from tests.rtp.voices import VOICES
from tests.thorough import cases

CONFIG = PlaneConfig(host="::", max_legs=3, ring_samples=8192, batch_packets=16)
SPOKEN = {payload_type: VOICES[key].name for payload_type, key in CODED.items()}
CODECS = {0: "audio", 8: "audio", 13: "noise", 101: "event", RED: "red", **SPOKEN}
MAX_READ = 8000


def model_plane(begin: int) -> ModelPlane:
    ahead = round(CONFIG.max_ahead_ms * 8)
    delay = round(CONFIG.codec_delay_ms * 8)
    return ModelPlane(
        {source: ModelLeg(begin, CONFIG.ring_samples, ahead, CODECS, delay=delay) for source in SOURCES[:2]}
    )


def check(script: list[tuple[str, int, tuple]], seed: int) -> None:
    backends = ("numba", "numpy") if HAS_NUMBA else ("numpy",)
    planes = [PacketPlane(CONFIG, backend=backend) for backend in backends]
    types = {101: "telephone-event", RED: "red", **SPOKEN}
    handles = [[plane.register(LOCAL_PORT, source, types, now_s=0.9) for source in SOURCES[:2]] for plane in planes]
    model = model_plane(round(0.9 * 8000))
    legs = list(model.legs.values())
    for kind, value in play(script, seed):
        if kind == "feed":
            for batch in batched(value, CONFIG.batch_packets):
                model.take_batch([(d.data, d.source, round(d.arrived_s * 8000)) for d in batch])
            for plane in planes:
                plane.feed(value)
            continue
        until = round(value * 8000) - round(CONFIG.playout_delay_ms * 8)
        for leg in legs:
            leg.decode(round(value * 8000))
        wanted = [leg.take(min(until - leg.delay, leg.read + MAX_READ)) for leg in legs]
        for plane, leg_handles in zip(planes, handles, strict=True):
            batch = plane.read(leg_handles, now_s=value)
            for k, (start, samples, present) in enumerate(wanted):
                assert batch.start_samples[k] == start
                assert batch.num_samples[k] == len(samples)
                assert batch.samples[k, : len(samples)].tolist() == samples
                assert batch.present[k, : len(samples)].tolist() == present
                assert not batch.present[k, len(samples) :].any()
    for plane, leg_handles in zip(planes, handles, strict=True):
        compare_counters(plane, leg_handles, model)


def compare_counters(plane: PacketPlane, handles: list[int], model: ModelPlane) -> None:
    seen = dataclasses.asdict(plane.plane_counters())
    for name in ("datagrams", "oversized", "malformed", "rtcp", "unregistered"):
        assert (name, seen[name]) == (name, getattr(model, name))
    events = plane.telephone_events()
    for handle, leg in zip(handles, model.legs.values(), strict=True):
        counters = plane.counters(handle)
        assert {name: getattr(counters, name) for name in LEG_COUNTERS} == leg.counts
        assert (counters.lost, counters.num_bytes) == (leg.lost, leg.num_bytes)
        assert (counters.gap_s, counters.silence_s) == (leg.gap / 8000, leg.silence / 8000)
        assert counters.last_arrival_s == (None if leg.last_arrival is None else leg.last_arrival / 8000)
        ours = [
            (event.code, round(event.at_s * 8000), round(event.duration_s * 8000), event.is_complete)
            for event in events
            if event.leg == handle
        ]
        assert ours == leg.events


def batched(items: list, size: int) -> list[list]:
    return [items[at : at + size] for at in range(0, len(items), size)]


@given(scripts, st.integers(0, 3))
@example([("speak", 0, (pt, 12, 25)) for pt in CODED] + [("read", 0, (0,)), ("run", 0, (9,)), ("read", 0, (0,))], 0)
@example([("redundant", 0, (pt, 9, 2, True)) for pt in (0, 8, 9, 111, 112)] * 2 + [("read", 0, (300,))], 0)
@example([("run", 0, (1,)), ("jump_timestamp", 0, (-1,)), ("redundant", 0, (0, 1, 0, False)), ("read", 0, (0,))], 2)
@example([("babble", 0, (9, b"\0")), ("redundant", 0, (9, 2, 0, False)), ("read", 0, (300,))], 6)
@example([("babble", 0, (18, b"\0\0")), ("redundant", 0, (0, 3, 1, False))], 669)  # noise, then a copy: audio's begin
@example([("redundant", 0, (112, 7, 3, False))], 827)
@example([("babble", 0, (111, b"\x08")), ("lose", 0, (2,)), ("speak", 0, (111, 3, 0))], 0)  # the same with FEC
@example([("babble", 0, (pt, data)) for pt in CODED for data in (b"\1\2", b"\xf4\x60", bytes(12), bytes(76))], 0)
@example([("speak", 0, (111, 12, 60)), ("lose", 0, (2,)), ("speak", 1, (113, 12, 0)), ("read", 0, (0,))] * 5, 1)
@example([("run", 0, (40,)), ("lose", 0, (2,)), ("run", 0, (40,)), ("read", 0, (0,)), ("run", 0, (40,))], 0)
@example([("run", 0, (9,)), ("run", 1, (9,)), ("new_ssrc", 0, (1,)), ("key", 0, (5, 3, True)), ("run", 0, (9,))], 2)
@example([("run", 0, (40,)), ("read", 0, (0,))] * 12, 1)
@example([("run", 0, (40,))] * 3 + [("repeat", 0, (age,)) for age in (64, 65, 101, 102)], 0)  # the windows' edges
@settings(deadline=None, max_examples=cases(60, 120))
def test_the_three_agree(script: list[tuple[str, int, tuple]], seed: int) -> None:
    check(script, seed)


@pytest.mark.slow
@pytest.mark.timeout(900)
@given(scripts, st.integers(0, 1000))
@settings(deadline=None, max_examples=4000)
def test_the_three_agree_at_length(script: list[tuple[str, int, tuple]], seed: int) -> None:
    check(script, seed)
