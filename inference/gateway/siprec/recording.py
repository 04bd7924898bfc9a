"""One recording session: a recorded call begins, changes and ends with its requests."""

import hashlib
import hmac
import re
import secrets
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import structlog
from pydantic import ValidationError

from inference.alerts.ear import Reach
from inference.errors import CapacityError, CodecError, ConfigError
from inference.gateway.sip.application import Answer, End, busy
from inference.gateway.sip.incoming import Incoming
from inference.gateway.sip.message import RefusedError, Request
from inference.gateway.sip.sdp import Description
from inference.gateway.siprec.body import RecordingBody, read_body
from inference.gateway.siprec.ear import listed_packages
from inference.gateway.siprec.metadata import Metadata, Participant
from inference.gateway.siprec.offer import Answerer, Chosen, Line, leg_spec, read_lines
from inference.gateway.siprec.roles import address_of, near_of
from inference.gateway.spec import CallSpec, LegSpec

if TYPE_CHECKING:
    from inference.gateway.siprec.gateway import SiprecGateway

log = structlog.get_logger(__name__)

MAX_PARTS = 8
"""Recordings of one call at once, and parts of one that fell silent on hold."""

CALL_ID_HEADERS = ("X-audc-call-id", "Cisco-Guid")
"""Where vendors put the recorded call's own id; Session-ID is the recording's."""

_PLAIN = re.compile(r"[^A-Za-z0-9._:@+~-]")


def recorded_call(request: Request, metadata: Metadata) -> str:
    """The operator's id of the call that is recorded, as signalling has it.

    Looked for in turn: the metadata's ``sipSessionID`` (its part before ``;remote=``), a vendor's element, a vendor's
    header, the client's own session id; last the Call-ID of the recording itself, that names no other call.
    """
    from_headers = (request.headers.get(name) or "" for name in CALL_ID_HEADERS)
    found = (*metadata.sip_session_ids[:1], *metadata.vendor_ids[:1], *from_headers, *metadata.session_ids[:1])
    for text in found:
        first = text.partition(";")[0].strip()
        if first.strip("0"):  # RFC 7989: a session id of zeros is none
            return first
    return request.headers.get("Call-ID") or ""


def call_id_of(recorded: str, key: bytes | None, *, is_plain: bool) -> str:
    """The id we follow a call under: a digest, since Call-IDs may hold numbers and names, or as it is."""
    digest = hmac.new(key or b"scamtap siprec call", recorded.encode("utf-8", "surrogateescape"), hashlib.sha256)
    if not is_plain:
        return f"siprec-{digest.hexdigest()[:32]}"
    plain = _PLAIN.sub("_", recorded)
    if len(plain) > 96:  # two long ids may begin alike
        plain = f"{plain[:64]}.{digest.hexdigest()[:24]}"
    return plain if plain[:1].isalnum() else f"c{plain}"


@dataclass(frozen=True, slots=True)
class Party:
    """A participant and the stream that carries its voice alone; ``key`` tells it from others for the whole session."""

    key: str
    participant: Participant
    line: Line


