"""Kamailio as the proxy that asks us, SIPp as callers and phones: what an operator would paste, with real peers.

Prints, with ``-s``, how long calls took to ring before and after we were killed or hung.
"""

import asyncio
import os
import re
import shutil
import signal
import socket
import statistics
import subprocess
import sys
from pathlib import Path

import pytest

from tests.peers import Peer, free_port, free_ports, listens, started

HERE = Path(__file__).parent / "kamailio"
ROOT = Path(__file__).parents[2]
CONFIG = ROOT / "configs" / "deploy" / "kamailio" / "screening.cfg"
KAMAILIO, SIPP = shutil.which("kamailio"), shutil.which("sipp")
HTTP_MODULE = next(Path("/usr/lib").glob("*/kamailio/modules/http_client.so"), None)
pytestmark = [
    pytest.mark.gateway,
    pytest.mark.skipif(None in (KAMAILIO, SIPP, HTTP_MODULE), reason="needs kamailio, its utils modules, sip-tester"),
]
WAYS = ["ASK_SIP", "ASK_HTTP"]
PLAIN, CALLEE = "+442079460000", "+442079460100"
DENIED, NEVER_CALLS, HEARD, UNALLOCATED = "+442079460607", "+442079460608", "+442079460302", "+447700900123"
SHIELDED = "+442079460603"
GOAL_MS = 50


class Bench:
    """Everybody, on loopback: us, the proxy, a phone, the challenge service."""

    def __init__(self, folder, way, deadline_ms=40):
        self.folder, self.way, self.deadline_ms = folder, way, deadline_ms
        self.ports, self.peers = {}, {}
        self.num_runs = 0

    def start(self):
        """All on ports of their own; again, on others: what was started is gone then."""
        self.ports = {name: free_port() for name in ("proxy", "phone", "challenge", "sip", "http")}
        try:
            self.start_door()
            for name in ("phone", "challenge"):
                address = ["-i", "127.0.0.1", "-p", self.ports[name], "-mp", free_ports(4), "-t", "u1"]
                command = (SIPP, "-sf", HERE / "phone.xml", *address, "-nostdin", "-trace_msg")
                self.begin(name, lambda name=name: listens(self.ports[name], socket.SOCK_DGRAM), *command)
            self.start_proxy()
        except BaseException:
            self.close()
            raise

    def begin(self, name, is_up, *command):
        env = os.environ | {"PYTHONPATH": str(ROOT)}
        self.peers[name] = Peer(command, self.folder / f"{name}.log", is_up, cwd=self.folder, env=env)

    def start_door(self):
        challenge = f"sip:challenge@127.0.0.1:{self.ports['challenge']}"
        command = (sys.executable, HERE / "door.py", self.ports["sip"], self.ports["http"], challenge)
        self.begin("door", lambda: listens(self.ports["http"]), *command)

    def start_proxy(self):
        text = CONFIG.read_text()
        for name, default in {"proxy": 5060, "phone": 5080, "sip": 5070, "http": 8650, "challenge": 5090}.items():
            assert f"127.0.0.1:{default}" in text
            text = text.replace(f"127.0.0.1:{default}", f"127.0.0.1:{self.ports[name]}")
        assert text.count("!DEADLINE_MS!40!") == 1
        text = text.replace("!DEADLINE_MS!40!", f"!DEADLINE_MS!{self.deadline_ms}!")
        text = text.replace('"connection_timeout", 1)', f'"connection_timeout", {max(1, self.deadline_ms // 1000)})')
        config = self.folder / "screening.cfg"
        config.write_text(text)
        asks = f"{self.way}=1" if self.way == "ASK_HTTP" else "TEST=1"
        command = (KAMAILIO, "-f", config, "-A", asks, "-DD", "-E", "-m", "64", "-M", "8")
        self.begin("kamailio", lambda: listens(self.ports["proxy"]), *command, "-Y", self.folder, "-w", self.folder)

    def close(self):
        for peer in self.peers.values():
            peer.close()

    async def __aenter__(self):
        await asyncio.to_thread(started, self.start)
        return self

    async def __aexit__(self, *_):
        await asyncio.to_thread(self.close)

    async def call(self, caller, callee=CALLEE, *more, code=None):
        """SIPp's exit code: 0 where the call went as expected."""
        self.num_runs += 1
        name = "call" if code is None else "refused"
        scenario = self.folder / f"{name}{self.num_runs}.xml"
        text = (HERE / f"{name}.xml").read_text().replace("CODE", str(code))
        if more:  # each call to somebody else: one callee would be under attack
            text = text.replace("[callee]", "[callee][call_number]")
        scenario.write_text(text)
        arguments = [f"127.0.0.1:{self.ports['proxy']}", "-sf", scenario, "-i", "127.0.0.1", "-t", "u1", "-nostdin"]
        arguments += ["-timeout", "60", "-timeout_error", "-trace_err", "-key", "far", caller, "-key", "callee", callee]
        arguments += more or ("-m", "1", "-trace_msg", "-message_file", self.folder / f"caller{self.num_runs}.msg")
        caller = await asyncio.create_subprocess_exec(
            SIPP, *map(str, arguments), cwd=self.folder,
            stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
        )  # fmt: skip
        try:
            result = await caller.wait()
        finally:
            if caller.returncode is None:
                caller.kill()
                await caller.wait()
        for errors in self.folder.glob("*_errors.log"):
            sys.stderr.write(errors.read_text()[:2000])  # shown where the test fails
        return result

    def invites(self, name):
        """INVITEs that a phone got, without copies."""
        text = "".join(path.read_text(errors="replace") for path in self.folder.glob("phone_*_messages.log"))
        port = self.ports[name]
        found = {}
        for message in re.findall(r"^INVITE .*?\n\s*\n", text.replace("\r", ""), re.S | re.M):
            if f":{port}" in message.partition("\n")[0] or name == "phone":
                found[re.search(r"^Call-ID: (.*)$", message, re.M)[1]] = message
        return list(found.values())


