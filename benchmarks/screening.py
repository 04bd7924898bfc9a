"""What a decision costs: in process, over SIP/UDP and over HTTP, at an offered load, beside servers that only answer.

    python benchmarks/screening.py [--json] [--rate 2000] [--seconds 5] [--redis redis://127.0.0.1:6379/0]

The load generator is a process of its own and sends at fixed times whether or not answers came, so a slow server cannot
slow its own load; latency counts from the time a question was due. The peer of each door is the same door with a
screener that answers a constant: what is left is the transport. Absolute times are those of this machine, now.
"""

import argparse
import asyncio
import contextlib
import json
import os
import socket
import subprocess
import sys
import time
from collections.abc import Sequence
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

GOAL_PROCESS_MS, GOAL_WIRE_MS = 5.0, 10.0
DRAIN_S = 2.0
NUM_WARM = 1000
Result = dict[str, Any]


def numbers(at: int) -> tuple[str, str]:
    """Caller and callee of question ``at``: some thousand valid ones."""
    return f"+4420794{60000 + at % 997:05d}", f"+4420794{61000 + at * 7 % 8191 % 1000:05d}"


def summary(latencies_ms: Sequence[float], num_asked: int, seconds: float) -> Result:
    """Percentiles of what was answered, and how much of what was asked that is."""
    ordered = sorted(latencies_ms)

    def share(part: float) -> float | None:
        return round(ordered[min(len(ordered) - 1, int(part * len(ordered)))], 3) if ordered else None

    return {
        "asked": num_asked, "answered": len(ordered), "per_s": round(len(ordered) / seconds, 1),
        "p50_ms": share(0.5), "p99_ms": share(0.99),
    }  # fmt: skip


class Constant:
    """Decides nothing: the peer."""

    async def decide(self, attempt: Any) -> Any:
        """Allow."""
        from inference.screening.attempt import Decision

        return Decision(attempt.call_id, "allow", ("DEFAULT",), None, "0", "0")


def make_screener(stack: AsyncExitStack, redis: str | None) -> Any:
    """The shipped rules and model over memory, or over Redis."""
    from inference.screening.config import ScreeningConfig, open_screening

    config = ScreeningConfig.model_validate({"redis": {"url": redis}} if redis else {})
    return open_screening(config, stack).screener


async def in_process(rate: float, seconds: float, redis: str | None) -> Result:
    """Decisions of one loop at that rate, each a task of its own."""
    from inference.screening.attempt import CallAttempt

    latencies: list[float] = []
    async with AsyncExitStack() as stack:
        screener = make_screener(stack, redis)
        num_degraded = 0

        async def ask(at: int, due_s: float) -> None:
            nonlocal num_degraded
            caller, callee = numbers(at)
            decision = await screener.decide(CallAttempt(call_id=str(at), caller=caller, callee=callee))
            num_degraded += decision.is_degraded
            latencies.append((time.perf_counter() - due_s) * 1000)

        for at in range(1000):  # the number plan's first look at a number is slow, and remembered
            await ask(at, 0.0)
        latencies.clear()
        begin_s, tasks, total = time.perf_counter() + 0.1, [], int(rate * seconds)
        cpu_s = time.process_time()
        for at in range(total):
            due_s = begin_s + at / rate
            if (wait_s := due_s - time.perf_counter()) > 0:
                await asyncio.sleep(wait_s)
            tasks.append(asyncio.create_task(ask(at, due_s)))
        await asyncio.gather(*tasks)
    return summary(latencies, total, max(seconds, time.perf_counter() - begin_s)) | {
        "cpu_us": round((time.process_time() - cpu_s) / total * 1e6, 1),
        "degraded": num_degraded,
    }