@dataclass(slots=True, eq=False)
class Recording:
    """State of one session; implements :class:`inference.gateway.sip.application.Session`.

    Attributes:
        gateway: what all sessions share.
        recorded: the operator's id of the call.
        call_id: what it is followed under.
        spec: as it is followed now; None while it is not: nothing of the other party flows.
        is_held: nothing flows of any party.
        unheard_since_s: since when no call has been followed, on the agent's clock; None while one is.
        near_label: of the subscriber's stream in the SDP; None where it is not known which that is.
        info_packages: that the peer takes, in lower case.
    """

    gateway: "SiprecGateway"
    recorded: str
    call_id: str
    spec: CallSpec | None = None
    is_held: bool = False
    unheard_since_s: float | None = None
    near_label: str | None = None
    info_packages: frozenset[str] = frozenset()
    _metadata: Metadata = field(default_factory=Metadata)
    _offer: Description | None = None
    _answerer: Answerer | None = None
    _shared_port: int | None = None
    _leases: dict[int, int] = field(default_factory=dict)
    _sources: dict[int, tuple[str, int]] = field(default_factory=dict)
    _near_key: str | None = None
    _num_parts: int = 0

    @classmethod
    def of(cls, gateway: "SiprecGateway", request: Request, body: RecordingBody) -> "Recording":
        """A session that an INVITE asks for; nothing has begun yet."""
        recorded = recorded_call(request, body.metadata or Metadata())
        key = gateway.config.id_key
        secret = None if key is None else key.get_secret_value().encode()
        call_id = call_id_of(recorded, secret, is_plain=gateway.config.call_ids == "plain")
        answerer = Answerer(gateway.ports.address, secrets.token_bytes(32))
        packages = listed_packages(request) or frozenset()
        return cls(gateway, recorded, call_id, info_packages=packages, _answerer=answerer)

    def changed(self, incoming: Incoming) -> Answer:
        """A re-INVITE or UPDATE.

        Raises:
            RefusedError: the call goes on as it was.
        """
        answer = self.apply(read_body(incoming.request), is_invite=incoming.cseq.method == "INVITE")
        listed = listed_packages(incoming.request)
        self.info_packages = self.info_packages if listed is None else listed
        return answer

    def apply(self, body: RecordingBody, *, is_invite: bool = True) -> Answer:
        """Take what a request says; the call begins or changes with it.

        Raises:
            RefusedError: 488, 503 …; nothing changed.
        """
        metadata = self._metadata if body.metadata is None else self._metadata.merged(body.metadata)
        offer = body.offer or self._offer
        if offer is None or self._answerer is None:
            raise RefusedError(488, "an INVITE without an SDP offer records nothing")
        lines = read_lines(offer)
        leased, sources = set(self._leases), dict(self._sources)
        try:
            taken = self._follow(lines, metadata)
        except RefusedError:
            self._give_back(set(self._leases) - leased)
            self._sources = sources
            raise
        self._metadata, self._offer = metadata, offer
        self.is_held = bool(taken) and all(line.is_held for line, _, _ in taken.values())
        self._give_back(set(self._leases) - set(taken))
        if body.offer is not None:
            return Answer(self._answerer.answer(offer, taken))
        return Answer(self._answerer.last if is_invite else b"")

    def _follow(self, lines: list[Line], metadata: Metadata) -> dict[int, tuple[Line, Chosen, int]]:
        """Begin or change the call, with the best codecs that can be decoded here."""
        refused: set[str] = set()
        parties = self._parties(lines, metadata)
        while True:
            taken = {}
            for line in lines:
                chosen = line.choose(refused)
                if chosen is not None:
                    taken[line.index] = (line, chosen, self._port(line))
            if not taken:
                raise RefusedError(488, "no audio stream has a codec and key that are taken here, e.g. PCMU or PCMA")
            heard = [party for party in parties if party.line.index in taken]
            try:
                self._tell(self._spec(heard, taken))
            except CodecError:
                refused |= {chosen.name for _, chosen, _ in taken.values()}
                continue
            except ValidationError as error:  # two streams from one address, say
                raise RefusedError(488, "the streams cannot be told from each other") from error
            near = self._near(heard) if heard else None
            self._near_key = self._near_key if near is None else near.key
            self.near_label = None if near is None else near.line.label
            return taken

    def _parties(self, lines: list[Line], metadata: Metadata) -> list[Party]:
        """Participants with a stream of their own, in the metadata's order; without metadata, lines in theirs."""
        if not metadata.participants:
            return [Party(f"line {line.index}", Participant(), line) for line in lines]
        parties: dict[str, Party] = {}
        for line in lines:
            senders = metadata.senders(line.label or "")
            if len(senders) > 1:
                raise RefusedError(488, "a stream mixes the parties: one stream for each is needed to tell them apart")
            for sender in senders:
                known = parties.get(sender)
                if known is None or known.line.is_held:
                    parties[sender] = Party(sender, metadata.participants[sender], line)
        found = [parties[key] for key in metadata.participants if key in parties]
        if not found:
            raise RefusedError(488, "the metadata say of no stream whose voice it carries")
        return found

    def _spec(self, parties: list[Party], taken: dict[int, tuple[Line, Chosen, int]]) -> CallSpec | None:
        """Which stream is which leg; None where nothing of the other party can be heard."""
        if not parties:
            return None
        near = self._near(parties)
        others = [party for party in parties if party is not near]
        others.sort(key=lambda party: party.line.is_held)  # somebody put on hold is not whom the subscriber talks to
        legs = [(party, self._leg(taken[party.line.index])) for party in (*others, *([near] if near else []))]
        far_leg = next(((party, leg) for party, leg in legs if leg is not None and party is not near), None)
        if far_leg is None:
            return None
        near_leg = next((leg for party, leg in legs if party is near), None)
        return CallSpec(
            id=self._id,
            far=far_leg[1],
            near=near_leg,
            reach=self._reach(None if near is None else near.participant, far_leg[0].participant),
        )

    def _near(self, parties: list[Party]) -> Party | None:
        """The subscriber; who was it once remains it, whoever else comes and goes (a transfer)."""
        gateway = self.gateway
        ours = [party for party in parties if gateway.numbering.is_ours(party.participant)]
        known = [party for party in parties if party.key == self._near_key]
        if len(ours) != 1 and known:
            return known[0]
        at = near_of([party.participant for party in parties], gateway.numbering, gateway.config.near_side)
        return None if at is None else parties[at]

    def _leg(self, taken: tuple[Line, Chosen, int]) -> LegSpec | None:
        line, chosen, port = taken
        if self.gateway.config.latch:
            return leg_spec(line, chosen, port, None)
        if line.source is not None and not (line.is_held and line.index in self._sources):
            self._sources[line.index] = line.source
        source = self._sources.get(line.index)
        return None if source is None else leg_spec(line, chosen, port, source)

    def _reach(self, near: Participant | None, far: Participant) -> Reach:
        def first(participant: Participant | None) -> str:
            return participant.aors[0][:256] if participant is not None and participant.aors else ""

        config = self.gateway.config
        fields = {
            "call": self.reach_call,
            "ear": first(near),
            "subscriber": address_of(first(near))[0],
            "caller": address_of(first(far))[0],
        }
        via = config.ear or (self.gateway.name if config.info is None else config.info.name)
        return Reach.model_validate({"via": via, **{name: text for name, text in fields.items() if text}})

    @property
    def reach_call(self) -> str:
        """The operator's id of the call, as :attr:`Reach.call` can hold it."""
        return self.recorded[:512].encode(errors="replace").decode()

    @property
    def _id(self) -> str:
        return self._id_of(self._num_parts)

    def _id_of(self, part: int) -> str:
        return self.call_id if part <= 1 else f"{self.call_id}~{part}"

    def _tell(self, spec: CallSpec | None) -> None:
        """Let the call be followed as the spec says.

        Raises:
            CodecError: another codec is to be tried.
            RefusedError: there is no room, or its packets cannot be told from another call's.
        """
        control = self.gateway.control
        if self.spec is not None and self.spec.id not in control.call_ids:
            self.call_is_over()
        if spec is None or spec == self.spec:
            return
        try:
            if self.spec is not None:
                control.change(spec)
            else:
                part = self._free_part()
                spec = spec.model_copy(update={"id": self._id_of(part)})  # a part of its own, alerts of its own
                control.begin(spec)
                self._num_parts = part
        except CodecError:
            raise
        except CapacityError as error:
            raise busy("no room for another call") from error
        except ConfigError as error:
            raise RefusedError(488, "the streams cannot be told from another call's") from error
        self.spec = spec

    def _free_part(self) -> int:
        """Two recordings of one call are two calls to us: which of them will go on, nobody says."""
        in_use = set(self.gateway.control.call_ids)
        for part in range(self._num_parts + 1, self._num_parts + 1 + MAX_PARTS):
            if self._id_of(part) not in in_use:
                return part
        raise busy("too many recordings of this call are going on")

    def _port(self, line: Line) -> int:
        ports = self.gateway.ports
        try:
            if self.gateway.config.latch:
                if line.index not in self._leases:
                    self._leases[line.index] = ports.lease()
                return self._leases[line.index]
            if self._shared_port is None:
                self._shared_port = ports.shared()
        except (CapacityError, ConfigError) as error:
            raise busy("no media port is free") from error
        return self._shared_port

    def _give_back(self, indices: set[int]) -> None:
        for index in indices:
            self.gateway.ports.give_back(self._leases.pop(index))

    def call_is_over(self) -> None:
        """The service ended the call by itself, e.g. for lack of packets."""
        self.spec = None

    def ended(self, why: End) -> None:
        """The session is over, and the call with it."""
        log.info("recording ends", call=self._id, why=why)
        leases, self._leases = list(self._leases.values()), {}
        self.gateway.release(self, leases)
