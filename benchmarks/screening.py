"""What a decision costs: in process, over SIP/UDP and over HTTP, at an offered load, beside servers that only answer.

    python benchmarks/screening.py [--json] [--rate 2000] [--seconds 5] [--workers 1] [--redis redis://127.0.0.1:6379/0]

The load generator is a process of its own and sends at fixed times whether or not answers came, so a slow server cannot
slow its own load; latency counts from the time a question was due. It shares this machine's cores with the server: what
it takes of them is printed (``load_share`` of both), and how late it was itself (``late_p99_ms``, part of every
latency). The peer of each door is the same door with a screener that answers a constant: what is left is the transport.
``http, through the framework`` is the same worker without its own way for the hot route: FastAPI, h11, asyncio's loop.
Callers and callees are thousands of different numbers, nearly every one seen for the first time.
"""

import argparse
import asyncio
import contextlib
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import uvloop

GOAL_PROCESS_MS, GOAL_WIRE_MS = 5.0, 10.0
DRAIN_S = 2.0
NUM_WARM = 1000
CONNECTIONS = 32
SEND_EVERY_S = 0.001
"""What is due is sent together so often: a loop that waits for less spins, and takes the core that it measures."""

SIP_PORTS = 8
"""Proxies that ask: the kernel spreads datagrams over workers by where they come from."""

Result = dict[str, Any]


def numbers(at: int) -> tuple[str, str]:
    """Caller and callee of question ``at``: valid ones, hardly ever the same again."""
    return f"+4474{at * 7919 % 10**8:08d}", f"+44207{at * 104_729 % 10**7:07d}"


def summary(latencies_ms: Sequence[float], num_asked: int, seconds: float) -> Result:
    """Percentiles of what was answered, and how much of what was asked that is."""
    ordered = sorted(latencies_ms)
    return {
        "asked": num_asked, "answered": len(ordered), "per_s": round(len(ordered) / seconds, 1),
        "p50_ms": share(ordered, 0.5), "p99_ms": share(ordered, 0.99),
    }  # fmt: skip


def share(ordered: Sequence[float], part: float) -> float | None:
    """A percentile of what is sorted."""
    return round(ordered[min(len(ordered) - 1, int(part * len(ordered)))], 3) if ordered else None


class Constant:
    """Decides nothing: the peer."""

    waits = False

    async def decide(self, attempt: Any) -> Any:
        """Allow."""
        from inference.screening.attempt import Decision

        return Decision(attempt.call_id, "allow", ("DEFAULT",), None, "0", "0")

    def undecided(self, attempt: Any) -> Any:
        """Never."""
        raise NotImplementedError


def settings(redis: str | None, path: Path | None = None) -> Any:
    """The shipped rules and model over memory, over memory that is kept in a file, or over Redis."""
    from inference.screening.config import ScreeningConfig

    return ScreeningConfig.model_validate({"redis": {"url": redis}} if redis else {"path": path})


async def in_process(rate: float, seconds: float, memory: Any) -> Result:
    """Decisions of one loop at that rate, each a task of its own, and what writes memory down beside it."""
    from inference.screening.attempt import CallAttempt
    from inference.screening.config import open_screening
    from inference.service.process import calm_collector

    latencies: list[float] = []
    async with AsyncExitStack() as stack:
        screening = open_screening(memory, stack)
        screener, num_degraded = screening.screener, 0
        beside = [asyncio.create_task(run()) for run in screening.background]

        async def ask(at: int, due_s: float) -> None:
            nonlocal num_degraded
            caller, callee = numbers(at)
            decision = await screener.decide(CallAttempt(call_id=str(at), caller=caller, callee=callee))
            num_degraded += decision.is_degraded
            latencies.append((time.perf_counter() - due_s) * 1000)

        for at in range(NUM_WARM):
            await ask(10**9 + at, 0.0)
        latencies.clear()
        calm_collector()
        begin_s, total = time.perf_counter() + 0.1, int(rate * seconds)
        cpu_s = time.process_time()
        async with asyncio.TaskGroup() as asking:  # holds those under way alone, as a server does
            async for at in due(begin_s, rate, total):
                asking.create_task(ask(at, begin_s + at / rate))
        cpu_s, took_s = time.process_time() - cpu_s, time.perf_counter() - begin_s
        for task in beside:
            task.cancel()
    return summary(latencies, total, max(seconds, took_s)) | {
        "cpu_us": round(cpu_s / total * 1e6, 1),
        "degraded": num_degraded,
    }