async def serve(door: str, is_constant: bool, redis: str | None) -> None:
    """Be the server: print the port, run until stdin closes."""
    async with AsyncExitStack() as stack:
        screener = Constant() if is_constant else make_screener(stack, redis)
        if door == "sip":
            from inference.screening.sip.config import SipConfig
            from inference.screening.sip.server import RedirectServer

            server = RedirectServer(SipConfig(port=0, answer_within_s=5), screener)
            await server.start()
            stack.push_async_callback(server.aclose)
            print(f"port {server.address[1]}", flush=True)
            await asyncio.to_thread(sys.stdin.read)
            return
        import uvicorn
        from fastapi import FastAPI

        from inference.screening.attempt import CallAttempt

        app = FastAPI()

        @app.post("/v1/screening/calls")
        async def decide(attempt: CallAttempt) -> dict[str, Any]:
            made = await screener.decide(attempt)
            return made.to_json()  # type: ignore[no-any-return]

        listener = socket.create_server(("127.0.0.1", 0), backlog=256)
        web = uvicorn.Server(uvicorn.Config(app, log_config=None, access_log=False, lifespan="off"))
        serving = asyncio.create_task(web.serve(sockets=[listener]))
        print(f"port {listener.getsockname()[1]}", flush=True)
        await asyncio.to_thread(sys.stdin.read)
        web.should_exit = True
        await serving


class SipLoad(asyncio.DatagramProtocol):
    """INVITEs out; the first answer of each timed and acknowledged."""

    def __init__(self, rate: float) -> None:
        self.rate = rate
        self.begin_s = 0.0
        self.latencies: dict[int, float] = {}

    def connection_made(self, transport: Any) -> None:
        """Ready."""
        self.transport = transport

    def datagram_received(self, data: bytes, _: Any) -> None:
        """An answer."""
        now_s = time.perf_counter()
        if data.startswith(b"SIP/2.0 100"):
            return
        at = int(data.partition(b"branch=z9hG4bK-")[2].partition(b"\r\n")[0].partition(b";")[0])
        if at not in self.latencies:
            self.latencies[at] = (now_s - self.begin_s - at / self.rate) * 1000
        self.transport.sendto(message("ACK", at))

    def ask(self, at: int) -> None:
        """Send a question."""
        self.transport.sendto(message("INVITE", at))


def message(method: str, at: int) -> bytes:
    """An INVITE, or the ACK of its answer."""
    caller, callee = numbers(at)
    return (
        f"{method} sip:{callee}@127.0.0.1 SIP/2.0\r\nVia: SIP/2.0/UDP 127.0.0.1;rport;branch=z9hG4bK-{at}\r\n"
        f"From: <sip:{caller}@127.0.0.1>;tag={at}\r\nTo: <sip:{callee}@127.0.0.1>\r\nCall-ID: {at}\r\n"
        f"CSeq: 1 {method}\r\nMax-Forwards: 70\r\nContent-Length: 0\r\n\r\n"
    ).encode()


class HttpLoad:
    """Questions over connections that stay open, one at a time on each."""

    CONNECTIONS = 64

    def __init__(self, rate: float) -> None:
        self.rate = rate
        self.begin_s = 0.0
        self.latencies: dict[int, float] = {}
        self.questions: asyncio.Queue[int] = asyncio.Queue()

    def ask(self, at: int) -> None:
        """Queue a question for the next free connection."""
        self.questions.put_nowait(at)

    async def connect(self, port: int) -> None:
        """One connection."""
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        while True:
            at = await self.questions.get()
            caller, callee = numbers(at)
            body = json.dumps({"call_id": str(at), "caller": caller, "callee": callee}).encode()
            head = f"POST /v1/screening/calls HTTP/1.1\r\nHost: x\r\nContent-Length: {len(body)}\r\n"
            writer.write(head.encode() + b"Content-Type: application/json\r\n\r\n" + body)
            answer = await reader.readuntil(b"\r\n\r\n")
            await reader.readexactly(int(answer.lower().partition(b"content-length: ")[2].partition(b"\r\n")[0]))
            self.latencies[at] = (time.perf_counter() - self.begin_s - at / self.rate) * 1000


