"""A process that follows call ``c1`` and plays a long warning in it, to be killed: ``python playing.py PORT MODE``."""

import asyncio
import sys

import numpy as np
from pydantic import SecretStr

from inference.alerts.ear import Announcement, Reach
from inference.alerts.tone import warning_tone
from inference.gateway.ports import MediaPorts
from inference.gateway.rtpengine.config import NodeConfig, RtpengineConfig
from inference.gateway.rtpengine.gateway import RtpengineGateway


class Service:
    """Takes every call, and does nothing with it."""

    is_full = False

    def __init__(self) -> None:
        self.call_ids: list[str] = []

    def begin(self, spec) -> None:
        self.call_ids.append(spec.id)

    def change(self, spec) -> None:
        pass

    async def end(self, call_id) -> None:
        self.call_ids.remove(call_id)


async def main(port: str, mode: str) -> None:
    config = RtpengineConfig(nodes=(NodeConfig(address=f"127.0.0.1:{port}"),), poll_s=0.05, caller_while_warning=mode)
    gateway = RtpengineGateway(config, Service(), MediaPorts("127.0.0.1", [9], None, 0))
    await gateway.start()
    while gateway.find("c1") is None:  # noqa: ASYNC110
        await asyncio.sleep(0.01)
    samples = np.tile(warning_tone("danger"), 8)[:64000]
    reach = Reach(via="rtpengine", call=SecretStr("c1"), ear=SecretStr("tag-callee"))
    await gateway.ear.play(reach, Announcement("long", "danger", "en", "", samples))
    guard = gateway._guard
    sys.stdout.write(f"playing {guard._process.pid if guard is not None else 0}\n")
    sys.stdout.flush()
    await asyncio.sleep(60)


if __name__ == "__main__":
    asyncio.run(main(*sys.argv[1:]))
