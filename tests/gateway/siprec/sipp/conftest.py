"""SIPp as the recording client: a real peer's signalling and RTP, against a worker in this process."""

import asyncio
import contextlib
import json
import shutil
import socket
import subprocess
import sys
from pathlib import Path

import httpx
import pytest

from inference.config import PrivacyConfig, Settings
from inference.rtp.g711 import encode_ulaw
from inference.rtp.plane import PlaneConfig
from inference.service.api import ApiConfig

SCENARIOS = Path(__file__).parents[2] / "sipp"
SIPP = shutil.which("sipp")
FAR, NEAR = "+15550100001", "+15550199002"


def pytest_collection_modifyitems(items):
    needs_sipp = pytest.mark.skipif(SIPP is None, reason="needs sipp: apt-get install sip-tester")
    for item in items:
        if item.path.parent == Path(__file__).parent:
            item.add_marker(needs_sipp)


class Src:
    """Runs SIPp against our address."""

    def __init__(self, folder: Path, sound: bytes):
        self.folder = folder
        self.sound = folder / "far.ulaw"
        self.sound.write_bytes(sound)
        self.near = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self.near.bind(("127.0.0.1", 0))

    async def run(
        self,
        scenario,
        port,
        *more,
        transport="u1",
        calls=1,
        timeout_s=60,
        length_ms=0,
        near_port=None,
        steps=None,
    ):
        """Exit code; the scenario's faults are printed. ``steps`` take the place of its pause."""
        made = scenario if isinstance(scenario, Path) else SCENARIOS / f"{scenario}.xml"
        text = made.read_text().replace("SOUND", str(self.sound))
        if steps is not None:
            text = text.replace("<pause/>", steps)
        path = self.folder / made.name
        path.write_text(text)
        keys = {"near_port": near_port or self.near.getsockname()[1], "far": FAR, "near": NEAR}
        arguments = [f"127.0.0.1:{port}", "-sf", path, "-i", "127.0.0.1", "-t", transport, "-m", calls, "-d", length_ms]
        arguments += ["-nostdin", "-trace_err", "-timeout", timeout_s, "-timeout_error", *more]
        for name, value in keys.items():
            arguments += ["-key", name, value]
        process = await asyncio.create_subprocess_exec(
            SIPP, *map(str, arguments), cwd=self.folder, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        )
        try:
            code = await process.wait()
        finally:
            if process.returncode is None:
                process.kill()
                await process.wait()
        for errors in self.folder.glob("*_errors.log"):
            sys.stderr.write(errors.read_text()[:2000])  # shown where the test fails
        return code

    async def play_near(self, port, packets):
        """The second stream, from its declared port."""
        loop = asyncio.get_running_loop()
        began_s = loop.time()
        for number, packet in enumerate(packets):
            self.near.sendto(packet, ("127.0.0.1", port))
            await asyncio.sleep(max(0.0, began_s + 0.02 * (number + 1) - loop.time()))


@pytest.fixture
def scenarios():
    """The folder of SIPp's scenarios."""
    return SCENARIOS


@pytest.fixture
def make_src():
    """``Src(folder, mu-law)``; closed afterwards."""
    made = []

    def make(folder, sound):
        made.append(Src(folder, sound))
        return made[-1]

    yield make
    for src in made:
        src.near.close()


@pytest.fixture
def src(make_src, tmp_path, doubles):
    return make_src(tmp_path, encode_ulaw(doubles.speech(doubles.HELLO, doubles.THREAT, None, doubles.ASK)))


@pytest.fixture
def working(monkeypatch):
    """``async with working(settings) as worker``: its gateways are ``worker.gateways``."""
    from inference.service import worker as module

    @contextlib.asynccontextmanager
    async def work(settings):
        made, make = [], module.make_gateways
        monkeypatch.setattr(module, "make_gateways", lambda *arguments: made.extend(make(*arguments)) or made)
        async with module.Worker(settings) as worker:
            worker.gateways = made
            yield worker

    return work


@pytest.fixture
def live(working, scripted, doubles):
    """``async with live(**siprec) as (worker, {transport: port})``; ``settings`` go to the worker."""

    @contextlib.asynccontextmanager
    async def make(settings=None, **siprec):
        made = Settings(
            **{
                "privacy": PrivacyConfig(legal_basis="a test of our own software"),
                "media": PlaneConfig(ports=(0,), max_legs=4096),
                "api": ApiConfig(port=0, include_text=True),
                "segmenter": doubles.SEGMENTS,
                "gateways": {"siprec": {"listen": ["udp:127.0.0.1:0", "tcp:127.0.0.1:0"]} | siprec},
            }
            | (settings or {})
        )
        async with working(made) as worker:
            (gateway,) = worker.gateways
            yield worker, {name: port for name, _, port in gateway.addresses}

    return make


@pytest.fixture
def following():
    """``async with following(worker) as events``: the worker's events, as they come."""
    return _following


@contextlib.asynccontextmanager
async def _following(worker):
    """Events of the worker, as they come."""
    events, is_following = [], asyncio.Event()

    async def follow():
        host, port = worker.api_address
        async with (
            httpx.AsyncClient(base_url=f"http://{host}:{port}", trust_env=False) as api,
            api.stream("GET", "/v1/events", timeout=60) as response,
        ):
            async for line in response.aiter_lines():
                is_following.set()
                if line.startswith("data: "):
                    events.append(json.loads(line.removeprefix("data: ")))

    task = asyncio.create_task(follow())
    try:
        await asyncio.wait_for(is_following.wait(), 60)
        yield events
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


@pytest.fixture
def source_ports(tmp_path):
    """SIPp's file of source ports of both streams of each call: no two calls at once share one."""
    path = tmp_path / "ports.csv"
    path.write_text("SEQUENTIAL\n" + "".join(f"{10_000 + 4 * n};{10_002 + 4 * n};\n" for n in range(4000)))
    return path


@pytest.fixture(scope="module")
def certificates(tmp_path_factory):
    """A CA, ours and a client's, made now."""
    folder = tmp_path_factory.mktemp("tls")

    def openssl(*arguments):
        subprocess.run(["openssl", *arguments], cwd=folder, check=True, capture_output=True)

    new = ["req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-days", "2"]
    openssl(*new, "-keyout", "ca.key", "-out", "ca.pem", "-subj", "/CN=test CA")
    for name in ("server", "client"):
        request = ["req", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes"]
        openssl(*request, "-keyout", f"{name}.key", "-out", f"{name}.csr", "-subj", f"/CN={name}")
        sign = ["x509", "-req", "-CA", "ca.pem", "-CAkey", "ca.key", "-CAcreateserial", "-days", "2"]
        openssl(*sign, "-in", f"{name}.csr", "-out", f"{name}.pem")
    return folder
