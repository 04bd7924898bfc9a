"""SIPp as the recording client: a real peer's signalling and RTP, through sockets, to legs and alerts."""

import asyncio
import contextlib
import json
import os
import shutil
import socket
import ssl
import subprocess
import sys
import time
from pathlib import Path

import httpx
import numpy as np
import pytest
from structlog.testing import capture_logs

from inference.config import PrivacyConfig, Settings
from inference.rtp.g711 import encode_ulaw
from inference.rtp.plane import PlaneConfig
from inference.service.api import ApiConfig

SCENARIOS = Path(__file__).parents[1] / "sipp"
SIPP = shutil.which("sipp")
FAR, NEAR = "+15550100001", "+15550199002"
pytestmark = pytest.mark.skipif(SIPP is None, reason="needs sipp: apt-get install sip-tester")


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
        text = (SCENARIOS / f"{scenario}.xml").read_text().replace("SOUND", str(self.sound))
        if steps is not None:
            text = text.replace("<pause/>", steps)
        path = self.folder / f"{scenario}.xml"
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
def src(tmp_path, doubles):
    made = Src(tmp_path, encode_ulaw(doubles.speech(doubles.HELLO, doubles.THREAT, None, doubles.ASK)))
    yield made
    made.near.close()


@contextlib.asynccontextmanager
async def working(settings, monkeypatch):
    """A worker of those settings, its gateways within reach."""
    from inference.service import worker as module

    made, make = [], module.make_gateways
    monkeypatch.setattr(module, "make_gateways", lambda *arguments: made.extend(make(*arguments)) or made)
    async with module.Worker(settings) as worker:
        worker.gateways = made
        yield worker


@pytest.fixture
def live(scripted, doubles, monkeypatch):
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
        async with working(made, monkeypatch) as worker:
            (gateway,) = worker.gateways
            yield worker, {name: port for name, _, port in gateway.addresses}

    return make


@contextlib.asynccontextmanager
async def following(worker):
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
        await asyncio.wait_for(is_following.wait(), 10)
        yield events
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


def gateway_of(worker):
    return worker.gateways[0]


@pytest.mark.gateway
@pytest.mark.parametrize(("name", "transport"), [("udp", "u1"), ("tcp", "t1")])
def test_a_recorded_call_is_heard_with_its_roles_and_warned_of(live, src, doubles, name, transport):
    near = doubles.packets(doubles.speech(None, None, doubles.FINE, None), ssrc=9)

    async def run():
        async with live() as (worker, ports), following(worker) as events:
            media = worker.watch.media_ports[0]
            sipp = asyncio.create_task(src.run("src", ports[name], transport=transport, length_ms=3600))
            await doubles.until(lambda: worker.watch.call_ids)
            await src.play_near(media, near)
            assert await sipp == 0
            await doubles.until(lambda: any(event["type"] == "verdict" for event in events))
            return events, gateway_of(worker).num_recordings

    events, num_left = asyncio.run(run())
    said = [(e["leg"], e["text"]) for e in events if e["type"] == "utterance"]
    assert sorted(said) == sorted(
        [("far", p.text) for p in (doubles.HELLO, doubles.THREAT, doubles.ASK)] + [("near", doubles.FINE.text)]
    )
    assert [event["level"] for event in events if event["type"] == "alert"] == ["suspect", "danger"]
    verdict = events[-1]
    assert verdict["packets"]["far"]["received"] > 140
    assert verdict["packets"]["near"]["received"] == len(near)
    assert num_left == 0


def warnings_of(worker):
    """How often what became of warnings, by way."""
    (family,) = worker.telemetry.warnings.collect()
    return {
        (sample.labels["ear"], sample.labels["outcome"]): sample.value
        for sample in family.samples
        if sample.name.endswith("_total")
    }


@pytest.mark.gateway
@pytest.mark.parametrize(("name", "transport"), [("udp", "u1"), ("tcp", "t1")])
def test_the_sbc_is_asked_to_warn_and_to_stop(live, src, doubles, name, transport):
    """SIPp checks what each INFO says: a beep, the line, and the stop when the subscriber presses the key."""
    steps = (SCENARIOS / "info.xml").read_text()

    async def run():
        async with live(info={}) as (worker, ports):
            sipp = asyncio.create_task(src.run("src", ports[name], transport=transport, steps=steps))
            await doubles.until(lambda: warnings_of(worker).get(("siprec", "played")) == 2)
            (call_id,) = worker.watch.call_ids
            worker.warner.key_pressed(call_id, "near", "9")
            assert await sipp == 0
            return warnings_of(worker)

    outcomes = asyncio.run(run())
    assert outcomes == {("siprec", "played"): 2, ("siprec", "not a scam"): 1, ("siprec", "stopped"): 1}


