"""The way back to the subscriber: an INFO (RFC 6086) in the recording session, for the SBC to play the warning.

Without an Info-Package, as INFO was before RFC 6086: that is what deployed SBCs and the application servers behind them
take, by its Content-Type, and it needs nothing registered. Only a peer whose Recv-Info names :data:`PACKAGE` gets the
package; to any other it must not be sent (RFC 6086 section 4.2.1). The body is JSON, described in docs/siprec.md: which
announcement, and the label of the stream of whoever is to hear it; nothing of what was said, and no number.
"""

import asyncio
import json
from collections.abc import Mapping
from typing import TYPE_CHECKING

from pydantic import BaseModel, ConfigDict, Field

from inference.alerts.ear import Announcement, Reach
from inference.errors import AlertError, CapacityError, SignallingError
from inference.gateway.sip.message import Request, Response

if TYPE_CHECKING:
    from inference.gateway.siprec.gateway import SiprecGateway

PACKAGE = "scamtap-warning"
"""Our Info Package; a peer that wants it lists it in Recv-Info."""

CONTENT_TYPE = "application/json"

MAX_BODY_BYTES = 700
"""Beside the headers of a dialog a datagram then stays below 1300 bytes or so (RFC 3261 section 18.1.1)."""


class InfoConfig(BaseModel):
    """The warning as INFO to the SBC.

    Attributes:
        name: of this way in ``reach.via`` of its calls.
        timeout_s: bound on one INFO; it is not sent again after that, since a late tone warns nobody.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    name: str = Field(default="siprec", min_length=1, max_length=64)
    timeout_s: float = Field(default=2.0, gt=0, le=30)


def listed_packages(request: Request) -> frozenset[str] | None:
    """Info Packages that a peer takes, in lower case; None where the request says nothing of them."""
    if not request.headers.all("Recv-Info"):
        return None
    try:
        listed = request.headers.items("Recv-Info")
    except SignallingError:  # a malformed list is no reason to lose a recording
        return frozenset()
    return frozenset(package.partition(";")[0].strip().lower() for package in listed)


class InfoEar:
    """Asks the SBC to play to the subscriber. An :class:`inference.alerts.ear.Ear`.

    An SBC that answers 481, or nothing at all, could be hung up on (RFC 5057). It is not: whether the call goes on is
    told by its audio and its session timer, and a warning that fails must not end the listening.

    Args:
        config: how.
        gateway: whose recordings they are.
    """

    def __init__(self, config: InfoConfig, gateway: "SiprecGateway") -> None:
        self.name = config.name
        self._timeout_s = config.timeout_s
        self._gateway = gateway

    async def play(self, reach: Reach, announcement: Announcement) -> None:
        """See :meth:`inference.alerts.ear.Ear.play`."""
        about = {
            "announcement": announcement.name,
            "level": announcement.level,
            "family": announcement.family,
            "language": announcement.language,
            "text": announcement.text,
        }
        await self._send(reach, {"warning": "play", **about})

    async def stop(self, reach: Reach) -> None:
        """See :meth:`inference.alerts.ear.Ear.stop`."""
        await self._send(reach, {"warning": "stop"})

    async def _send(self, reach: Reach, what: Mapping[str, str | None]) -> None:
        found = self._gateway.find(reach)
        if found is None:
            raise AlertError(f"{self.name}: the call is not recorded here any more")
        recording, accepted = found
        if recording.near_label is None:  # whoever has to guess may warn the caller
            raise AlertError(f"{self.name}: signalling did not say which stream is the subscriber's")
        body = json.dumps({**what, "label": recording.near_label}, ensure_ascii=False).encode(errors="replace")
        if len(body) > MAX_BODY_BYTES:
            raise AlertError(f"{self.name}: the INFO would have more than {MAX_BODY_BYTES} bytes: shorten the line")
        fields = [("Content-Type", CONTENT_TYPE)]
        if PACKAGE in recording.info_packages:
            fields += [("Info-Package", PACKAGE), ("Content-Disposition", "Info-Package")]
        final: asyncio.Future[Response | None] = asyncio.get_running_loop().create_future()

        def answered(response: Response | None) -> None:
            if not final.done():
                final.set_result(response)

        try:
            transaction = self._gateway.agent.request(accepted, "INFO", fields, body, answered)
        except CapacityError as error:
            raise AlertError(f"{self.name}: too many requests wait for answers") from error
        try:
            async with asyncio.timeout(self._timeout_s):
                response = await final
        except TimeoutError:
            response = None
        finally:
            if transaction.is_waiting:  # also where whoever waits for us gave up
                transaction.close()
        if response is None:
            raise AlertError(f"{self.name} does not answer")
        if not 200 <= response.status < 300:
            raise AlertError(f"{self.name} answered {response.status}")

    async def aclose(self) -> None:
        """Nothing is held: the gateway hangs up."""