async def load(door: str, port: int, rate: float, seconds: float) -> None:
    """Be the load generator: warm up, then ask at that rate; print one JSON object."""
    made: Any = SipLoad(rate) if door == "sip" else HttpLoad(rate)
    connections = []
    if door == "sip":
        loop = asyncio.get_running_loop()
        await loop.create_datagram_endpoint(lambda: made, remote_addr=("127.0.0.1", port))
    else:
        connections = [asyncio.create_task(made.connect(port)) for _ in range(made.CONNECTIONS)]
    total = int(rate * seconds)
    for at in range(NUM_WARM):
        made.ask(10**9 + at)
        await asyncio.sleep(0.002)
    await asyncio.sleep(0.5)
    made.latencies.clear()
    made.begin_s = time.perf_counter() + 0.05
    for at in range(total):
        if (wait_s := made.begin_s + at / rate - time.perf_counter()) > 0:
            await asyncio.sleep(wait_s)
        made.ask(at)
    until_s = time.perf_counter() + DRAIN_S
    while len(made.latencies) < total and time.perf_counter() < until_s:  # noqa: ASYNC110
        await asyncio.sleep(0.01)
    for task in connections:
        task.cancel()
    print(json.dumps(summary(list(made.latencies.values()), total, time.perf_counter() - made.begin_s)))


def over_the_wire(door: str, rate: float, seconds: float, *, is_constant: bool, redis: str | None) -> Result:
    """Server and load generator, each a process."""
    me = [sys.executable, __file__, "--rate", str(rate), "--seconds", str(seconds)]
    serving = [*me, "--serve", door, *(["--constant"] if is_constant else []), *(["--redis", redis] if redis else [])]
    with subprocess.Popen(serving, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as server:
        assert server.stdout is not None
        port = next(line.split()[1] for line in server.stdout if line.startswith("port "))
        try:
            before_s = cpu_seconds(server.pid)
            done = subprocess.run([*me, "--load", door, "--port", port], capture_output=True, text=True, check=True)
            cpu_s = cpu_seconds(server.pid) - before_s
        finally:
            with contextlib.suppress(BrokenPipeError):
                server.communicate(timeout=20)
    result: Result = json.loads(done.stdout)
    # What was asked to warm it up was answered too.
    return result | {"cpu_us": round(cpu_s / max(1, result["answered"] + NUM_WARM) * 1e6, 1)}


def cpu_seconds(pid: int) -> float:
    """CPU time of a process so far: what others on this machine do counts little here."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--rate", type=float, default=2000)
    parser.add_argument("--seconds", type=float, default=5)
    parser.add_argument("--redis")
    parser.add_argument("--serve", choices=["sip", "http"], help=argparse.SUPPRESS)
    parser.add_argument("--load", choices=["sip", "http"], help=argparse.SUPPRESS)
    parser.add_argument("--constant", action="store_true", help=argparse.SUPPRESS)
    parser.add_argument("--port", type=int, help=argparse.SUPPRESS)
    asked = parser.parse_args()
    if asked.serve:
        asyncio.run(serve(asked.serve, asked.constant, asked.redis))
        return
    if asked.load:
        asyncio.run(load(asked.load, asked.port, asked.rate, asked.seconds))
        return
    results: dict[str, Result] = {"in process, memory": asyncio.run(in_process(asked.rate, asked.seconds, None))}
    if asked.redis:
        results["in process, Redis"] = asyncio.run(in_process(asked.rate, asked.seconds, asked.redis))
    for door in ("sip", "http"):
        peer = over_the_wire(door, asked.rate, asked.seconds, is_constant=True, redis=None)
        ours = over_the_wire(door, asked.rate, asked.seconds, is_constant=False, redis=None)
        if ours["p99_ms"] and peer["p99_ms"]:
            ours["p99_ratio"] = round(ours["p99_ms"] / peer["p99_ms"], 2)
        results[f"{door}, a constant"], results[f"{door}, a decision"] = peer, ours
    if asked.json:
        goals = {"in_process_p99_ms": GOAL_PROCESS_MS, "wire_p99_ms": GOAL_WIRE_MS}
        print(json.dumps({"rate": asked.rate, "goals": goals, "results": results}))
        return
    for name, result in results.items():
        print(f"{name:22}", "  ".join(f"{key} {value}" for key, value in result.items()))


if __name__ == "__main__":
    main()
