"""Transactions (RFC 3261 section 17, RFC 6026): a request and its answers, sent again until they arrive.

    server INVITE       proceeding -> completed (3xx-6xx) -> confirmed (ACK) -> gone       timers G, H, I
                        proceeding -> accepted (2xx: sent again until its ACK) -> gone     timer L (RFC 6026)
    server, other       trying -> completed -> gone                                       timer J
    client, other       trying -> proceeding -> completed -> gone                         timers E, F, K

All timers run on the injected clock. What an answered transaction keeps is little: a redirect server has tens of
thousands of them, and a pass of the garbage collector over all their parts would hold every call up.
"""

import secrets
from collections.abc import Callable
from typing import Literal, Protocol

from inference.gateway.sip.flow import Flow, Timer, Timers
from inference.gateway.sip.incoming import Incoming, reply_flow
from inference.gateway.sip.message import Request, Response
from inference.gateway.sip.syntax import MAGIC_COOKIE

T1_S = 0.5
T2_S = 4.0
T4_S = 5.0
GIVE_UP_S = 64 * T1_S
"""Timers B, F, H, J and L."""

TRYING_S = 0.2
"""Without an answer for so long, an INVITE is told 100 (section 17.2.1)."""

State = Literal["trying", "proceeding", "accepted", "completed", "confirmed", "gone"]


class Table(Protocol):
    """Where a transaction of a peer is kept: :class:`inference.gateway.sip.table.Transactions`."""

    def forget(self, transaction: "ServerTransaction") -> None:
        """It is over."""
        ...

    def settle(self, transaction: "ServerTransaction") -> None:
        """It is over, but copies of it may be under way."""
        ...


class ServerTransaction:
    """A request of a peer, until its answer has arrived.

    Attributes:
        key, merge_key: of the request.
        incoming: the request, until it is refused: what is sent again is the answer.
        is_invite: whether it opens or changes a session.
        state: see the module.
        on_cancel: called where the peer takes an INVITE back before its final answer; default: answered 487.

    Args:
        incoming: the request.
        timers: the clock.
        table: is told when it is over.
    """

    __slots__ = (
        "_again", "_end", "_flow", "_last", "_on_unconfirmed", "_table", "_timers", "incoming", "is_invite", "key",
        "merge_key", "on_cancel", "state", "to_tag",
    )  # fmt: skip

    def __init__(self, incoming: Incoming, timers: Timers, table: Table) -> None:
        self.incoming = incoming
        self.key, self.merge_key = incoming.key, incoming.merge_key
        self.is_invite = incoming.cseq.method == "INVITE"
        self.state: State = "proceeding" if self.is_invite else "trying"
        self.on_cancel: Callable[[], None] | None = None
        self.to_tag = secrets.token_hex(8)
        self._timers = timers
        self._table = table
        self._flow = reply_flow(incoming.via, incoming.flow)
        self._last: bytes | None = None
        self._again: Timer | None = None
        self._end: Timer | None = None
        self._on_unconfirmed: Callable[[], None] | None = None
        if self.is_invite:
            self._again = timers.call_later(TRYING_S, self._trying)

    @property
    def peer_host(self) -> str:
        """Address of whom answers go to, which is who asked."""
        return self._flow.peer[0]

    @property
    def is_answered(self) -> bool:
        """Whether a final answer was given."""
        return self.state not in ("trying", "proceeding")

    def _trying(self) -> None:
        if self._last is None:
            self._send(self.incoming.answer(100))

    def _send(self, response: Response) -> None:
        self._last = bytes(response)
        self._flow.send(self._last)

    def respond(
        self,
        status: int,
        fields: list[tuple[str, str]] | None = None,
        body: bytes = b"",
        on_unconfirmed: Callable[[], None] | None = None,
    ) -> None:
        """Answer. After the final answer nothing more is taken.

        Args:
            status: of the response.
            fields: headers beside those copied from the request.
            body: with a Content-Type among ``fields``.
            on_unconfirmed: called where no ACK came for a 2xx.
        """
        if self.is_answered:
            return
        if status >= 200:
            self._cancel_again()
        self._send(self.incoming.answer(status, fields, body, None if status == 100 else self.to_tag))
        if status < 200:
            self.state = "proceeding"
            return
        is_reliable = self._flow.transport != "UDP"
        if not self.is_invite:
            self.state = "completed"
            if is_reliable:
                self._stop()
            else:
                self._end = self._timers.call_later(GIVE_UP_S, self._stop)  # timer J
            return
        self.state = "accepted" if status < 300 else "completed"
        self.on_cancel, self._on_unconfirmed = None, on_unconfirmed
        if status >= 300:
            del self.incoming
        self._end = self._timers.call_later(GIVE_UP_S, self._unconfirmed)  # timer H
        # A 2xx is sent again on every transport: a proxy may have changed to a lossy one (section 13.3.1.4).
        if status < 300 or not is_reliable:
            self._again = self._timers.call_later(T1_S, self._resend, T1_S)  # timer G

    def _resend(self, after_s: float) -> None:
        if self._last is not None:
            self._flow.send(self._last)
        after_s = min(2 * after_s, T2_S)
        self._again = self._timers.call_later(after_s, self._resend, after_s)

    def _unconfirmed(self) -> None:
        told, self._on_unconfirmed = self._on_unconfirmed, None
        self._stop()
        if told is not None:
            told()

    def received_again(self) -> None:
        """The peer has not seen the answer."""
        if self._last is not None and self.state != "confirmed":
            self._flow.send(self._last)

    def acknowledged(self) -> None:
        """The ACK of its answer arrived."""
        if self.state not in ("accepted", "completed"):
            return
        self._cancel_again()
        self._on_unconfirmed = None
        if self._flow.transport != "UDP":
            self._stop()
        elif self.state == "completed":
            self._stop()
            self._table.settle(self)
        else:
            # A copy of an answered INVITE that waited somewhere must not open a second session: timer L runs on.
            self.state = "confirmed"

    def cancelled(self) -> None:
        """The peer takes the request back (section 9.2); too late after the final answer."""
        if not self.is_answered:
            if self.on_cancel is not None:
                self.on_cancel()
            self.respond(487)

    def _cancel_again(self) -> None:
        if self._again is not None:
            self._again.cancel()
            self._again = None

    def _stop(self) -> None:
        self._cancel_again()
        if self._end is not None:
            self._end.cancel()
        if self.state != "gone":
            self.state = "gone"
            self._table.forget(self)

    def close(self) -> None:
        """Give it up: no timer runs any more, nobody is told."""
        self._on_unconfirmed = None
        self._stop()


