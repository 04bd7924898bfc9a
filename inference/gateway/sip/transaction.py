"""Transactions (RFC 3261 section 17, RFC 6026): a request and its answers, sent again until they arrive.

    server INVITE       proceeding -> completed (3xx-6xx) -> confirmed (ACK) -> gone       timers G, H, I
                        proceeding -> accepted (2xx: sent again until its ACK) -> gone     timer L (RFC 6026)
    server, other       trying -> completed -> gone                                       timer J
    client, other       trying -> proceeding -> completed -> gone                         timers E, F, K

All timers run on the injected clock. The table has a bound; what does not fit is answered without state.
"""

import secrets
from collections.abc import Callable
from typing import Literal

from inference.errors import CapacityError
from inference.gateway.sip.flow import Flow, Timer, Timers
from inference.gateway.sip.incoming import Incoming, Key, reply_flow
from inference.gateway.sip.message import Request, Response
from inference.gateway.sip.syntax import MAGIC_COOKIE, CSeq, Via

T1_S = 0.5
T2_S = 4.0
T4_S = 5.0
GIVE_UP_S = 64 * T1_S
"""Timers B, F, H, J and L."""

TRYING_S = 0.2
"""Without an answer for so long, an INVITE is told 100 (section 17.2.1)."""

State = Literal["trying", "proceeding", "accepted", "completed", "confirmed", "gone"]


class ServerTransaction:
    """A request of a peer, until its answer has arrived.

    Attributes:
        incoming: the request.
        state: see the module.
        on_cancel: called where the peer takes an INVITE back before its final answer; default: answered 487.
    """

    def __init__(self, incoming: Incoming, timers: Timers, forget: Callable[["ServerTransaction"], None]) -> None:
        self.incoming = incoming
        self.state: State = "proceeding" if incoming.cseq.method == "INVITE" else "trying"
        self.on_cancel: Callable[[], None] | None = None
        self.to_tag = secrets.token_hex(8)
        self._timers = timers
        self._forget = forget
        self._flow = reply_flow(incoming.via, incoming.flow)
        self._last: bytes | None = None
        self._again: Timer | None = None
        self._end: Timer | None = None
        self._on_unconfirmed: Callable[[], None] | None = None
        if self.is_invite:
            self._again = timers.call_later(TRYING_S, self._trying)

    @property
    def is_invite(self) -> bool:
        """Whether it opens or changes a session."""
        return self.incoming.cseq.method == "INVITE"

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
        self._on_unconfirmed = on_unconfirmed
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
        self._cancel_again()
        self._on_unconfirmed = None
        if self.state in ("accepted", "completed"):
            # A copy of an answered INVITE that waited somewhere must not open a second session: timer L runs on.
            was_accepted, self.state = self.state == "accepted", "confirmed"
            if self._end is not None and not (was_accepted and self._flow.transport == "UDP"):
                self._end.cancel()
                self._end = self._timers.call_later(T4_S if self._flow.transport == "UDP" else 0, self._stop)  # timer I

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
            self._forget(self)

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


class Transactions:
    """All of them, in both directions, at most ``max_open`` each.

    Args:
        timers: the clock.
        max_open: bound.
    """

    def __init__(self, timers: Timers, max_open: int) -> None:
        self._timers = timers
        self._max_open = max_open
        self._servers: dict[Key, ServerTransaction] = {}
        self._merged: dict[Key, ServerTransaction] = {}
        self._clients: dict[Key, ClientTransaction] = {}

    def __len__(self) -> int:
        return len(self._servers) + len(self._clients)

    @property
    def is_waiting(self) -> bool:
        """Whether a request of ours is not answered yet."""
        return any(client.is_waiting for client in self._clients.values())

    def find(self, key: Key) -> ServerTransaction | None:
        """The transaction a request belongs to."""
        return self._servers.get(key)

    def is_merged(self, incoming: Incoming) -> bool:
        """Whether it is another copy of a request that is being answered."""
        return incoming.merge_key in self._merged

    def open(self, incoming: Incoming) -> ServerTransaction:
        """Begin to answer a new request.

        Raises:
            CapacityError: too many are open.
        """
        if len(self._servers) >= self._max_open:
            raise CapacityError(f"{self._max_open} SIP transactions are open")
        made = ServerTransaction(incoming, self._timers, self._forget)
        self._servers[incoming.key] = made
        self._merged[incoming.merge_key] = made
        return made

    def _forget(self, transaction: ServerTransaction) -> None:
        incoming = transaction.incoming
        self._servers.pop(incoming.key, None)
        if self._merged.get(incoming.merge_key) is transaction:
            del self._merged[incoming.merge_key]

    def send(self, request: Request, flow: Flow, answered: Callable[[Response | None], None]) -> ClientTransaction:
        """Send a request other than INVITE; ``answered`` gets its final response, or None.

        Raises:
            CapacityError: too many are open.
        """
        if len(self._clients) >= self._max_open:
            raise CapacityError(f"{self._max_open} SIP requests wait for their answers")
        via = Via.parse(request.headers.items("Via")[0])
        key = (via.branch or "", request.method)
        made = ClientTransaction(request, flow, self._timers, answered, lambda: self._answered(key))
        self._clients[key] = made
        return made

    def _answered(self, key: Key) -> None:
        self._clients.pop(key, None)

    def receive_response(self, response: Response) -> bool:
        """Hand a response to its request; False where there is none (then it is dropped).

        Raises:
            SignallingError: it is malformed.
        """
        vias = response.headers.items("Via")
        if len(vias) != 1:  # for somebody else (section 8.1.3.3)
            return False
        cseq = CSeq.parse(response.headers.get("CSeq") or "")
        client = self._clients.get((Via.parse(vias[0]).branch or "", cseq.method))
        if client is not None:
            client.received(response)
        return client is not None

    def close(self) -> None:
        """Give all up."""
        for server in list(self._servers.values()):
            server.close()
        for client in list(self._clients.values()):
            client.close()
        self._clients.clear()


def new_branch() -> str:
    """A branch that nobody guesses."""
    return f"{MAGIC_COOKIE}{secrets.token_hex(12)}"
