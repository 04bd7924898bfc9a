"""The plane works where numba cannot: not installed, or with no folder to cache in."""

import subprocess
import sys

import pytest

from inference.errors import ConfigError
from inference.rtp import jit, plane
from inference.rtp.plane import PacketPlane, PlaneConfig

WITHOUT_NUMBA = """
import sys
sys.modules["numba"] = None  # as if it were not installed
from inference.rtp.packet import RtpPacket
from inference.rtp.plane import Datagram, PacketPlane, PlaneConfig
plane = PacketPlane(PlaneConfig(max_legs=1))
leg = plane.register(5004, ("192.0.2.7", 5004), now_s=1)
for i in (0, 1, 3, 2):
    data = bytes(RtpPacket(payload_type=0, sequence_number=i, timestamp=160 * i, ssrc=1, payload=b"\\0" * 160))
    plane.feed([Datagram(data, ("192.0.2.7", 5004), 5004, 1.02 + i / 50)])
print(plane.backend, plane.read([leg], now_s=2).present.sum(), plane.counters(leg).lost)
"""


def test_without_numba_the_numpy_kernel_serves() -> None:
    done = subprocess.run([sys.executable, "-c", WITHOUT_NUMBA], capture_output=True, text=True, check=True)
    assert (done.stdout, done.stderr) == ("numpy 640 0\n", "")


def test_asking_for_numba_without_it_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(plane, "HAS_NUMBA", False)
    assert PacketPlane(PlaneConfig(max_legs=1)).backend == "numpy"
    with pytest.raises(ConfigError, match="numba is not installed: install it or use 'auto'"):
        PacketPlane(PlaneConfig(max_legs=1), backend="numba")


def test_without_a_folder_for_the_cache_it_compiles_all_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    numba = pytest.importorskip("numba")

    def locate_nothing(*_: object) -> None:
        raise RuntimeError("cannot cache function: no locator available")

    monkeypatch.setattr(numba.core.caching.CacheImpl, "__init__", locate_nothing)
    assert jit.jit(lambda value: value + 1)(1) == 2