@pytest.mark.gateway
@pytest.mark.parametrize("status", [415, 481])
def test_an_sbc_that_does_not_take_info(live, src, doubles, status):
    """The warnings fail, in one line; the recording and the alerts go on to the call's own end."""
    steps = (SCENARIOS / "info_refused.xml").read_text().replace("STATUS", str(status))

    async def run():
        with capture_logs() as logs:
            async with live(info={}) as (worker, ports), following(worker) as events:
                code = await src.run("src", ports["udp"], steps=steps)
                await doubles.until(lambda: any(event["type"] == "verdict" for event in events))
                return code, logs, events, warnings_of(worker), gateway_of(worker).agent.counts["ended: bye"]

    code, logs, events, outcomes, ended = asyncio.run(run())
    assert (code, ended) == (0, 1)
    assert [event["level"] for event in events if event["type"] == "alert"] == ["suspect", "danger"]
    assert outcomes == {("siprec", "failed"): 2}
    whys = [entry["why"] for entry in logs if entry["event"] == "warning not played"]
    assert whys == [f"siprec answered {status}"] * 2


@pytest.mark.gateway
def test_roles_follow_the_operators_numbers(live, src, doubles):
    """The same call, the caller being our subscriber: its voice is the near one."""

    async def run():
        async with live(near_numbers=["+155501000"]) as (worker, ports), following(worker) as events:
            assert await src.run("src", ports["udp"], length_ms=3600) == 0
            await doubles.until(lambda: any(event["type"] == "verdict" for event in events))
            return events

    events = asyncio.run(run())
    assert {event["leg"] for event in events if event["type"] == "utterance"} == {"near"}


@pytest.mark.gateway
def test_latched_streams_are_heard_from_wherever_they_come(live, src, doubles):
    """The SDP names other ports than the second stream is sent from; each stream has a port of its own."""
    media = PlaneConfig(ports=(0,), exclusive_ports=(46100, 46103), max_legs=16)
    near = doubles.packets(doubles.speech(None, doubles.FINE), ssrc=9)

    async def run():
        async with live({"media": media}, latch=True) as (worker, ports), following(worker) as events:
            sipp = asyncio.create_task(src.run("src", ports["udp"], near_port=9, length_ms=3600))
            await doubles.until(lambda: worker.watch.call_ids)
            await src.play_near(46101, near)
            assert await sipp == 0
            await doubles.until(lambda: any(event["type"] == "verdict" for event in events))
            await doubles.until(lambda: gateway_of(worker).ports.num_leased == 0)
            return events

    events = asyncio.run(run())
    said = {(event["leg"], event["text"]) for event in events if event["type"] == "utterance"}
    assert {("far", doubles.THREAT.text), ("near", doubles.FINE.text)} <= said


@pytest.mark.gateway
def test_hold_codec_change_and_update(live, src, doubles):
    async def run():
        async with live() as (worker, ports), following(worker) as events:
            sipp = asyncio.create_task(src.run("changes", ports["udp"], length_ms=700))
            await doubles.until(lambda: worker.watch.call_ids)
            (call_id,) = worker.watch.call_ids
            assert await sipp == 0
            await doubles.until(lambda: any(event["type"] == "verdict" for event in events))
            return call_id, [event for event in events if event["type"] == "verdict"]

    call_id, verdicts = asyncio.run(run())
    assert [verdict["call"] for verdict in verdicts] == [call_id]


@pytest.mark.gateway
@pytest.mark.parametrize("transport", ["udp", "tcp"])
def test_cancel_and_options(live, src, transport):
    async def run():
        async with live() as (worker, ports):
            codes = [
                await src.run(scenario, ports[transport], transport={"udp": "u1", "tcp": "t1"}[transport])
                for scenario in ("options", "cancel")
            ]
            await asyncio.sleep(0.1)
            return codes, worker.watch.call_ids

    assert asyncio.run(run()) == ([0, 0], [])


@pytest.mark.gateway
def test_digest(live, src):
    async def run():
        async with live(digest={"users": {"sbc1": "correct-horse-battery"}, "algorithms": ["MD5"]}) as (worker, ports):
            code = await src.run("digest", ports["udp"])
            refused = await src.run("load", ports["udp"], "-inf", ports_file(src.folder), timeout_s=3)
            return code, refused, gateway_of(worker).agent.counts["ended: bye"]

    code, refused, ended = asyncio.run(run())
    assert (code, ended) == (0, 1)
    assert refused != 0


