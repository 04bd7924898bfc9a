"""What a leg costs over a WebSocket: each dialect against the packet plane receiving the same audio, in the same run.

    python benchmarks/websocket.py [--json] [--calls 100] [--seconds 4] [--repeats 3]

A sender plays that many calls of two legs, 20 ms a message or packet, at the pace of speech. In turn they are received
by the packet plane (G.711 over UDP), by the gateway in each dialect, and by two peers that only count messages: a bare
``websockets`` reader of the same frames, which is the gateway's floor, and uvicorn's. All readers take the audio of all
legs every 20 ms. CPU is of the receiving process alone, system calls included; "cores" is for 1,000 legs.
"""

import argparse
import asyncio
import base64
import json
import socket
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from websockets.frames import Frame, Opcode

READ_EVERY_S = 0.02
CHUNK = 160
LEGS_PER_CALL = 2
DIALECTS = ("twilio", "jambonz-8k", "jambonz-16k", "asterisk", "audiosocket")
PEERS = ("bare", "uvicorn")

Result = dict[str, Any]


def tone(rate_hz: int) -> bytes:
    """20 ms of a tone, L16."""
    num = CHUNK * rate_hz // 8000
    return (8000 * np.sin(2 * np.pi * 400 * np.arange(num) / rate_hz)).astype("<i2").tobytes()


def twilio_media(track: str, number: int) -> str:
    media = {"track": track, "chunk": str(number + 1), "timestamp": str(5 + 20 * number),
             "payload": base64.b64encode(bytes(range(CHUNK))).decode()}  # fmt: skip
    return json.dumps({"event": "media", "sequenceNumber": str(number), "media": media, "streamSid": "MZ" + "0" * 32})


class Script:
    """What one connection of a dialect sends: its path, its opening, and the messages of each 20 ms."""

    def __init__(self, dialect: str, call: int) -> None:
        self.paths = [f"/{dialect.partition('-')[0]}"]
        self.opening: list[str] = []
        rate_hz = 16000 if dialect.endswith("16k") else 8000
        if dialect == "twilio":
            start = {"callSid": f"CA{call:032d}", "mediaFormat": {"encoding": "audio/x-mulaw", "sampleRate": 8000}}
            self.opening = [json.dumps({"event": "start", "streamSid": "MZ", "start": start})]
        elif dialect.startswith("jambonz"):
            self.opening = [json.dumps({"callSid": f"c{call}", "sampleRate": rate_hz, "mixType": "stereo"})]
        elif dialect == "asterisk":
            self.paths = [f"/asterisk?call=c{call}&leg={leg}" for leg in ("far", "near")]
            self.opening = ["MEDIA_START connection_id:c channel:x format:ulaw optimal_frame_size:160"]
        left = np.frombuffer(tone(rate_hz), "<i2")
        self._stereo = np.stack([left, left], axis=1).tobytes()
        self._dialect = dialect

    def messages(self, number: int) -> list[str | bytes]:
        if self._dialect == "twilio":
            return [twilio_media(track, number) for track in ("inbound", "outbound")]
        return [self._stereo] if self._dialect.startswith("jambonz") else [bytes(range(CHUNK))]


class Streams:
    """The service's side of calls, as thin as it can be: legs in a packet plane, read by a clock."""

    is_full = False

    def __init__(self, plane: Any) -> None:
        self.plane = plane
        self.legs: dict[tuple[str, str], int] = {}

    @property
    def call_ids(self) -> list[str]:
        return []

    def begin(self, spec: Any) -> None:
        self.legs |= {(spec.id, leg): self.plane.open_stream() for leg in spec.legs}

    def change(self, spec: Any) -> None:
        raise NotImplementedError

    def follow(self, call_id: str, told: Callable[[Mapping[str, Any]], None]) -> None:
        pass

    def write(self, call_id: str, leg: str, samples: Any, timestamp: int) -> None:
        self.plane.write(self.legs[call_id, leg], samples, timestamp)

    def key_pressed(self, call_id: str, leg: str, digit: str) -> None:
        pass

    async def end(self, call_id: str) -> None:
        pass


async def measure(handles: Callable[[], list[int]], plane: Any, num_messages: Callable[[], int]) -> None:
    """Say that it is ready, read until the sender says that it is done, and print what it took."""
    loop = asyncio.get_running_loop()
    go = asyncio.create_task(asyncio.to_thread(sys.stdin.readline))
    await go
    done = asyncio.create_task(asyncio.to_thread(sys.stdin.readline))
    legs = np.array(handles(), np.int64)
    before, began_s = num_messages(), time.process_time()
    due_s = loop.time()
    while not done.done():
        if len(legs):
            plane.read(legs)
        due_s = max(due_s + READ_EVERY_S, loop.time())
        await asyncio.sleep(due_s - loop.time())
    cpu_s = time.process_time() - began_s
    print(json.dumps({"cpu_s": cpu_s, "received": num_messages() - before}), flush=True)


