"""Ears that note what they are told, for tests of who is warned when."""

import asyncio
from dataclasses import dataclass, field

from inference.errors import AlertError


@dataclass
class NotingEar:
    """Takes, refuses or never answers, as ``mood`` says."""

    name: str
    mood: str = "takes"
    heard: list[tuple[str, str]] = field(default_factory=list)
    is_closed: bool = False
    waiting: asyncio.Event = field(default_factory=asyncio.Event)

    async def _answer(self) -> None:
        if self.mood == "refuses":
            raise AlertError(f"{self.name} answered 500")
        if self.mood == "waits":
            await self.waiting.wait()

    async def play(self, reach, announcement) -> None:
        self.heard.append(("play", announcement.name))
        await self._answer()

    async def stop(self, reach) -> None:
        self.heard.append(("stop", ""))
        await self._answer()

    async def aclose(self) -> None:
        self.is_closed = True

    @property
    def played(self) -> list[str]:
        return [name for what, name in self.heard if what == "play"]