@pytest.mark.gateway
def test_full_is_503(live, src, doubles):
    from inference.service.watch import WatchConfig

    async def run():
        async with live({"watch": WatchConfig(max_calls=1)}) as (worker, ports):
            first = asyncio.create_task(src.run("src", ports["udp"], length_ms=2500))
            await doubles.until(lambda: worker.watch.call_ids)
            return await src.run("full", ports["udp"]), await first

    assert asyncio.run(run()) == (0, 0)


def ports_file(folder, num=4000):
    """Source ports of both streams of each call: no two calls at once share one."""
    path = folder / "ports.csv"
    path.write_text("SEQUENTIAL\n" + "".join(f"{10_000 + 4 * n};{10_002 + 4 * n};\n" for n in range(num)))
    return path


@pytest.mark.gateway
def test_a_third_of_all_datagrams_lost(live, src):
    """Both sides send again until it arrives; no call is left behind, none is counted twice."""

    async def run():
        async with live() as (worker, ports):
            code = await src.run(
                "load", ports["udp"], "-inf", ports_file(src.folder), "-lost", 30, "-r", 10, calls=20, length_ms=300
            )
            gateway = gateway_of(worker)
            async with asyncio.timeout(40):
                while gateway.num_recordings:  # noqa: ASYNC110 -- a BYE of which every copy was lost: its session was not acknowledged
                    await asyncio.sleep(0.1)
            return code, gateway.agent.counts, worker.watch.call_ids

    _code, counts, call_ids = asyncio.run(run())
    assert call_ids == []
    assert sum(number for what, number in counts.items() if what.startswith("ended")) == 20
    assert counts["ended: bye"] >= 18


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


@contextlib.asynccontextmanager
async def tls_in_front(port, context):
    """SIPp from Debian has no TLS: what it sends over TCP goes on over TLS."""

    async def pipe(reader, writer):
        with contextlib.suppress(OSError):
            while data := await reader.read(65_536):
                writer.write(data)
                await writer.drain()
        writer.close()

    tasks = set()

    async def relay(reader, writer):
        try:
            onward = await asyncio.open_connection("127.0.0.1", port, ssl=context, server_hostname="server")
        except OSError:
            writer.close()
            return
        for one, other in ((reader, onward[1]), (onward[0], writer)):
            tasks.add(asyncio.create_task(pipe(one, other)))

    server = await asyncio.start_server(relay, "127.0.0.1", 0)
    try:
        yield server.sockets[0].getsockname()[1]
    finally:
        server.close()
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


@pytest.mark.gateway
def test_tls_and_whose_certificate_we_take(live, src, certificates):
    tls = {"certificate": certificates / "server.pem", "key": certificates / "server.key"}
    trusted = ssl.create_default_context(cafile=str(certificates / "ca.pem"))
    trusted.check_hostname = False
    with_ours = ssl.create_default_context(cafile=str(certificates / "ca.pem"))
    with_ours.check_hostname = False
    with_ours.load_cert_chain(certificates / "client.pem", certificates / "client.key")

    async def run():
        siprec = {
            "listen": ["tls:127.0.0.1:0"],
            "tls": tls | {"client_ca": certificates / "ca.pem"},
            "digest": {"users": {"sbc1": "correct-horse-battery"}},  # not asked of who shows a certificate
        }
        codes = []
        async with live(**siprec) as (worker, ports):
            for context in (with_ours, trusted):
                async with tls_in_front(ports["tls"], context) as port:
                    codes.append(await src.run("src", port, transport="t1", length_ms=300, timeout_s=5))
            for _ in range(20):  # a connection that never says a word of TLS
                _, writer = await asyncio.open_connection("127.0.0.1", ports["tls"])
                writer.close()
            await asyncio.sleep(0.2)
            return codes, gateway_of(worker).agent.counts["ended: bye"], gateway_of(worker).num_connections

    (good, bad), ended, num_open = asyncio.run(run())
    assert (good, ended, num_open) == (0, 1, 0)
    assert bad != 0


def resident_mib():
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE") / 2**20


def descriptors():
    return len(list(Path("/proc/self/fd").iterdir()))


@pytest.mark.gateway
@pytest.mark.parametrize("transport", ["u1", "t1"])
def test_fifty_calls_a_second_leave_nothing_behind(live, src, transport, record_property):
    load(live, src, transport, 8, record_property)