async def due(begin_s: float, rate: float, total: int) -> Any:
    """The numbers of questions as they fall due; all that are, where the loop was late."""
    at = 0
    while at < total:
        now_s = time.perf_counter()
        while at < total and begin_s + at / rate <= now_s:
            yield at
            at += 1
        await asyncio.sleep(SEND_EVERY_S)


async def serve(door: str, kind: str, redis: str | None, port: int) -> None:
    """Be the server: print the port, run until stdin closes."""
    from inference.alerts.config import AlertsConfig
    from inference.screening.sip.config import SipConfig
    from inference.screening.sip.server import RedirectServer
    from inference.service.api import ApiConfig
    from inference.service.process import calm_collector, listen
    from inference.service.screened import ScreenedWorker
    from inference.service.screening_worker import http_server

    async with AsyncExitStack() as stack:
        config = ApiConfig(port=port, reuse_port=True)
        screened = await ScreenedWorker.open(settings(redis), AlertsConfig().dispatcher(lambda *_: None), stack)
        screener: Any = Constant() if kind == "constant" else screened.screening.screener
        if door == "sip":
            server = RedirectServer(SipConfig(port=port, reuse_port=True, answer_within_s=5), screener)
            await server.start()
            stack.push_async_callback(server.aclose)
            calm_collector()
            print(f"port {server.address[1]}", flush=True)
            await asyncio.to_thread(sys.stdin.read)
            return
        listener = listen(config)
        web = http_server(screened, screener, config, is_direct=kind != "framework")
        calm_collector()
        serving = asyncio.create_task(web.serve(sockets=[listener]))
        print(f"port {listener.getsockname()[1]}", flush=True)
        await asyncio.to_thread(sys.stdin.read)
        web.should_exit = True
        await serving


class Load:
    """What was asked and answered.

    Attributes:
        latencies: question -> ms from when it was due.
        late: ms from when each was due until it was sent.
    """

    def __init__(self, rate: float) -> None:
        self.rate = rate
        self.begin_s = 0.0
        self.latencies: dict[int, float] = {}
        self.late: list[float] = []

    def since_due_ms(self, at: int) -> float:
        """How long ago question ``at`` was due."""
        return (time.perf_counter() - self.begin_s - at / self.rate) * 1000

    def sent(self, at: int) -> None:
        """A question went out."""
        self.late.append(self.since_due_ms(at))

    def answered(self, at: int) -> None:
        """Its first answer came."""
        self.latencies.setdefault(at, self.since_due_ms(at))


class SipLoad(asyncio.DatagramProtocol):
    """INVITEs out of one port; the first answer of each timed and acknowledged."""

    def __init__(self, load: Load) -> None:
        self.load = load

    def connection_made(self, transport: Any) -> None:
        """Ready."""
        self.transport = transport

    def datagram_received(self, data: bytes, _: Any) -> None:
        """An answer."""
        if not data.startswith(b"SIP/2.0 100"):
            at = int(data.partition(b"branch=z9hG4bK-")[2].partition(b"\r\n")[0].partition(b";")[0])
            self.load.answered(at)
            self.transport.sendto(message("ACK", at))

    def ask(self, at: int) -> None:
        """Send a question."""
        self.transport.sendto(message("INVITE", at))
        self.load.sent(at)


