"""The demo call, over SIPREC."""

import asyncio
import json
from pathlib import Path

import numpy as np
import pytest

from inference.config import PrivacyConfig, Settings
from inference.rtp.g711 import encode_ulaw
from inference.rtp.plane import PlaneConfig
from inference.service.api import ApiConfig


@pytest.mark.slow
@pytest.mark.timeout(400)
def test_the_demo_scam_over_siprec_with_the_real_models(
    models, doubles, tmp_path, record_property, make_src, working, following
):
    """SIPp plays the caller's leg of the demo's scam call, and the subscriber's comes beside it."""
    import soundfile as sf

    tiny = Path(__file__).parents[4] / "datasets" / "tiny"
    sound, rate_hz = sf.read(tiny / "demo-scam.wav", dtype="int16")
    labels = json.loads((tiny / "demo-scam.json").read_text())
    assert rate_hz == 8000
    far, near = np.ascontiguousarray(sound.T)
    src = make_src(tmp_path, encode_ulaw(far))
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
        async with working(settings) as worker, following(worker) as events:
            (_, _, port) = worker.gateways[0].addresses[0]
            length_ms = 1000 * len(sound) // rate_hz + 1500
            sipp = asyncio.create_task(src.run("src", port, length_ms=length_ms, timeout_s=300))
            async with asyncio.timeout(60):
                while not worker.watch.call_ids:  # noqa: ASYNC110
                    await asyncio.sleep(0.01)
            await src.play_near(worker.watch.media_ports[0], packets)
            assert await sipp == 0
            async with asyncio.timeout(60):
                while not any(event["type"] == "verdict" for event in events):  # noqa: ASYNC110
                    await asyncio.sleep(0.1)
            return events

    events = asyncio.run(run())
    alerts = [(event["level"], event["at_s"]) for event in events if event["type"] == "alert"]
    record_property("alerts", alerts)
    assert alerts[0][1] < labels["ask_s"]
    assert {event["leg"] for event in events if event["type"] == "utterance"} == {"far", "near"}