@pytest.mark.slow
@pytest.mark.timeout(1500)
def test_ten_minutes_of_fifty_calls_a_second(live, src, record_property):
    load(live, src, "u1", 600, record_property)


def load(live, src, transport, seconds, record_property):
    """Calls set up and torn down; afterwards memory, descriptors, dialogs and ports are what they were."""
    # Few rows of the plane, so that all their memory is touched while it warms up, and (in the long run) longer than
    # transactions are remembered: what grows then is a leak.
    rate, num_warm = 50, 2000 if seconds > 60 else 600
    media = PlaneConfig(ports=(0,), max_legs=1024)

    async def run():
        async with live({"media": media}) as (worker, ports):
            gateway, port = gateway_of(worker), ports["udp" if transport == "u1" else "tcp"]
            more = ["-inf", ports_file(src.folder), "-r", rate, "-l", 500]
            how = {"transport": transport, "length_ms": 1000, "timeout_s": 2 * seconds + 60}
            began_s = time.process_time()
            warm = await src.run("load", port, *more, calls=num_warm, **how)
            await asyncio.sleep(6)
            before = resident_mib(), descriptors()
            loaded_s = time.monotonic()
            code = await src.run("load", port, *more, calls=rate * seconds, **how)
            record_property("calls_per_s", round(rate * seconds / (time.monotonic() - loaded_s), 1))
            async with asyncio.timeout(40 if code == 0 else 200):  # what SIPp gave up falls silent after 120 s
                while gateway.agent.num_transactions or gateway.num_recordings:  # noqa: ASYNC110
                    await asyncio.sleep(0.2)
            after = resident_mib(), descriptors()
            state = gateway.num_recordings, gateway.agent.num_sessions, worker.watch.call_ids, gateway.ports.num_leased
            record_property(
                "cpu_ms_per_call", round(1000 * (time.process_time() - began_s) / (num_warm + rate * seconds), 1)
            )
            record_property("mib_before", round(before[0], 1))
            record_property("mib_after", round(after[0], 1))
            return warm, code, before, after, state, gateway.agent.counts

    warm, code, before, after, state, counts = asyncio.run(run())
    assert (warm, code) == (0, 0), counts
    assert counts["ended: bye"] == num_warm + rate * seconds
    assert state == (0, 0, [], 0)
    assert after[1] <= before[1] + 2
    assert after[0] - before[0] < (10 if seconds > 60 else 30)


@pytest.mark.slow
@pytest.mark.timeout(400)
def test_the_demo_scam_over_siprec_with_the_real_models(models, doubles, tmp_path, monkeypatch, record_property):
    """SIPp plays the caller's leg of the demo's scam call, and the subscriber's comes beside it."""
    import soundfile as sf

    tiny = Path(__file__).parents[3] / "datasets" / "tiny"
    sound, rate_hz = sf.read(tiny / "demo-scam.wav", dtype="int16")
    labels = json.loads((tiny / "demo-scam.json").read_text())
    assert rate_hz == 8000
    far, near = np.ascontiguousarray(sound.T)
    src = Src(tmp_path, encode_ulaw(far))
    packets = doubles.packets(near, ssrc=9)
    settings = models.settings.model_copy(
        update={
            "privacy": PrivacyConfig(legal_basis="a test of our own software"),
            "media": PlaneConfig(ports=(0,), max_legs=16),
            "api": ApiConfig(port=0),
            "gateways": Settings(gateways={"siprec": {"listen": ["udp:127.0.0.1:0"]}}).gateways,
        }
    )

    async def run():
        async with working(settings, monkeypatch) as worker, following(worker) as events:
            (_, _, port) = worker.gateways[0].addresses[0]
            length_ms = 1000 * len(sound) // rate_hz + 1500
            sipp = asyncio.create_task(src.run("src", port, length_ms=length_ms, timeout_s=300))
            async with asyncio.timeout(10):
                while not worker.watch.call_ids:  # noqa: ASYNC110
                    await asyncio.sleep(0.01)
            await src.play_near(worker.watch.media_ports[0], packets)
            assert await sipp == 0
            async with asyncio.timeout(60):
                while not any(event["type"] == "verdict" for event in events):  # noqa: ASYNC110
                    await asyncio.sleep(0.1)
            return events

    try:
        events = asyncio.run(run())
    finally:
        src.near.close()
    alerts = [(event["level"], event["at_s"]) for event in events if event["type"] == "alert"]
    record_property("alerts", alerts)
    assert alerts[0][1] < labels["ask_s"]
    assert {event["leg"] for event in events if event["type"] == "utterance"} == {"far", "near"}
