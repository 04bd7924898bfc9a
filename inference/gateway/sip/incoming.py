"""A request as a server takes it: what every request must have, read and checked; answers and where they go."""

from dataclasses import dataclass

from inference.errors import SignallingError
from inference.gateway.sip.flow import Flow
from inference.gateway.sip.message import Headers, RefusedError, Request, Response
from inference.gateway.sip.syntax import Address, CSeq, Via

Key = str
"""What tells transactions apart: parts joined by a line end, which no part can hold.

One string and not a tuple of them: tables of many thousand keys are nothing that the garbage collector has to look at.
"""


@dataclass(frozen=True, slots=True)
class Incoming:
    """A request and what every request must have, read.

    Attributes:
        request: as it came.
        flow: where it came from and answers go.
        via: its newest hop.
        sender, recipient: From and To.
        call_id: compared byte by byte.
        cseq: number and method.
    """

    request: Request
    flow: Flow
    via: Via
    sender: Address
    recipient: Address
    call_id: str
    cseq: CSeq

    @classmethod
    def read(cls, request: Request, flow: Flow) -> "Incoming":
        """Check what section 8.1.1 makes mandatory.

        Raises:
            RefusedError: 400, something is missing, malformed or there twice.
        """
        try:
            return cls._read(request, flow)
        except SignallingError as error:
            raise RefusedError(400, str(error), request=request) from error

    @classmethod
    def _read(cls, request: Request, flow: Flow) -> "Incoming":
        for name in ("From", "To", "Call-ID", "CSeq", "Max-Forwards"):
            if len(request.headers.all(name)) > 1:
                raise SignallingError(f"{name} is there twice")
        vias = request.headers.items("Via")
        if not vias:
            raise SignallingError("Via is missing")
        via = Via.parse(vias[0])
        call_id = _one(request, "Call-ID").strip()
        if not call_id or any(char.isspace() for char in call_id):
            raise SignallingError("Call-ID is malformed")
        sender = Address.parse(_one(request, "From"), "From")
        recipient = Address.parse(_one(request, "To"), "To")
        cseq = CSeq.parse(_one(request, "CSeq"))
        if cseq.method != request.method:
            raise SignallingError("CSeq has another method than the request")
        hops = request.headers.get("Max-Forwards")
        if hops is not None and not (hops.isascii() and hops.isdigit() and int(hops[:4]) <= 255 and len(hops) < 5):
            raise SignallingError("Max-Forwards is not 0-255")
        return cls(request, flow, via, sender, recipient, call_id, cseq)

    @property
    def key(self) -> Key:
        """What tells its transaction from others (section 17.2.3); an ACK has its INVITE's."""
        return self.invite_key if self.cseq.method == "ACK" else self._key_of(self.cseq.method)

    @property
    def invite_key(self) -> Key:
        """The key of the INVITE that an ACK or a CANCEL belongs to."""
        return self._key_of("INVITE")

    def _key_of(self, method: str) -> Key:
        sent_by = f"{self.via.host.lower()}:{self.via.port}"
        if self.via.branch is not None:
            return f"{self.via.branch}\n{sent_by}\n{method}"
        # RFC 2543: the To tag is left out, since an ACK brings one that the INVITE had not.
        parts = (self.sender.tag or "", self.call_id, str(self.cseq.number), sent_by, self.request.uri, method)
        return "\n".join(parts)

    @property
    def merge_key(self) -> Key:
        """The same for copies of one request that took different ways (section 8.2.2.2)."""
        return f"{self.sender.tag or ''}\n{self.call_id}\n{self.cseq}"

    def answer(
        self, status: int, fields: list[tuple[str, str]] | None = None, body: bytes = b"", tag: str | None = None
    ) -> Response:
        """A response with what must be copied from the request; ``tag`` is ours where To has none."""
        return answer(self.request, self.flow, status, fields, body, tag)


def _one(request: Request, name: str) -> str:
    value = request.headers.get(name)
    if value is None:
        raise SignallingError(f"{name} is missing")
    return value


def answer(
    request: Request,
    flow: Flow,
    status: int,
    fields: list[tuple[str, str]] | None = None,
    body: bytes = b"",
    tag: str | None = None,
) -> Response:
    """A response to a request that may lack what it must have (sections 8.2.6 and 18.2.1, RFC 3581)."""
    headers: list[tuple[str, str]] = []
    for name in ("Via", "From", "To", "Call-ID", "CSeq"):
        headers += [(name, line) for line in request.headers.all(name)[: 64 if name == "Via" else 1]]
    if status < 300:
        headers += [("Record-Route", line) for line in request.headers.all("Record-Route")]
    for at, (name, value) in enumerate(headers):
        if name == "To" and tag is not None and not _has_tag(value):
            headers[at] = (name, f"{value};tag={tag}")
    if headers and headers[0][0] == "Via":
        headers[0] = ("Via", _received(headers[0][1], flow))
    return Response(status, Headers(headers + (fields or [])), body)


def _has_tag(value: str) -> bool:
    try:
        return Address.parse(value, "To").tag is not None
    except SignallingError:
        return True  # malformed: nothing is added to it


def _received(value: str, flow: Flow) -> str:
    """The topmost Via with where the request really came from."""
    top, comma, rest = value.partition(",")
    try:
        via = Via.parse(top)
    except SignallingError:
        return value
    parameters = dict(via.parameters)
    if "rport" in parameters:
        parameters |= {"rport": str(flow.peer[1]), "received": flow.peer[0]}
    elif via.host.strip("[]") != flow.peer[0]:
        parameters["received"] = flow.peer[0]
    if parameters == via.parameters:
        return value
    return f"{Via(via.transport, via.host, via.port, parameters)}{comma}{rest}"


def reply_flow(via: Via | None, flow: Flow) -> Flow:
    """Where answers go: the host that asked, never another one (section 18.2.2 less ``maddr``, RFC 3581)."""
    if via is None or flow.transport != "UDP" or "rport" in via.parameters:
        return flow
    return flow.to_port(via.port or 5060)