@pytest.mark.parametrize("way", WAYS)
def test_each_decision_is_obeyed(tmp_path, way):
    async def run():
        # Whether each is obeyed, not how soon: on a busy machine we may take longer than calls wait, which then ring.
        async with Bench(tmp_path, way, deadline_ms=4000) as bench:
            codes = {
                "allow": await bench.call(PLAIN),
                "607": await bench.call(DENIED, code=607),
                "608": await bench.call(NEVER_CALLS, code=608),
                "603": await bench.call(PLAIN, SHIELDED, code=603),
                "emergency": await bench.call(DENIED, "999"),
                "prompt": await bench.call(HEARD, "+442079460101"),
                "challenge": await bench.call(UNALLOCATED, "+442079460102"),
            }
            await asyncio.sleep(0.2)
            return codes, bench

    codes, bench = asyncio.run(run())
    log = (tmp_path / "kamailio.log").read_text()[-3000:]
    assert codes == dict.fromkeys(codes, 0), log
    invites = {}
    for path in tmp_path.glob("phone_*_messages.log"):
        for message in re.findall(r"^INVITE .*?\n\s*\n", path.read_text().replace("\r", ""), re.S | re.M):
            to = re.search(r"^To: <sip:([^@]*)@", message, re.M)[1]
            invites[to] = message
    assert set(invites) == {CALLEE, "999", "+442079460101", "+442079460102"}
    assert all("a caller may not say this" not in message for message in invites.values())
    shown = invites["+442079460101"]
    label = "Earlier calls sounded like suspected fraud; operator security centre"
    assert f'From: "{label}" <sip:{HEARD}@' in shown
    assert 'purpose=jcard;call-reason="Earlier calls sounded like suspected fraud' in shown
    assert "nor this" not in shown
    assert 'From: "Your Bank" ' in invites[CALLEE]
    challenged = invites["+442079460102"]
    assert challenged.startswith(f"INVITE sip:challenge@127.0.0.1:{bench.ports['challenge']} ")
    assert "X-ScamTap-Target: <sip:+442079460102@" in challenged
    told = (tmp_path / "caller3.msg").read_text()
    assert "Call-Info: <https://operator.example/redress.jws>;purpose=jwscard" in told


def ring_times(folder):
    """(when it rang, ms; how long that took, ms) of every call, in order; from SIPp's -trace_rtt."""
    (path,) = folder.glob("call*_rtt.csv")
    rows = [line.split(";") for line in path.read_text().splitlines()[1:]]
    return sorted((float(row[0]), float(row[1])) for row in rows if len(row) >= 3)


def percentile(values, share):
    return sorted(values)[min(len(values) - 1, int(share * len(values)))]


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGSTOP], ids=["killed", "hung"])
def test_every_call_rings_when_we_are_gone(tmp_path, way, how, capsys):
    """50 calls/s for 6 s; after 3 s we are killed, or stop answering."""
    num_calls = 300

    async def run():
        async with Bench(tmp_path, way) as bench:
            load = ("-r", 50, "-m", num_calls, "-trace_rtt", "-rtt_freq", 1, "-l", 1000)
            calling = asyncio.create_task(bench.call(PLAIN, "+44207946", *load))
            await asyncio.sleep(3)
            bench.peers["door"].process.send_signal(how)
            return await calling

    code = asyncio.run(run())
    rang = ring_times(tmp_path)
    times = [took for _, took in rang]
    before, after = times[20:130], times[140:]
    lines = [f"{way}, {how.name}: {len(times)} of {num_calls} calls rang"]
    for name, values in (("before", before), ("after", after)):
        lines.append(
            f"  {name}: median {statistics.median(values):.1f} ms, p99 {percentile(values, 0.99):.1f} ms, "
            f"most {max(values):.1f} ms"
        )
    added = percentile(after, 0.99) - statistics.median(before)
    lines.append(f"  added, p99 after - median before: {added:.1f} ms (goal {GOAL_MS})")
    with capsys.disabled():
        sys.stdout.write("\n" + "\n".join(lines) + "\n")
    assert code == 0, (tmp_path / "kamailio.log").read_text()[-3000:]
    assert len(times) == num_calls
    # Far looser than the goal, which this machine's load would make a coin toss: no timer of seconds was waited for.
    assert percentile(after, 0.99) < 500
