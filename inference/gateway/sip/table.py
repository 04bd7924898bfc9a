"""The table of transactions, bounded in both directions; what does not fit is answered without state.

After the ACK of a refusal its key alone is kept, until no copy can be under way any more (timer I, RFC 3261 section
17.2.1): of the ten thousand calls that a redirect server remembers at 2,000 a second, that is all there is.
"""

from collections.abc import Callable
from itertools import takewhile

from inference.errors import CapacityError
from inference.gateway.sip.flow import Flow, Timer, Timers
from inference.gateway.sip.incoming import Incoming, Key
from inference.gateway.sip.message import Request, Response
from inference.gateway.sip.syntax import CSeq, Via
from inference.gateway.sip.transaction import T4_S, ClientTransaction, ServerTransaction

SWEEP_S = 0.02
"""Keys are forgotten together so often, not by a timer each."""


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
        self._merged: dict[Key, Key] = {}  # merge key -> key
        self._settled: dict[Key, tuple[float, Key]] = {}  # key -> until when, merge key; the oldest first
        self._sweep: Timer | None = None
        self._clients: dict[Key, ClientTransaction] = {}

    def __len__(self) -> int:
        return self.num_served + len(self._clients)

    @property
    def num_served(self) -> int:
        """Requests of peers that are not forgotten yet."""
        return len(self._servers) + len(self._settled)

    @property
    def is_waiting(self) -> bool:
        """Whether a request of ours is not answered yet."""
        return any(client.is_waiting for client in self._clients.values())

    def find(self, key: Key) -> ServerTransaction | None:
        """The transaction a request belongs to."""
        return self._servers.get(key)

    def is_settled(self, key: Key) -> bool:
        """Whether it is a copy of a refused INVITE, or of its ACK, after that ACK: nothing is to be done (timer I)."""
        return key in self._settled

    def is_merged(self, incoming: Incoming) -> bool:
        """Whether it is another copy of a request that is being answered."""
        return incoming.merge_key in self._merged

    def open(self, incoming: Incoming) -> ServerTransaction:
        """Begin to answer a new request.

        Raises:
            CapacityError: too many are open.
        """
        if self.num_served >= self._max_open:
            raise CapacityError(f"{self._max_open} SIP transactions are open")
        made = ServerTransaction(incoming, self._timers, self)
        self._servers[made.key] = made
        self._merged[made.merge_key] = made.key
        return made

    def forget(self, transaction: ServerTransaction) -> None:
        """It is over."""
        self._servers.pop(transaction.key, None)
        self._unmerge(transaction.merge_key, transaction.key)

    def _unmerge(self, merge_key: Key, key: Key) -> None:
        if self._merged.get(merge_key) == key:
            del self._merged[merge_key]

    def settle(self, transaction: ServerTransaction) -> None:
        """It is over, but copies may be under way (timer I)."""
        self._settled[transaction.key] = self._timers.time() + T4_S, transaction.merge_key
        self._merged.setdefault(transaction.merge_key, transaction.key)
        if self._sweep is None:
            self._sweep = self._timers.call_later(T4_S, self._sweep_settled)

    def _sweep_settled(self) -> None:
        """Forget those whose time is over. All wait equally long, so they are due in the order they came."""
        now_s, self._sweep = self._timers.time(), None
        due = list(takewhile(lambda item: item[1][0] <= now_s, self._settled.items()))
        for key, (_, merge_key) in due:
            del self._settled[key]
            self._unmerge(merge_key, key)
        oldest = next(iter(self._settled.values()), None)
        if oldest is not None:
            self._sweep = self._timers.call_later(max(oldest[0] - now_s, SWEEP_S), self._sweep_settled)

    def send(self, request: Request, flow: Flow, answered: Callable[[Response | None], None]) -> ClientTransaction:
        """Send a request other than INVITE; ``answered`` gets its final response, or None.

        Raises:
            CapacityError: too many are open.
        """
        if len(self._clients) >= self._max_open:
            raise CapacityError(f"{self._max_open} SIP requests wait for their answers")
        via = Via.parse(request.headers.items("Via")[0])
        key = f"{via.branch or ''}\n{request.method}"
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
        client = self._clients.get(f"{Via.parse(vias[0]).branch or ''}\n{cseq.method}")
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
        if self._sweep is not None:
            self._sweep.cancel()
            self._sweep = None
        self._settled.clear()
        self._merged.clear()
