"""Dialogs (RFC 3261 section 12) that a peer opened, and how long they hold unrefreshed (RFC 4028)."""

from dataclasses import dataclass
from typing import Literal

from inference.errors import SignallingError
from inference.gateway.sip.flow import Flow
from inference.gateway.sip.incoming import Incoming, reply_flow
from inference.gateway.sip.message import Headers, RefusedError, Request
from inference.gateway.sip.syntax import MAX_CSEQ, Address, parse_parameters
from inference.gateway.sip.transaction import new_branch

MIN_SE_S = 90
"""The shortest interval there may be (RFC 4028 section 4)."""

DialogId = tuple[str, str, str]
"""Call-ID, our tag, the peer's tag."""


@dataclass(frozen=True, slots=True)
class SessionInterval:
    """How often a session must be refreshed, and by whom: ``uac`` asks for it in this very transaction."""

    seconds: int
    refresher: Literal["uac", "uas"]

    @property
    def fields(self) -> list[tuple[str, str]]:
        """Headers of the answer."""
        required = [("Require", "timer")] if self.refresher == "uac" else []
        return [("Session-Expires", f"{self.seconds};refresher={self.refresher}"), *required]


def option_tags(request: Request, *names: str) -> set[str]:
    """Extensions named in Require, Supported and the like.

    Raises:
        SignallingError: a list is malformed.
    """
    return {tag.lower() for name in names for tag in request.headers.items(name)}


def negotiate_interval(incoming: Incoming, longest_s: int) -> SessionInterval | None:
    """What a request's session timer becomes in our answer (RFC 4028 section 9); None for no timer.

    Args:
        incoming: an INVITE or UPDATE.
        longest_s: what we ask for where the peer asks for longer or for nothing.

    Raises:
        RefusedError: 422, it is shorter than 90 s; 400, it is malformed.
    """
    headers = incoming.request.headers
    can_time = "timer" in option_tags(incoming.request, "Supported", "Require")
    wanted, refresher = _interval(headers.get("Session-Expires"), "Session-Expires")
    at_least, _ = _interval(headers.get("Min-SE"), "Min-SE")
    if wanted is None:
        return SessionInterval(max(longest_s, at_least or MIN_SE_S), "uac") if can_time else None
    if wanted < MIN_SE_S:
        if can_time:
            raise RefusedError(422, "session interval is shorter than 90 s", [("Min-SE", str(MIN_SE_S))])
        wanted = MIN_SE_S
    seconds = max(min(wanted, longest_s), at_least or MIN_SE_S)
    if can_time and refresher != "uas":
        return SessionInterval(seconds, "uac")
    # We refresh by UPDATE: where the peer takes none, nothing is promised that would not be kept.
    allowed = {method.upper() for method in headers.items("Allow")}
    return SessionInterval(seconds, "uas") if "UPDATE" in allowed else None


def _interval(value: str | None, what: str) -> tuple[int | None, str | None]:
    if value is None:
        return None, None
    number, semicolon, rest = value.partition(";")
    number = number.strip()
    if not (number.isascii() and number.isdigit() and len(number) <= 9):
        raise RefusedError(400, f"{what} is not a number of seconds")
    try:
        parameters = parse_parameters(semicolon + rest, what)
    except SignallingError as error:
        raise RefusedError(400, str(error)) from error
    return int(number), (parameters.get("refresher") or "").lower() or None


@dataclass(slots=True)
class Dialog:
    """One, seen from us who were invited.

    Attributes:
        call_id: of its requests.
        local, remote: To and From of the INVITE, as header values with their tags.
        local_tag, remote_tag: those tags.
        target: URI the peer wants requests sent to.
        routes: Record-Route of the INVITE, in the order we send.
        flow: back to where its newest request came from. Requests of ours take it, never an address that a header
            names: what a peer writes into Contact must not make us send anywhere.
        contact: our own Contact.
        sent_by: our host and port, for Via.
        local_cseq, remote_cseq: of the newest requests.
    """

    call_id: str
    local: str
    remote: str
    local_tag: str
    remote_tag: str
    target: str
    routes: tuple[str, ...]
    flow: Flow
    contact: str
    sent_by: str
    remote_cseq: int
    local_cseq: int = 0

    @classmethod
    def open(cls, incoming: Incoming, local_tag: str, contact: str, sent_by: str) -> "Dialog":
        """The dialog that our 2xx to an INVITE makes (section 12.1.1).

        Raises:
            RefusedError: 400, no usable Contact or Record-Route.
        """
        headers = incoming.request.headers
        try:
            routes = tuple(headers.items("Record-Route"))
            for route in routes:
                Address.parse(route, "Record-Route")
            target = _target(incoming)
        except SignallingError as error:
            raise RefusedError(400, str(error)) from error
        if target is None:
            raise RefusedError(400, "Contact is missing")
        return cls(
            call_id=incoming.call_id,
            local=f"{headers.get('To')};tag={local_tag}",
            remote=headers.get("From") or "",
            local_tag=local_tag,
            remote_tag=incoming.sender.tag or "",
            target=target,
            routes=routes,
            flow=reply_flow(incoming.via, incoming.flow),
            contact=contact,
            sent_by=sent_by,
            remote_cseq=incoming.cseq.number,
        )

    @property
    def id(self) -> DialogId:
        """What its requests carry."""
        return (self.call_id, self.local_tag, self.remote_tag)

    def take(self, incoming: Incoming) -> None:
        """A request of the peer within the dialog (section 12.2.2).

        Raises:
            RefusedError: 500, it comes out of order; 400, a malformed Contact.
        """
        number = incoming.cseq.number
        # A BYE ends the session whatever its number: an SBC that counts wrongly must not leave us listening.
        if number <= self.remote_cseq and incoming.cseq.method != "BYE":
            raise RefusedError(500, "CSeq is not above the dialog's last")
        self.remote_cseq = max(number, self.remote_cseq)
        if incoming.cseq.method in ("INVITE", "UPDATE"):
            try:
                self.target = _target(incoming) or self.target
            except SignallingError as error:
                raise RefusedError(400, str(error)) from error
        self.flow = reply_flow(incoming.via, incoming.flow)  # a peer that connected anew is answered there from now on

    def request(self, method: str, fields: list[tuple[str, str]], body: bytes = b"") -> Request:
        """A request of ours (section 12.2.1.1), with a Via of its own and the next CSeq."""
        self.local_cseq = (self.local_cseq + 1) % MAX_CSEQ
        uri, routes = self.target, self.routes
        if routes and ";lr" not in Address.parse(routes[0], "Route").uri.lower():  # a strict router (section 16.12)
            uri, routes = Address.parse(routes[0], "Route").uri, (*routes[1:], f"<{self.target}>")
        headers = [
            ("Via", f"SIP/2.0/{self.flow.transport} {self.sent_by};branch={new_branch()};rport"),
            ("Max-Forwards", "70"),
            *(("Route", route) for route in routes),
            ("From", self.local),
            ("To", self.remote),
            ("Call-ID", self.call_id),
            ("CSeq", f"{self.local_cseq} {method}"),
            ("Contact", self.contact),
            *fields,
        ]
        return Request(method, uri, Headers(headers), body)


def _target(incoming: Incoming) -> str | None:
    contacts = incoming.request.headers.items("Contact")
    return Address.parse(contacts[0], "Contact").uri if contacts else None