class ClientTransaction:
    """A request of ours other than INVITE, until it is answered or 32 s passed.

    Args:
        request: with one Via whose branch is unique.
        flow: where it goes.
        timers: the clock.
        answered: called once, with the final response or None.
        forget: called when nothing more is to be absorbed.
    """

    def __init__(
        self,
        request: Request,
        flow: Flow,
        timers: Timers,
        answered: Callable[[Response | None], None],
        forget: Callable[[], None],
    ) -> None:
        self._data = bytes(request)
        self._flow = flow
        self._timers = timers
        self._answered: Callable[[Response | None], None] | None = answered
        self._forget = forget
        self._is_proceeding = False
        self._again: Timer | None = None
        flow.send(self._data)
        if flow.transport == "UDP":
            self._again = timers.call_later(T1_S, self._resend, T1_S)  # timer E
        self._end: Timer = timers.call_later(GIVE_UP_S, self._finish, None)  # timer F

    @property
    def is_waiting(self) -> bool:
        """Whether no final answer came yet."""
        return self._answered is not None

    def _resend(self, after_s: float) -> None:
        self._flow.send(self._data)
        after_s = T2_S if self._is_proceeding else min(2 * after_s, T2_S)
        self._again = self._timers.call_later(after_s, self._resend, after_s)

    def received(self, response: Response) -> None:
        """An answer came."""
        if response.status < 200:
            self._is_proceeding = True
        elif self._answered is not None:
            self._finish(response)

    def _finish(self, response: Response | None) -> None:
        self._end.cancel()
        if self._again is not None:
            self._again.cancel()
        answered, self._answered = self._answered, None
        if response is not None and self._flow.transport == "UDP":
            self._end = self._timers.call_later(T4_S, self._forget)  # timer K: absorbs its repetitions
        else:
            self._forget()
        if answered is not None:
            answered(response)

    def close(self) -> None:
        """Give it up; told as unanswered."""
        if self._answered is not None:
            self._finish(None)
        self._end.cancel()


def new_branch() -> str:
    """A branch that nobody guesses."""
    return f"{MAGIC_COOKIE}{secrets.token_hex(12)}"