async def receive(kind: str, num_calls: int) -> None:
    """Be the receiver."""
    from inference.rtp.plane import PacketPlane, PlaneConfig

    num_legs = LEGS_PER_CALL * num_calls
    plane = PacketPlane(PlaneConfig(ports=(0,), max_legs=num_legs))
    if kind == "rtp":
        with plane:
            (port,) = plane.ports
            print(json.dumps({"port": port}), flush=True)
            first = int((await asyncio.to_thread(sys.stdin.readline)).strip())
            legs = [plane.register(port, ("127.0.0.1", first + leg)) for leg in range(num_legs)]
            await measure(lambda: legs, plane, lambda: plane.total_counters(legs).received)
    elif kind in PEERS:
        await receive_only(kind)
    else:
        from inference.gateway.audiosocket import AudioSocketConfig, AudioSocketGateway
        from inference.gateway.websocket.config import WebSocketConfig
        from inference.gateway.websocket.server import WebSocketGateway

        streams = Streams(plane)
        gateway: Any
        if kind == "audiosocket":
            gateway = AudioSocketGateway(AudioSocketConfig(port=0), streams)  # type: ignore[arg-type]
        else:
            config = WebSocketConfig(port=0, twilio={}, jambonz={}, asterisk={})  # type: ignore[arg-type]
            gateway = WebSocketGateway(config, streams)  # type: ignore[arg-type]
        await gateway.start()
        print(json.dumps({"port": gateway.port}), flush=True)
        handles = lambda: list(streams.legs.values())  # noqa: E731
        await measure(handles, plane, lambda: plane.total_counters(handles()).received)
        # No goodbyes: what was measured is over.


async def receive_only(kind: str) -> None:
    """Be a peer that counts messages."""
    count = 0
    if kind == "bare":
        from websockets.asyncio.server import ServerConnection, serve

        async def handle(connection: ServerConnection) -> None:
            nonlocal count
            async for _ in connection:
                count += 1

        server = await serve(handle, "127.0.0.1", 0, compression=None)
        port = next(iter(server.sockets)).getsockname()[1]
    else:
        import uvicorn

        async def app(scope: Any, receive: Any, send: Any) -> None:
            nonlocal count
            if scope["type"] != "websocket":
                return
            await receive()
            await send({"type": "websocket.accept"})
            while (await receive())["type"] == "websocket.receive":
                count += 1

        listener = socket.socket()
        listener.bind(("127.0.0.1", 0))
        port = listener.getsockname()[1]
        settings = uvicorn.Config(app, log_level="critical", lifespan="off", loop="asyncio", ws="websockets-sansio")
        settings.ws_per_message_deflate = False
        serving = asyncio.create_task(uvicorn.Server(settings).serve(sockets=[listener]))
        await asyncio.sleep(0.5)
        assert not serving.done()
    print(json.dumps({"port": port}), flush=True)
    await measure(list, None, lambda: count)


def frame(message: str | bytes) -> bytes:
    """A client's WebSocket frame."""
    if isinstance(message, str):
        return Frame(Opcode.TEXT, message.encode()).serialize(mask=True)
    return Frame(Opcode.BINARY, message).serialize(mask=True)


def open_websocket(port: int, path: str) -> socket.socket:
    """A connection after its handshake; raw, so that sending costs next to nothing."""
    sock = socket.create_connection(("127.0.0.1", port))
    sock.sendall(
        f"GET {path} HTTP/1.1\r\nHost: 127.0.0.1\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
        "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\r\n".encode()
    )
    answer = b""
    while b"\r\n\r\n" not in answer:
        answer += sock.recv(4096)
    if b" 101 " not in answer:
        raise SystemExit(f"the receiver refused {path}")
    return sock


def senders(kind: str, dialect: str, port: int, num_calls: int) -> Callable[[int], None]:
    """Open what the dialect needs; returns what sends everything of one 20 ms."""
    if dialect == "audiosocket":
        audio = b"\x10" + (2 * CHUNK).to_bytes(2, "big") + tone(8000)
        sockets = []
        for call in range(num_calls):
            for leg in range(LEGS_PER_CALL):
                sock = socket.create_connection(("127.0.0.1", port))
                sock.sendall(b"\x01\x00\x10" + call.to_bytes(15, "big") + bytes([leg]))
                sockets.append(sock)

        def send_frames(_number: int) -> None:
            for sock in sockets:
                sock.sendall(audio)

        return send_frames
    scripts = [Script(dialect, call) for call in range(num_calls)]
    opened = [(script, open_websocket(port, path if kind not in PEERS else "/")) for script in scripts
              for path in script.paths]  # fmt: skip
    for script, sock in opened:
        for message in script.opening:
            sock.sendall(frame(message))

    def send_messages(number: int) -> None:
        # The same for all calls: the timestamps matter, and masking is not what is measured.
        ready = b"".join(map(frame, scripts[0].messages(number)))
        for _, sock in opened:
            sock.sendall(ready)

    return send_messages


