"""A user agent server: requests are checked in the order of RFC 3261 section 8.2, and become an application's sessions.

Strangers cost nothing that lasts: a request that is refused before its transaction is answered and forgotten. What
lasts (transactions, dialogs, sessions nobody acknowledged yet) is counted against a bound each.
"""

import asyncio
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass

from inference.errors import CapacityError, SignallingError
from inference.gateway.sip.application import (
    METHODS,
    RETRY_AFTER_S,
    AgentConfig,
    Answer,
    Application,
    End,
    Session,
    busy,
)
from inference.gateway.sip.dialog import Dialog, DialogId, SessionInterval, negotiate_interval, option_tags
from inference.gateway.sip.flow import Flow, Timer, Timers
from inference.gateway.sip.incoming import Incoming, answer, reply_flow
from inference.gateway.sip.message import REASONS, Headers, RefusedError, Request, Response, parse_message
from inference.gateway.sip.syntax import Via
from inference.gateway.sip.table import Transactions
from inference.gateway.sip.transaction import GIVE_UP_S, ClientTransaction, ServerTransaction, new_branch


@dataclass(slots=True, eq=False)
class Accepted:
    """A session that stands: its dialog, and what is due of it."""

    dialog: Dialog
    session: Session
    interval: SessionInterval | None = None
    is_confirmed: bool = False
    due: Timer | None = None
    unacknowledged: ServerTransaction | None = None


