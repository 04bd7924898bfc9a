"""Recording metadata (RFC 7865): who sends which stream. Also as drafts of it had it, which SBCs still send.

    RFC       <participant participant_id>, <stream stream_id>, <participantstreamassoc participant_id><send>
    drafts    <participant id><send>, <stream id>, the namespace without its version

Elements are told by their local names, in any case: namespaces differ between vendors and versions.
"""

from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

from defusedxml.common import DefusedXmlException
from defusedxml.ElementTree import ParseError, fromstring

from inference.errors import SignallingError
from inference.gateway.sip.message import RefusedError

if TYPE_CHECKING:
    from xml.etree.ElementTree import Element

MAX_BYTES = 49_152
MAX_PARTICIPANTS = 64
MAX_STREAMS = 64
MAX_TEXT = 512
"""Characters of an id, a label or an address."""


@dataclass(frozen=True, slots=True)
class Participant:
    """Somebody on the call.

    Attributes:
        aors: addresses, e.g. ``sip:+15551230001@example.net``. Personal data.
        sends: ids of the streams that carry its voice.
        is_caller: whether an SBC says that it began the call; None where it does not say.
    """

    aors: tuple[str, ...] = ()
    sends: tuple[str, ...] = ()
    is_caller: bool | None = None


@dataclass(frozen=True, slots=True)
class Metadata:
    """A snapshot, or a change of one.

    Attributes:
        is_partial: only what changed is in it.
        sip_session_ids: of the recorded sessions, in order; OpenSIPS puts their Call-ID here.
        vendor_ids: other names of the recorded call, e.g. an UCID.
        session_ids: the client's own ids of the recorded sessions.
        participants: by id, in order.
        labels: ``a=label`` of each stream by its id.
        gone: participants that left.
        sent: participants whose streams this says; the others' stay in a change.
    """

    is_partial: bool = False
    sip_session_ids: tuple[str, ...] = ()
    vendor_ids: tuple[str, ...] = ()
    session_ids: tuple[str, ...] = ()
    participants: dict[str, Participant] = field(default_factory=dict)
    labels: dict[str, str] = field(default_factory=dict)
    gone: frozenset[str] = frozenset()
    sent: frozenset[str] = frozenset()

    @classmethod
    def parse(cls, data: bytes) -> "Metadata":
        """Read a document.

        Raises:
            RefusedError: 413, it is beyond the bounds.
            SignallingError: it is no recording metadata, or has a DTD or entities.
        """
        if len(data) > MAX_BYTES:
            raise RefusedError(413, f"metadata is longer than {MAX_BYTES} bytes")
        try:
            root = fromstring(data, forbid_dtd=True)
        except (ParseError, DefusedXmlException, ValueError, LookupError) as error:
            raise SignallingError("metadata is not XML, or has a DTD") from error
        if _local(root) != "recording":
            raise SignallingError("metadata is not a recording element")
        return _read(root)

    def merged(self, newer: "Metadata") -> "Metadata":
        """This, after ``newer`` was heard.

        Raises:
            RefusedError: 413, too many participants or streams gathered.
        """
        if not newer.is_partial:
            return newer
        participants = {key: value for key, value in self.participants.items() if key not in newer.gone}
        for key, value in newer.participants.items():
            known = participants.get(key, Participant())
            participants[key] = Participant(
                value.aors or known.aors,
                value.sends if key in newer.sent else known.sends,
                known.is_caller if value.is_caller is None else value.is_caller,
            )
        out = replace(
            self,
            sip_session_ids=self.sip_session_ids or newer.sip_session_ids,
            vendor_ids=self.vendor_ids or newer.vendor_ids,
            session_ids=self.session_ids or newer.session_ids,
            participants=participants,
            labels=self.labels | newer.labels,
        )
        if len(out.participants) > MAX_PARTICIPANTS or len(out.labels) > MAX_STREAMS:
            raise RefusedError(413, "metadata has too many participants or streams")
        return out

    def senders(self, label: str) -> list[str]:
        """Ids of the participants whose voice a stream carries, in the document's order."""
        streams = {stream for stream, known in self.labels.items() if known == label}
        return [key for key, participant in self.participants.items() if streams & set(participant.sends)]