def packet_senders(port: int, num_calls: int, process: subprocess.Popen[str]) -> Callable[[int], None]:
    """Sockets on consecutive ports, a leg each."""
    from inference.rtp.packet import RtpPacket

    num, first, sockets = LEGS_PER_CALL * num_calls, 20000, list[socket.socket]()
    while len(sockets) < num:
        sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        try:
            sock.bind(("127.0.0.1", first + len(sockets)))
            sockets.append(sock)
        except OSError:
            first += len(sockets) + 1
            for each in (sock, *sockets):
                each.close()
            sockets.clear()
    tell(process, str(first))
    payload = bytes(range(CHUNK))

    def send(number: int) -> None:
        packet = bytes(
            RtpPacket(payload_type=0, sequence_number=number, timestamp=CHUNK * number, ssrc=7, payload=payload)
        )
        for sock in sockets:
            sock.sendto(packet, ("127.0.0.1", port))

    return send


def tell(process: subprocess.Popen[str], line: str) -> None:
    assert process.stdin is not None
    process.stdin.write(line + "\n")
    process.stdin.flush()


def one_run(kind: str, dialect: str, args: argparse.Namespace) -> Result:
    """One receiver against the sender, which is this process."""
    command = [sys.executable, __file__, "--receive", kind, "--calls", str(args.calls)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        line = process.stdout.readline()
        while line and not line.startswith('{"port"'):
            line = process.stdout.readline()
        port = int(json.loads(line)["port"])
        rtp = kind == "rtp"
        send = packet_senders(port, args.calls, process) if rtp else senders(kind, dialect, port, args.calls)
        time.sleep(0.5)
        tell(process, "go")
        rounds = round(args.seconds / READ_EVERY_S)
        began_s = time.monotonic()
        for number in range(rounds):
            send(number)
            time.sleep(max(0.0, began_s + (number + 1) * READ_EVERY_S - time.monotonic()))
        took_s = time.monotonic() - began_s
        time.sleep(0.1)  # what is under way is received too
        tell(process, "done")
        result: Result = json.loads(process.stdout.readline())
        process.kill()
    num_legs = LEGS_PER_CALL * args.calls
    leg_s = num_legs * rounds * READ_EVERY_S  # of audio
    per_round = num_legs if kind not in PEERS or dialect != "jambonz-8k" else args.calls
    return result | {
        "receiver": kind,
        "dialect": dialect,
        "cores_per_1000_legs": 1000 * result["cpu_s"] / leg_s,
        "us_per_leg_chunk": result["cpu_s"] / (num_legs * rounds) * 1e6,
        "lost": rounds * per_round - result["received"],
        "pace": rounds * READ_EVERY_S / took_s,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json", action="store_true", help="print JSON")
    parser.add_argument("--calls", type=int, default=100)
    parser.add_argument("--seconds", type=float, default=4.0)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--receive", help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.receive:
        asyncio.run(receive(args.receive, args.calls))
        return
    runs = [("rtp", "rtp"), *((dialect, dialect) for dialect in DIALECTS)]
    runs += [(peer, dialect) for peer in PEERS for dialect in ("twilio", "jambonz-8k")]
    rows: dict[str, list[Result]] = {}
    for _ in range(args.repeats):
        plane: Result | None = None
        for kind, dialect in runs:
            result = one_run(kind, dialect, args)
            plane = plane or result
            result["ratio_to_rtp"] = result["cpu_s"] / plane["cpu_s"]
            rows.setdefault(kind if kind == dialect else f"{kind}: {dialect}", []).append(result)
    names = ("cores_per_1000_legs", "us_per_leg_chunk", "ratio_to_rtp", "lost", "pace")
    report = {name: {field: statistics.median(r[field] for r in results) for field in names}
              for name, results in rows.items()}  # fmt: skip
    for dialect in ("twilio", "jambonz-8k"):
        report[dialect]["ratio_to_bare"] = statistics.median(
            ours["cpu_s"] / bare["cpu_s"] for ours, bare in zip(rows[dialect], rows[f"bare: {dialect}"], strict=True)
        )
    if args.json:
        print(json.dumps({"calls": args.calls, "seconds": args.seconds, "rows": report}, indent=2))
        return
    print(f"{'receiver':24}{'cores/1000 legs':>17}{'us/leg/20 ms':>14}{'x RTP':>8}{'x bare':>8}{'lost':>6}{'pace':>6}")
    for name, row in report.items():
        bare = f"{row['ratio_to_bare']:8.2f}" if "ratio_to_bare" in row else " " * 8
        print(f"{name:24}{row['cores_per_1000_legs']:17.3f}{row['us_per_leg_chunk']:14.1f}{row['ratio_to_rtp']:8.1f}"
              f"{bare}{row['lost']:6.0f}{row['pace']:6.2f}")  # fmt: skip


if __name__ == "__main__":
    sys.path.insert(0, str(Path(__file__).parents[1]))
    main()