class Agent:
    """Takes what flows receive, and sends.

    Args:
        application: see there.
        timers: the clock.
        config: bounds.

    Attributes:
        counts: requests, responses, what was dropped, refusals by status, ends by why.
        latest_refusal: the newest one's reason, in our words alone.
    """

    def __init__(self, application: Application, timers: Timers, config: AgentConfig) -> None:
        self._application = application
        self._timers = timers
        self._config = config
        self._transactions = Transactions(timers, config.max_transactions)
        self._sessions: dict[DialogId, Accepted] = {}
        self._num_unconfirmed = 0
        self.is_closing = False
        self.counts: Counter[str] = Counter()
        self.latest_refusal = ""

    @property
    def time_s(self) -> float:
        """Now, on its clock."""
        return self._timers.time()

    @property
    def num_sessions(self) -> int:
        """Sessions that stand."""
        return len(self._sessions)

    @property
    def num_transactions(self) -> int:
        """Requests of both sides that are under way or not forgotten yet."""
        return len(self._transactions)

    def receive(self, data: bytes, flow: Flow) -> None:
        """Take a message; never raises for what it holds."""
        try:
            message = parse_message(data)
            if isinstance(message, Response):
                self.counts["responses"] += 1
                if not self._transactions.receive_response(message):
                    self.counts["dropped"] += 1
                return
            self.counts["requests"] += 1
            self._take(Incoming.read(message, flow))
        except RefusedError as refusal:
            if refusal.request is not None:
                self._refuse_stateless(refusal.request, flow, refusal)
        except SignallingError:
            self.counts["dropped"] += 1

    def _take(self, incoming: Incoming) -> None:
        key, method = incoming.key, incoming.cseq.method
        if self._transactions.is_settled(key):
            return
        known = self._transactions.find(key)
        if method == "ACK":
            self._acknowledged(incoming, known)
            return
        if known is not None:
            known.received_again()
            return
        accepted = self._session(incoming)
        try:
            self._admit(incoming, accepted)
            transaction = self._open(incoming)
        except RefusedError as refusal:
            self._refuse_stateless(incoming.request, incoming.flow, refusal)
            return
        try:
            self._check(incoming.request)
            if method == "CANCEL":
                self._cancelled(incoming, transaction)
            elif accepted is not None:
                self._within(accepted, transaction)
            else:
                self._outside(transaction)
        except SignallingError as error:
            refused = error if isinstance(error, RefusedError) else RefusedError(400, str(error))
            self._count_refusal(refused)
            transaction.respond(refused.status, _refusal_fields(refused))

    def _session(self, incoming: Incoming) -> Accepted | None:
        return self._sessions.get((incoming.call_id, incoming.recipient.tag or "", incoming.sender.tag or ""))

    def _admit(self, incoming: Incoming, accepted: Accepted | None) -> None:
        """Whether somebody may ask us at all."""
        if incoming.cseq.method == "CANCEL":  # cannot be challenged (section 22.1): it is its INVITE's sender's
            invite = self._invite_of(incoming)
            if invite is None or invite.peer_host != incoming.flow.peer[0]:
                raise RefusedError(481, "nothing to cancel")
        # A session's own peer was let in when it was opened; nobody else but those on the path knows its tags.
        elif accepted is None or incoming.flow.peer[0] != accepted.dialog.flow.peer[0]:
            self._application.admit(incoming.request, incoming.flow)

    def _invite_of(self, incoming: Incoming) -> ServerTransaction | None:
        return self._transactions.find(incoming.invite_key)

    def _open(self, incoming: Incoming) -> ServerTransaction:
        if incoming.recipient.tag is None and self._transactions.is_merged(incoming):
            raise RefusedError(482, "this request came before, by another way")
        try:
            return self._transactions.open(incoming)
        except CapacityError as error:
            raise busy("too many requests are under way") from error

    def _check(self, request: Request) -> None:
        """Method, URI and extensions (sections 8.2.1 and 8.2.2)."""
        if request.method not in METHODS:
            raise RefusedError(405, "method is not taken here", [("Allow", ", ".join(METHODS))])
        scheme, _, rest = request.uri.partition(":")
        if scheme.lower() not in ("sip", "sips", "tel"):
            raise RefusedError(416, "request URI is of no scheme taken here")
        if "?" in rest.rpartition("@")[2]:
            raise RefusedError(400, "request URI has headers in it")
        if request.method != "CANCEL":
            unknown = option_tags(request, "Require") - set(self._config.extensions)
            if unknown:
                listed = [tag for tag in request.headers.items("Require") if tag.lower() in unknown]
                raise RefusedError(420, "an extension is not supported", [("Unsupported", ", ".join(listed))])

        if request.method in ("INVITE", "UPDATE"):
            taken = {kind.partition(";")[0].strip().lower() for kind in request.headers.items("Accept")}
            if taken and not taken & {"application/sdp", "application/*", "*/*"}:
                raise RefusedError(406, "the answer would be SDP, which the request does not take")

    def _acknowledged(self, incoming: Incoming, known: ServerTransaction | None) -> None:
        accepted = self._session(incoming)
        if accepted is not None and accepted.unacknowledged is not None:
            if accepted.unacknowledged.incoming.cseq.number == incoming.cseq.number:
                accepted.unacknowledged.acknowledged()
                accepted.unacknowledged = None
                self._confirm(accepted)
        elif known is not None:
            known.acknowledged()
        else:
            self.counts["dropped"] += 1

    def _cancelled(self, incoming: Incoming, transaction: ServerTransaction) -> None:
        invite = self._invite_of(incoming)
        if invite is not None:
            transaction.to_tag = invite.to_tag  # section 9.2
            transaction.respond(200)
            invite.cancelled()

    def _within(self, accepted: Accepted, transaction: ServerTransaction) -> None:
        incoming = transaction.incoming
        accepted.dialog.take(incoming)
        method = incoming.cseq.method
        if method == "BYE":
            transaction.respond(200)
            self._end(accepted, "bye")
        elif method in ("INVITE", "UPDATE"):
            if method == "INVITE" and accepted.unacknowledged is not None:
                raise RefusedError(491, "the INVITE before is not acknowledged yet")
            interval = negotiate_interval(incoming, self._config.longest_interval_s)
            reply = accepted.session.changed(incoming)
            self._answer(accepted, transaction, reply, interval)
        else:
            transaction.respond(200, self._capabilities())

    def _outside(self, transaction: ServerTransaction) -> None:
        incoming = transaction.incoming
        if incoming.recipient.tag is not None or incoming.cseq.method not in ("INVITE", "OPTIONS"):
            raise RefusedError(481, "no such session")
        if incoming.cseq.method == "OPTIONS":
            status = 503 if self.is_closing else self._application.probed()
            retry = [("Retry-After", str(RETRY_AFTER_S))] if status == 503 else []
            transaction.respond(status, self._capabilities() + retry)
            return
        is_full = len(self._sessions) >= self._config.max_sessions
        if self.is_closing or is_full or self._num_unconfirmed >= self._config.max_unconfirmed:
            raise busy("no room for another session")
        self._application.invited(transaction)

    def _capabilities(self) -> list[tuple[str, str]]:
        return [
            ("Allow", ", ".join(METHODS)),
            ("Accept", ", ".join(self._config.accept)),
            ("Supported", ", ".join(self._config.extensions)),
        ]

    def prepare(self, transaction: ServerTransaction, session: Session) -> Accepted:
        """What an INVITE would become; nothing stands yet, nothing is answered.

        Raises:
            RefusedError: no dialog can be made of it, or its session interval is too short.
        """
        incoming = transaction.incoming
        interval = negotiate_interval(incoming, self._config.longest_interval_s)
        sent_by = self._sent_by(incoming.flow)
        more = "" if incoming.flow.transport == "UDP" else f";transport={incoming.flow.transport.lower()}"
        contact = ";".join((f"<sip:{sent_by}{more}>", *self._config.contact_parameters))
        dialog = Dialog.open(incoming, transaction.to_tag, contact, sent_by)
        return Accepted(dialog, session, interval)

    def accept(self, accepted: Accepted, transaction: ServerTransaction, reply: Answer) -> None:
        """Answer an INVITE that was prepared with 200; its session stands from now on."""
        self._sessions[accepted.dialog.id] = accepted
        self._num_unconfirmed += 1
        self._answer(accepted, transaction, reply, accepted.interval)

    def _sent_by(self, flow: Flow) -> str:
        host, port = self._config.advertised or flow.local[0], flow.local[1]
        return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"

    def _answer(
        self, accepted: Accepted, transaction: ServerTransaction, reply: Answer, interval: SessionInterval | None
    ) -> None:
        fields = [("Contact", accepted.dialog.contact), *self._capabilities(), *reply.all_fields]
        self._due(accepted, interval)
        if transaction.is_invite:
            accepted.unacknowledged = transaction
        unconfirmed = (lambda: self._unconfirmed(accepted)) if transaction.is_invite else None
        transaction.respond(200, fields + (interval.fields if interval else []), reply.body, unconfirmed)

    def _confirm(self, accepted: Accepted) -> None:
        if not accepted.is_confirmed:
            accepted.is_confirmed = True
            self._num_unconfirmed -= 1

    def _unconfirmed(self, accepted: Accepted) -> None:
        if accepted.dialog.id in self._sessions:
            self._hang_up(accepted, "unconfirmed")

    def _due(self, accepted: Accepted, interval: SessionInterval | None) -> None:
        """Refreshed now: when it must be again."""
        if accepted.due is not None:
            accepted.due.cancel()
        accepted.interval, accepted.due = interval, None
        if interval is None:
            return
        if interval.refresher == "uas":
            accepted.due = self._timers.call_later(interval.seconds / 2, self._refresh, accepted)
        else:  # RFC 4028 section 10
            after_s = interval.seconds - min(GIVE_UP_S, interval.seconds / 3)
            accepted.due = self._timers.call_later(after_s, self._hang_up, accepted, "expired")

    def _refresh(self, accepted: Accepted) -> None:
        interval = accepted.interval
        if interval is None:
            return

        def answered(response: Response | None) -> None:
            if accepted.dialog.id not in self._sessions:
                return
            if response is None or response.status in (408, 481):
                self._hang_up(accepted, "lost")
            else:
                self._due(accepted, interval)

        fields = [("Session-Expires", f"{interval.seconds};refresher=uac"), ("Supported", "timer")]
        try:
            self.request(accepted, "UPDATE", fields, b"", answered)
        except CapacityError:
            self._due(accepted, interval)

    def hang_up(self, accepted: Accepted) -> None:
        """End a session from our side."""
        if accepted.dialog.id in self._sessions:
            self._hang_up(accepted, "hung up")

    def _hang_up(self, accepted: Accepted, why: End) -> None:
        try:
            self.request(accepted, "BYE", [], b"", lambda _: None)
        except CapacityError:
            self.counts["dropped"] += 1
        self._end(accepted, why)

    def _end(self, accepted: Accepted, why: End) -> None:
        del self._sessions[accepted.dialog.id]
        self._confirm(accepted)
        self._due(accepted, None)
        if accepted.unacknowledged is not None:
            accepted.unacknowledged.acknowledged()
        self.counts[f"ended: {why}"] += 1
        accepted.session.ended(why)

    def request(
        self,
        accepted: Accepted,
        method: str,
        fields: list[tuple[str, str]],
        body: bytes,
        answered: Callable[[Response | None], None],
    ) -> ClientTransaction:
        """Send a request within a session, e.g. INFO or MESSAGE; ``answered`` gets the final response or None.

        Raises:
            CapacityError: too many requests wait for answers.
        """
        return self._transactions.send(accepted.dialog.request(method, fields, body), accepted.dialog.flow, answered)

    def send_request(
        self,
        flow: Flow,
        method: str,
        uri: str,
        fields: list[tuple[str, str]],
        body: bytes,
        answered: Callable[[Response | None], None],
    ) -> None:
        """Send a request outside any session, e.g. MESSAGE; From, To, Call-ID and CSeq are among the fields.

        Raises:
            CapacityError: too many requests wait for answers.
        """
        via = f"SIP/2.0/{flow.transport} {self._sent_by(flow)};branch={new_branch()};rport"
        headers = Headers([("Via", via), ("Max-Forwards", "70"), *fields])
        self._transactions.send(Request(method, uri, headers, body), flow, answered)

    def _refuse_stateless(self, request: Request, flow: Flow, refusal: RefusedError) -> None:
        """Answer and forget; an ACK is never answered, nor what names no way back."""
        self._count_refusal(refusal)
        vias = request.headers.all("Via")
        if request.method == "ACK" or not vias:
            return
        try:
            via = Via.parse(vias[0].partition(",")[0])
        except SignallingError:
            via = None  # back to where it came from
        response = answer(request, flow, refusal.status, _refusal_fields(refusal), tag=new_branch())
        way = flow if via is None else reply_flow(via, flow)
        way.send(bytes(response))

    def _count_refusal(self, refusal: RefusedError) -> None:
        self.counts[f"refused: {refusal.status}"] += 1
        self.latest_refusal = str(refusal)

    async def aclose(self, timeout_s: float) -> None:
        """Take no new requests, hang up every session, and wait a little for the peers to have heard it."""
        self.is_closing = True
        for accepted in list(self._sessions.values()):
            self._hang_up(accepted, "hung up")
        until_s = self._timers.time() + timeout_s
        while self._transactions.is_waiting and self._timers.time() < until_s:  # noqa: ASYNC110
            await asyncio.sleep(0.02)
        self._transactions.close()


def _refusal_fields(refusal: RefusedError) -> list[tuple[str, str]]:
    why = refusal.why.replace('"', "'") or REASONS.get(refusal.status, "")
    return [*refusal.fields, ("Warning", f'399 scamtap "{why}"')]