def message(method: str, at: int) -> bytes:
    """An INVITE, or the ACK of its answer."""
    caller, callee = numbers(at)
    return (
        f"{method} sip:{callee}@127.0.0.1 SIP/2.0\r\nVia: SIP/2.0/UDP 127.0.0.1;rport;branch=z9hG4bK-{at}\r\n"
        f"From: <sip:{caller}@127.0.0.1>;tag={at}\r\nTo: <sip:{callee}@127.0.0.1>\r\nCall-ID: {at}\r\n"
        f"CSeq: 1 {method}\r\nMax-Forwards: 70\r\nContent-Length: 0\r\n\r\n"
    ).encode()


class HttpLoad(asyncio.Protocol):
    """Questions over a connection that stays open, the next one sent when the one before was answered."""

    def __init__(self, load: Load) -> None:
        self.load = load
        self.waiting: list[int] = []
        self.asked: int | None = None
        self.read = b""

    def connection_made(self, transport: Any) -> None:
        """Ready."""
        self.transport = transport

    def ask(self, at: int) -> None:
        """Send a question, or queue it."""
        if self.asked is not None:
            self.waiting.append(at)
            return
        self.asked = at
        caller, callee = numbers(at)
        body = f'{{"call_id":"{at}","caller":"{caller}","callee":"{callee}"}}'
        self.transport.write(
            f"POST /v1/screening/calls HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Length: {len(body)}\r\n"
            f"Content-Type: application/json\r\n\r\n{body}".encode()
        )
        self.load.sent(at)

    def data_received(self, data: bytes) -> None:
        """Some of an answer."""
        self.read += data
        head, end, body = self.read.partition(b"\r\n\r\n")
        if not end or len(body) < int(head.lower().partition(b"content-length: ")[2].partition(b"\r\n")[0]):
            return
        assert head.startswith(b"HTTP/1.1 200"), head
        self.read = b""
        assert self.asked is not None
        self.load.answered(self.asked)
        self.asked = None
        if self.waiting:
            self.ask(self.waiting.pop(0))


async def load(door: str, port: int, rate: float, seconds: float) -> None:
    """Be the load generator: warm up, then ask at that rate; print one JSON object."""
    made, loop = Load(rate), asyncio.get_running_loop()
    if door == "sip":
        address = ("127.0.0.1", port)
        opened = [
            await loop.create_datagram_endpoint(lambda: SipLoad(made), remote_addr=address) for _ in range(SIP_PORTS)
        ]
    else:
        opened = [await loop.create_connection(lambda: HttpLoad(made), "127.0.0.1", port) for _ in range(CONNECTIONS)]
    askers: list[Any] = [protocol for _, protocol in opened]
    total = int(rate * seconds)
    for at in range(NUM_WARM):
        askers[at % len(askers)].ask(10**9 + at)
        await asyncio.sleep(0.002)
    await asyncio.sleep(0.5)
    made.latencies.clear()
    made.late.clear()
    made.begin_s, cpu_s = time.perf_counter() + 0.05, time.process_time()
    async for at in due(made.begin_s, rate, total):
        askers[at % len(askers)].ask(at)
    until_s = time.perf_counter() + DRAIN_S
    while len(made.latencies) < total and time.perf_counter() < until_s:  # noqa: ASYNC110
        await asyncio.sleep(0.01)
    result = summary(list(made.latencies.values()), total, time.perf_counter() - made.begin_s)
    cpu_us = round((time.process_time() - cpu_s) / total * 1e6, 1)
    print(json.dumps(result | {"late_p99_ms": share(sorted(made.late), 0.99), "load_cpu_us": cpu_us}))


