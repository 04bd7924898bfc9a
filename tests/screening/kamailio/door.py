"""ScamTap's screening in a process of its own, to be killed: ``python door.py SIP_PORT HTTP_PORT CHALLENGE_URI``."""

import asyncio
import sys
import time
from contextlib import AsyncExitStack

import uvicorn
from fastapi import FastAPI

from inference.screening.api import screening_router
from inference.screening.config import ScreeningConfig, open_screening
from inference.screening.lists import ListEntry
from inference.screening.sip.server import RedirectServer

DENIED, NEVER_CALLS, HEARD = "442079460607", "442079460608", "442079460302"
SHIELDED = "442079460603"


async def main(sip_port, http_port, challenge_uri):
    sip = {"port": sip_port, "challenge_uri": challenge_uri, "redress_uri": "https://operator.example/redress.jws"}
    sip |= {"trunk_header": "X-ScamTap-Trunk"}
    rules = {"region": "GB", "shielded": "reject"}
    config = ScreeningConfig(rules=rules, risk={"enabled": False}, sip=sip)
    async with AsyncExitStack() as stack:
        screening = open_screening(config, stack)
        entries = [
            ListEntry(kind="deny", number=DENIED, who="test", why="test"),
            ListEntry(kind="do_not_originate", number=NEVER_CALLS, who="test", why="test"),
        ]
        screening.lists.replace_entries(entries, "test")
        now_s = time.time()
        for callee in ("442079460001", "442079460002"):
            await screening.store.mark(HEARD, callee, "heard_danger", now_s)
        await screening.store.shield(SHIELDED, now_s + 3600)
        server = RedirectServer(config.sip, screening.screener)
        await server.start()
        stack.push_async_callback(server.aclose)
        app = FastAPI()
        app.include_router(screening_router(screening, []))
        web = uvicorn.Server(uvicorn.Config(app, port=http_port, log_config=None, access_log=False))
        await web.serve()


if __name__ == "__main__":
    asyncio.run(main(int(sys.argv[1]), int(sys.argv[2]), sys.argv[3]))
