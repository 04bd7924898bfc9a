"""Decoder processes over real sockets: legs are heard, one that dies is replaced, what it cannot take is counted."""

import os
import signal
import socket
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from inference.rtp import layout
from inference.rtp.codecs.pool import DecoderPool
from inference.rtp.plane import PacketPlane, PlaneConfig
from tests.rtp.voices import PAYLOAD_TYPE, VOICES, likeness, packets, voice

linux = pytest.mark.skipif(not hasattr(socket, "SOCK_SEQPACKET"), reason="decoder processes are Linux's")


class StarvedError(AssertionError):
    """What was waited for did not happen in time."""


def wait_for(condition: Callable[[], bool], limit_s: float = 15) -> None:
    deadline = time.monotonic() + limit_s
    while not condition():
        if time.monotonic() > deadline:
            raise StarvedError("it did not happen")
        time.sleep(0.01)


class Live:
    """A running plane with one leg of each codec, and the gateway that sends to it."""

    def __init__(self, keys: list[str], processes: int) -> None:
        self.plane = PacketPlane(
            PlaneConfig(
                ports=(0,),
                max_legs=16,
                codec_processes=processes,
                ring_samples=65536,
                max_ahead_ms=900,
                codec_delay_ms=1000,  # all it takes: our turn and theirs may come late
            )
        )
        self.plane.start()
        (self.port,) = self.plane.ports
        self.keys, self.senders, self.legs, self.heard = keys, [], [], {}
        for key in keys:
            sender = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
            sender.bind(("127.0.0.1", 0))
            self.senders.append(sender)
            spoken = VOICES[key]
            types, formats = {PAYLOAD_TYPE: spoken.name}, {PAYLOAD_TYPE: spoken.parameters}
            self.legs.append(
                self.plane.register(self.port, ("127.0.0.1", sender.getsockname()[1]), types, formats=formats)
            )

    def __enter__(self) -> "Live":
        return self

    def __exit__(self, *_: object) -> None:
        self.plane.stop()
        for sender in self.senders:
            sender.close()

    def send(self, first: int, num: int) -> None:
        """All of it within a few ms: positions come from timestamps."""
        for i in range(first, first + num):
            for key, sender in zip(self.keys, self.senders, strict=True):
                sender.sendto(packets(key)[i][1], ("127.0.0.1", self.port))
        time.sleep(0.02)

    def hear(self, until: Callable[[], bool]) -> None:
        def read() -> bool:
            batch = self.plane.read(self.legs)
            for k, leg in enumerate(self.legs):
                num = batch.num_samples[k]
                parts = self.heard.setdefault(leg, [])
                parts.append((batch.samples[k, :num].copy(), batch.present[k, :num].copy()))
            return until()

        wait_for(read)

    def num_heard(self, leg: int) -> int:
        return sum(int(present.sum()) for _, present in self.heard.get(leg, []))


@linux
@pytest.mark.parametrize("processes", [0, 1, 2])
def test_every_codec_is_heard_over_real_sockets(processes: int) -> None:
    keys = ["G722", "opus", "AMR", "AMR-WB aligned", "G729", "GSM", "iLBC 30"]
    for attempt in range(3):  # on a machine that is busy with other things, audio may be decoded too late to be heard
        try:
            all_codecs_are_heard(keys, processes)
        except StarvedError:
            if attempt == 2:
                raise
        else:
            return


def all_codecs_are_heard(keys: list[str], processes: int) -> None:
    with Live(keys, processes) as live:
        live.send(0, 40)
        live.hear(lambda: all(live.num_heard(leg) >= 38 * 160 for leg in live.legs))
        for key, leg in zip(keys, live.legs, strict=True):
            samples, present = (np.concatenate(parts) for parts in zip(*live.heard[leg], strict=True))
            begin = int(present.argmax())
            num = 39 * 160
            fidelity, _ = likeness(samples[begin : begin + num], present[begin : begin + num], voice(), range(100))
            assert (key, fidelity > VOICES[key].fidelity - 0.1) == (key, True)
            counters = live.plane.counters(leg)
            assert (key, counters.received, counters.lost) == (key, 40, 0)
            if counters.undecoded:  # a packet that no decoder makes sense of is so at every attempt
                raise StarvedError(f"{counters.undecoded} packets of {key} were not decoded, or too late")
        assert live.plane.plane_counters().decoder_restarts == 0


@linux
def test_a_process_that_dies_is_started_anew_and_its_legs_go_on() -> None:
    with Live(["AMR-WB", "opus"], 1) as live:
        live.send(0, 10)
        live.hear(lambda: all(live.num_heard(leg) > 8 * 160 for leg in live.legs))
        before = [live.num_heard(leg) for leg in live.legs]
        pool = live.plane._reception._pool
        os.kill(pool._processes[0].process.pid, signal.SIGKILL)
        live.hear(lambda: live.plane.plane_counters().decoder_restarts == 1)
        live.send(10, 20)
        live.hear(lambda: all(live.num_heard(leg) > n + 17 * 160 for leg, n in zip(live.legs, before, strict=True)))
        assert all(live.plane.counters(leg).received == 30 for leg in live.legs)


@linux
def test_legs_come_and_go_and_no_process_or_descriptor_is_left() -> None:
    before = set(Path("/proc/self/fd").iterdir())
    for _ in range(2):
        with Live(["opus"], 2) as live:
            pids = [process.process.pid for process in live.plane._reception._pool._processes]
            live.send(0, 5)
            live.hear(lambda live=live: live.num_heard(live.legs[0]) > 0)
            live.plane.release(live.legs[0])
        for pid in pids:
            with pytest.raises(ProcessLookupError):
                os.kill(pid, 0)
    assert set(Path("/proc/self/fd").iterdir()) == before


@linux
def test_what_a_process_cannot_take_is_refused_not_waited_for() -> None:
    pool = DecoderPool(1, lambda decoded: None)
    pool.start()
    process = pool._processes[0]
    os.kill(process.process.pid, signal.SIGSTOP)
    try:
        side = np.zeros((64, layout.NUM_SIDE_COLUMNS), np.int64)
        side[:, layout.SIDE_CODEC], side[:, layout.SIDE_END] = layout.CODEC_G722, 1500
        rows, refused = np.zeros((1, 1600), np.uint8), 0
        begin_s = time.monotonic()
        for _ in range(200):
            refused += len(pool.send(side, rows, 0))
        assert time.monotonic() - begin_s < 5
        assert 0 < refused < 200 * 64
        time.sleep(0.05)
        assert pool.lags_s()[0] > 0.05  # its legs' readers wait for it
    finally:
        os.kill(process.process.pid, signal.SIGCONT)
        pool.stop()
    assert process.process.returncode == 0