@contextlib.contextmanager
def servers(command: Sequence[str], count: int) -> Iterator[tuple[int, list[int]]]:
    """So many servers of one port, each a process: the port, and their process ids."""
    with contextlib.ExitStack() as stack:
        port, running = 0, []
        for _ in range(count):
            server = stack.enter_context(
                subprocess.Popen(
                    [*command, "--port", str(port)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
                )
            )
            assert server.stdout is not None
            port = next(int(line.split()[1]) for line in server.stdout if line.startswith("port "))
            running.append(server)
        try:
            yield port, [server.pid for server in running]
        finally:
            for server in running:
                with contextlib.suppress(BrokenPipeError):
                    server.communicate(timeout=20)


def over_the_wire(door: str, asked: argparse.Namespace, kind: str) -> Result:
    """Servers and load generator, each a process."""
    me = [sys.executable, __file__, "--rate", str(asked.rate), "--seconds", str(asked.seconds)]
    serving = [*me, "--serve", door, "--kind", kind, *(["--redis", asked.redis] if asked.redis else [])]
    with servers(serving, asked.workers) as (port, pids):
        before_s = sum(map(cpu_seconds, pids))
        done = subprocess.run([*me, "--load", door, "--port", str(port)], capture_output=True, text=True, check=True)
        cpu_s = sum(map(cpu_seconds, pids)) - before_s
    result: Result = json.loads(done.stdout)
    # What was asked to warm it up was answered too.
    cpu_us = round(cpu_s / max(1, result["answered"] + NUM_WARM) * 1e6, 1)
    return result | {"cpu_us": cpu_us, "load_share": round(result["load_cpu_us"] / (cpu_us + result["load_cpu_us"]), 2)}


def cpu_seconds(pid: int) -> float:
    """CPU time of a process so far: what others on this machine do counts little here."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def measure(asked: argparse.Namespace) -> dict[str, Result]:
    """Everything, one after the other."""
    with tempfile.TemporaryDirectory() as folder:
        memories = {"memory": settings(None), "SQLite": settings(None, Path(folder, "screening.db"))}
        if asked.redis:
            memories["Redis"] = settings(asked.redis)
        results = {
            f"in process, {name}": uvloop.run(in_process(asked.rate, asked.seconds, memory))
            for name, memory in memories.items()
        }
    for door in ("sip", "http"):
        peer, ours = over_the_wire(door, asked, "constant"), over_the_wire(door, asked, "decision")
        if ours["p99_ms"] and peer["p99_ms"]:
            ours["p99_ratio"] = round(ours["p99_ms"] / peer["p99_ms"], 2)
        results[f"{door}, a constant"], results[f"{door}, a decision"] = peer, ours
    framework = over_the_wire("http", asked, "framework")
    framework["cpu_ratio"] = round(framework["cpu_us"] / results["http, a decision"]["cpu_us"], 2)
    return results | {"http, through the framework": framework}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--rate", type=float, default=2000)
    parser.add_argument("--seconds", type=float, default=5)
    parser.add_argument("--workers", type=int, default=1, help="of one port; without --redis each has its own memory")
    parser.add_argument("--redis")
    parser.add_argument("--serve", choices=["sip", "http"], help=argparse.SUPPRESS)
    parser.add_argument("--load", choices=["sip", "http"], help=argparse.SUPPRESS)
    parser.add_argument("--kind", choices=["constant", "decision", "framework"], help=argparse.SUPPRESS)
    parser.add_argument("--port", type=int, default=0, help=argparse.SUPPRESS)
    asked = parser.parse_args()
    if asked.serve:
        run = asyncio.run if asked.kind == "framework" else uvloop.run
        run(serve(asked.serve, asked.kind, asked.redis, asked.port))
        return
    if asked.load:
        uvloop.run(load(asked.load, asked.port, asked.rate, asked.seconds))
        return
    results = measure(asked)
    if asked.json:
        goals = {"in_process_p99_ms": GOAL_PROCESS_MS, "wire_p99_ms": GOAL_WIRE_MS}
        print(json.dumps({"rate": asked.rate, "workers": asked.workers, "goals": goals, "results": results}))
        return
    for name, result in results.items():
        print(f"{name:28}", "  ".join(f"{key} {value}" for key, value in result.items()))


if __name__ == "__main__":
    main()
