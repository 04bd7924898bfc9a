"""Calls over connections in a whole worker, as its configuration opens them."""

import asyncio
import contextlib
import json
import re
import socket
import uuid
from pathlib import Path

import numpy as np
import pytest
from websockets.asyncio.client import connect

from inference.gateway.audiosocket import Frame, FrameReader
from tests.peers import free_port

ROOT = Path(__file__).parents[2]


def stereo(far, near):
    mixed = bytearray()
    for a, b in zip(far.astype("<i2"), near.astype("<i2"), strict=True):
        mixed += a.tobytes() + b.tobytes()
    return [bytes(mixed[i : i + 640]) for i in range(0, len(mixed), 640)]


async def paced(chunks):
    loop = asyncio.get_running_loop()
    began_s = loop.time()
    for number, chunk in enumerate(chunks, 1):
        yield chunk
        await asyncio.sleep(began_s + 0.02 * number - loop.time())


def test_the_documented_client_hears_of_its_call_while_it_is_on(live, doubles, capsys):
    (example,) = re.findall(r"```python\n(.*?)```", (ROOT / "docs" / "websocket-session.md").read_text(), re.DOTALL)
    port = free_port()
    namespace = {}
    exec(compile(example.replace(":8651", f":{port}"), "docs/websocket-session.md", "exec"), namespace)
    speech = stereo(doubles.speech(doubles.THREAT, None), doubles.speech(None, doubles.FINE))

    async def run():
        gateways = {"websocket": {"port": port, "token": "a-long-token", "session": {}}}
        async with live(gateways=gateways) as (_, api, _gateway):
            calling = asyncio.create_task(namespace["main"]("call-7", paced(speech), "a-long-token"))
            async with asyncio.timeout(60):
                await asyncio.sleep(0.3)
                listed = (await api.get("/v1/calls")).json()
                await calling
            return listed, (await api.get("/v1/calls")).json()

    listed, left = asyncio.run(run())
    assert [call["id"] for call in listed] == ["call-7"]
    assert left == []
    assert "suspect card_otp" in capsys.readouterr().out.splitlines()


def test_audiosocket_and_events(live, following, doubles):
    port = free_port()
    name = "6d7a0f2e-0000-4000-8000-00000000aa00"

    async def run():
        async with live(gateways={"audiosocket": {"port": port}}) as (_, api, _g), following(api) as events:
            _, writer = await asyncio.open_connection("127.0.0.1", port)
            writer.write(bytes(Frame(0x01, uuid.UUID(name).bytes)))
            far = doubles.speech(doubles.THREAT).astype("<i2").tobytes()
            async for chunk in paced([far[i : i + 320] for i in range(0, len(far), 320)]):
                writer.write(bytes(Frame(0x10, chunk)))
            writer.close()
            await doubles.until(lambda: any(event["type"] == "verdict" for event in events))
            return events

    events = asyncio.run(run())
    assert [event["type"] for event in events] == ["utterance", "alert", "verdict"]
    assert {event["call"] for event in events} == {name}


def test_the_subscriber_is_warned_over_the_near_connection_and_nobody_else(live, doubles):
    port = free_port()
    names = ["6d7a0f2e-0000-4000-8000-00000000aa00", "6d7a0f2e-0000-4000-8000-00000000aa01"]

    async def run():
        async with live(gateways={"audiosocket": {"port": port, "plays": True}}):
            ends = [await asyncio.open_connection("127.0.0.1", port) for _ in names]
            for (_, writer), name in zip(ends, names, strict=True):
                writer.write(bytes(Frame(0x01, uuid.UUID(name).bytes)))
            far = doubles.speech(doubles.THREAT, None, None).astype("<i2").tobytes()
            async for chunk in paced([far[i : i + 320] for i in range(0, len(far), 320)]):
                for number, (_, writer) in enumerate(ends):
                    writer.write(bytes(Frame(0x10, chunk if number == 0 else bytes(320))))
            heard = []
            for (reader, writer), _ in zip(ends, names, strict=True):
                writer.close()
                heard.append(b"".join(frame.payload for frame in FrameReader().take(await reader.read())))
            return heard

    at_far, at_near = asyncio.run(run())
    assert at_far == b""
    assert len(at_near) > 320
    assert np.abs(np.frombuffer(at_near, "<i2").astype(int)).max() > 1000


def test_leaving_the_worker_ends_calls_over_connections(live):
    port = free_port()

    async def run():
        async with contextlib.AsyncExitStack() as stack:
            gateways = {"websocket": {"port": port, "session": {}}}
            async with live(gateways=gateways):
                client = await stack.enter_async_context(connect(f"ws://127.0.0.1:{port}/session", proxy=None))
                await client.send(json.dumps({"type": "start", "call": "c", "channels": ["far"]}))
                assert json.loads(await client.recv())["type"] == "started"
            return [json.loads(message)["type"] async for message in client], client.close_code

    assert asyncio.run(run()) == (["verdict"], 1000)


def test_a_port_in_use_is_said_before_calls_are_taken(live):
    from inference.errors import ConfigError

    async def run(port):
        with pytest.raises(ConfigError, match=f"127.0.0.1:{port} cannot be used"):
            async with live(gateways={"websocket": {"port": port, "session": {}}}):
                pass

    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        asyncio.run(run(taken.getsockname()[1]))


def test_the_settings_file_shows_settings_that_are_valid():
    import yaml

    from inference.gateway.open import GatewaysConfig

    text = (ROOT / "configs" / "scamtap.yaml").read_text()
    block = text[text.index("# gateways:\n") :].partition("\n\n")[0]
    shown = yaml.safe_load("\n".join(line.removeprefix("# ") for line in block.splitlines()))
    shown["gateways"].pop("siprec", None)  # of another test
    config = GatewaysConfig.model_validate(shown["gateways"])
    assert config.websocket is not None
    assert config.websocket.telnyx is not None
    assert config.audiosocket is not None
    assert config.static[0].name == "span-1"
