"""A virtual clock, flows that keep what is sent, and messages made of a few lines."""

import heapq
import itertools
from types import SimpleNamespace

from inference.gateway.sip.message import parse_message

PEER, US = ("192.0.2.10", 5060), ("192.0.2.1", 5060)


class Clock:
    """Time that passes when a test says so; see :class:`inference.gateway.sip.flow.Timers`."""

    def __init__(self):
        self.now_s = 1000.0
        self._due = []
        self._order = itertools.count()

    def time(self):
        return self.now_s

    def call_later(self, delay, callback, *args):
        timer = SimpleNamespace(is_cancelled=False)
        timer.cancel = lambda: setattr(timer, "is_cancelled", True)
        heapq.heappush(self._due, (self.now_s + delay, next(self._order), timer, callback, args))
        return timer

    def advance(self, seconds):
        until_s = self.now_s + seconds
        while self._due and self._due[0][0] <= until_s:
            self.now_s, _, timer, callback, args = heapq.heappop(self._due)
            if not timer.is_cancelled:
                callback(*args)
        self.now_s = until_s
        self._due = [due for due in self._due if not due[2].is_cancelled]
        heapq.heapify(self._due)

    @property
    def num_due(self):
        return sum(not timer.is_cancelled for _, _, timer, _, _ in self._due)


class Wire:
    """A flow that keeps what is sent."""

    def __init__(self, transport="UDP", peer=PEER, local=US, is_verified=False):
        self.transport, self.peer, self.local, self.is_verified = transport, peer, local, is_verified
        self.is_open = True
        self.sent = []
        self.ports = []

    def send(self, data):
        self.sent.append(data)
        self.ports.append(self.peer[1])

    def to_port(self, port):
        if self.transport != "UDP":
            return self
        other = Wire(self.transport, (self.peer[0], port), self.local)
        other.sent, other.ports = self.sent, self.ports
        return other

    def take(self):
        """Messages sent since the last time, parsed."""
        out = [parse_message(data) for data in self.sent]
        self.sent.clear()
        return out


def request(
    method="INVITE", *, cseq=1, call="c1@sbc", branch="z9hG4bKa1", to_tag=None, body=b"", uri=None, more=(), **f
):
    """Bytes of a request; keywords replace whole headers (``None``: left out), ``more`` adds lines."""
    fields = {
        "Via": f"SIP/2.0/UDP 192.0.2.10:5060;branch={branch}",
        "From": "<sip:src@sbc.example>;tag=far",
        "To": "<sip:srs@192.0.2.1>" + (f";tag={to_tag}" if to_tag else ""),
        "Call-ID": call,
        "CSeq": f"{cseq} {method}",
        "Max-Forwards": "70",
        "Contact": "<sip:src@192.0.2.10:5060>",
    } | {name.replace("_", "-"): value for name, value in f.items()}
    lines = [f"{method} {uri or 'sip:srs@192.0.2.1'} SIP/2.0"]
    lines += [f"{name}: {value}" for name, value in fields.items() if value is not None]
    lines += [*more, f"Content-Length: {len(body)}", "", ""]
    return "\r\n".join(lines).encode("utf-8", "surrogateescape") + body
