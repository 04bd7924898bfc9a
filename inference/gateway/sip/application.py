"""What a server of ours is for: the seam between the SIP agent and a recording server, a redirect server …."""

from dataclasses import dataclass
from typing import Literal, Protocol

from inference.gateway.sip.flow import Flow
from inference.gateway.sip.incoming import Incoming
from inference.gateway.sip.message import RefusedError, Request
from inference.gateway.sip.transaction import ServerTransaction

METHODS = ("INVITE", "ACK", "BYE", "CANCEL", "OPTIONS", "UPDATE")
"""Taken from peers."""

RETRY_AFTER_S = 5
"""Where we are full: another worker is to be asked meanwhile."""

End = Literal["bye", "expired", "unconfirmed", "hung up", "lost"]
"""Why a session is over: the peer said so; it was not refreshed; our 2xx was never acknowledged; we said so; a request
of ours showed that the peer knows it no more."""


@dataclass(frozen=True, slots=True)
class Answer:
    """What a 2xx carries.

    Attributes:
        body: or empty.
        content_type: of the body.
        fields: further headers.
    """

    body: bytes = b""
    content_type: str = "application/sdp"
    fields: tuple[tuple[str, str], ...] = ()

    @property
    def all_fields(self) -> list[tuple[str, str]]:
        """Its headers."""
        return [*self.fields, *([("Content-Type", self.content_type)] if self.body else [])]


class Session(Protocol):
    """The application's side of one dialog."""

    def changed(self, incoming: Incoming) -> Answer:
        """A re-INVITE or UPDATE; a body-less one keeps all as it is.

        Raises:
            RefusedError: the session goes on as it was.
        """
        ...

    def ended(self, why: End) -> None:
        """It is over; told once."""
        ...


class Application(Protocol):
    """What the server is for: a recording server, a redirect server."""

    def admit(self, request: Request, flow: Flow) -> None:
        """Let a request pass that belongs to no session of this peer.

        Raises:
            RefusedError: 401, 403 …
        """
        ...

    def invited(self, transaction: ServerTransaction) -> None:
        """A new INVITE: accept it (``Agent.prepare``, ``accept``), answer its transaction now or later, or raise.

        Raises:
            RefusedError: 300-699, e.g. 302 with a Contact.
        """
        ...

    def probed(self) -> int:
        """Status for an OPTIONS outside any session: 200, or 503 to be left out by a load balancer."""
        ...


@dataclass(frozen=True, slots=True)
class AgentConfig:
    """Who we say we are, and bounds.

    Attributes:
        extensions: option tags we understand.
        contact_parameters: feature tags of our Contact, e.g. ``+sip.srs``.
        accept: Content-Types we read.
        advertised: host that peers are told, None for that of the socket.
        max_transactions, max_sessions, max_unconfirmed: bounds; unconfirmed sessions wait for their first ACK.
        longest_interval_s: a session must be refreshed within this.
    """

    extensions: tuple[str, ...] = ("timer",)
    contact_parameters: tuple[str, ...] = ()
    accept: tuple[str, ...] = ("application/sdp",)
    advertised: str | None = None
    max_transactions: int = 10_000
    max_sessions: int = 4096
    max_unconfirmed: int = 512
    longest_interval_s: int = 1800


def busy(why: str) -> RefusedError:
    """503 with when to try again."""
    return RefusedError(503, why, [("Retry-After", str(RETRY_AFTER_S))])