def _local(element: "Element") -> str:
    return str(element.tag).rpartition("}")[2].lower()


def _text(element: "Element") -> str:
    return (element.text or "").strip()[:MAX_TEXT]


def _attribute(element: "Element", *names: str) -> str:
    """The first of the attributes there is."""
    values = {name.rpartition("}")[2].lower(): value.strip()[:MAX_TEXT] for name, value in element.attrib.items()}
    return next((values[name] for name in names if values.get(name)), "")


def _children(element: "Element", name: str) -> Iterable["Element"]:
    return (child for child in element if _local(child) == name)


def _has(element: "Element", name: str) -> bool:
    # Not any(): an element without children is false.
    return next(iter(_children(element, name)), None) is not None


def _read(root: "Element") -> Metadata:
    people: dict[str, Participant] = {}
    sends: dict[str, list[str]] = {}
    labels: dict[str, str] = {}
    ids: dict[str, list[str]] = {"sip": [], "vendor": [], "session": []}
    gone = set()
    is_partial = False
    for element in root:
        name = _local(element)
        if name in ("datamode", "data-mode"):
            is_partial = _text(element).lower() == "partial"
        elif name == "session":
            ids["session"].append(_attribute(element, "session_id", "id"))
            ids["sip"] += [_text(child) for child in _children(element, "sipsessionid")]
            ids["vendor"] += [_text(child) for child in element.iter() if _local(child) in ("ucid", "avayaucid")]
        elif name == "participant":
            key = _attribute(element, "participant_id", "id")
            people[key] = _participant(element)
            if _has(element, "send"):
                sends.setdefault(key, []).extend(_text(child) for child in _children(element, "send"))
            if _has(element, "disassociate-time"):
                gone.add(key)
        elif name == "stream":
            label = next((_text(child) for child in _children(element, "label")), "") or _attribute(element, "label")
            labels[_attribute(element, "stream_id", "id")] = label
        elif name == "participantsessionassoc" and _has(element, "disassociate-time"):
            gone.add(_attribute(element, "participant_id"))
        elif name == "participantstreamassoc":
            of_one = sends.setdefault(_attribute(element, "participant_id"), [])
            if not _has(element, "disassociate-time"):
                of_one += [_text(child) for child in _children(element, "send")]
        if max(len(people), len(sends)) > MAX_PARTICIPANTS or len(labels) > MAX_STREAMS:
            raise RefusedError(413, "metadata has too many participants or streams")
    everybody = {key: people.get(key, Participant()) for key in (*people, *sends)}  # in the order of their elements
    return Metadata(
        is_partial=is_partial,
        sip_session_ids=tuple(filter(None, ids["sip"]))[:MAX_STREAMS],
        vendor_ids=tuple(filter(None, ids["vendor"]))[:MAX_STREAMS],
        session_ids=tuple(filter(None, ids["session"]))[:MAX_STREAMS],
        participants={
            key: replace(person, sends=tuple(sends.get(key, ()))[:MAX_STREAMS])
            for key, person in everybody.items()
            if key not in gone
        },
        labels=labels,
        gone=frozenset(gone),
        sent=frozenset(sends),
    )


def _participant(element: "Element") -> Participant:
    names = [child for child in element.iter() if _local(child) == "nameid"]
    aors = [_attribute(name, "aor") for name in names]
    aors += [_text(child) for child in _children(element, "aor")]
    said = [_text(child).lower() for child in element.iter() if _local(child) == "callerorig"]
    return Participant(tuple(filter(None, aors))[:8], (), said[0] == "true" if said else None)
