"""The load benchmark: its sender's packets are RTP of the right calls, and the whole of it runs."""

import itertools
import json
import os
import socket
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from inference.rtp.packet import RtpPacket

ROOT = Path(__file__).resolve().parents[2]

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="sendmmsg and the whole of 127/8 are Linux's")


@pytest.fixture
def rtp_sender(monkeypatch):
    monkeypatch.syspath_prepend(str(ROOT / "benchmarks"))
    import rtp_sender

    return rtp_sender


def test_each_leg_plays_its_own_audio_from_its_own_address(rtp_sender):
    audio = [np.full(480, leg & 0xFF, np.uint8) for leg in range(300)]
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as receiver:
        receiver.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4 << 20)
        receiver.bind(("127.0.0.1", 0))
        receiver.settimeout(60)
        sender = rtp_sender.Sender(audio, receiver.getsockname()[1])
        sender.num_playing = 299  # one is silent yet
        sender.start()
        heard = {}
        for _ in range(3 * 299):
            data, source = receiver.recvfrom(2048)
            heard.setdefault(source, []).append(RtpPacket.parse(data))
        sender.stop()
    legs = {(rtp_sender.source_of(leg), sender.port): leg for leg in range(300)}
    assert {legs[source] for source in heard} == set(range(299))
    for source, packets in heard.items():
        assert {packet.payload for packet in packets} == {bytes([legs[source] & 0xFF]) * 160}
        steps = {
            (b.sequence_number - a.sequence_number, b.timestamp - a.timestamp) for a, b in itertools.pairwise(packets)
        }
        assert steps <= {(1, 160)}
    assert len({packets[0].ssrc for packets in heard.values()}) == 299


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_all_of_it_runs_with_stub_models(models):
    done = subprocess.run(
        [sys.executable, str(ROOT / "benchmarks" / "calls.py"), "--stub", "0.0001", "--calls", "2", "--seconds", "6",
         "--settle", "4", "--json"],
        env=os.environ | {"PYTHONPATH": str(ROOT)},
        capture_output=True, text=True, timeout=300, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-2000:]
    (load,) = json.loads(done.stdout.splitlines()[-1])["loads"]
    assert load["calls"] == 2
    assert load["segments"] > 0
    assert load["packets"]["received"] > 0.9 * load["sent"]
