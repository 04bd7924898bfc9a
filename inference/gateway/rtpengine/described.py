"""What rtpengine says of a call, read into types: who is in it, who is who, what we once noted there.

Our note is the label of our own subscription: rtpengine keeps it as long as the call, so that a ScamTap that comes
back after a crash finds its calls, their roles and names where the calls are, and needs no file of its own.
"""

import json
from dataclasses import dataclass
from typing import Any, Self, get_args

from inference.errors import SignallingError
from inference.gateway.spec import Language

MAX_PARTIES = 64
MAX_TAG_CHARS = 256
NOTE_VERSION = 1


@dataclass(frozen=True, slots=True)
class Party:
    """One participant of a call.

    Attributes:
        tag: its SIP tag.
        label: as the proxy gave it, or our note; None without one.
        created: when, seconds since the epoch.
        is_phone: it takes part by offer and answer; a mere listener does not.
        hears: tags of those whom it hears as a phone.
        is_listening: it has subscribed to others, like a recorder or we.
        codec: encoding name of its first media, as far as the node tells.
    """

    tag: str
    label: str | None
    created: int
    is_phone: bool
    hears: tuple[str, ...]
    is_listening: bool
    codec: str | None


@dataclass(frozen=True, slots=True)
class Roles:
    """Who is who, by tag."""

    far: str
    near: str


@dataclass(frozen=True, slots=True)
class Note:
    """What we write on our subscription.

    Attributes:
        id: what ScamTap calls the call.
        roles: who is who.
        language: as the proxy said, or None.
    """

    id: str
    roles: Roles
    language: Language | None

    def __str__(self) -> str:
        return json.dumps([NOTE_VERSION, self.id, self.language, self.roles.far, self.roles.near], ensure_ascii=True)

    @classmethod
    def parse(cls, label: str | None) -> Self | None:
        """Read a label; None where it is not a note of ours."""
        if label is None or len(label) > 2048 or not label.startswith("["):
            return None
        try:
            version, name, language, far, near = json.loads(label)
        except (ValueError, TypeError, RecursionError):
            return None
        is_text = all(isinstance(part, str) and 0 < len(part) <= MAX_TAG_CHARS for part in (name, far, near))
        if version != NOTE_VERSION or not is_text or not (language is None or language in get_args(Language)):
            return None
        return cls(name, Roles(far, near), language)


@dataclass(frozen=True, slots=True)
class CallState:
    """A call on a node.

    Attributes:
        parties: by tag.
    """

    parties: dict[str, Party]

    @classmethod
    def parse(cls, reply: dict[str, Any]) -> Self:
        """Read the reply to ``query``.

        Raises:
            SignallingError: it lacks what it must have.
        """
        tags = reply.get("tags")
        if not isinstance(tags, dict):
            raise SignallingError("query reply has no tags")
        if len(tags) > MAX_PARTIES:
            raise SignallingError("query reply has too many tags")
        # A phone that rings and has not answered has no tag yet; rtpengine lists it under a name of its own.
        parties = {tag: _party(tag, of) for tag, of in tags.items() if isinstance(of, dict) and of.get("tag") == tag}
        return cls({tag: party for tag, party in parties.items() if is_clean(tag)})

    @property
    def phones(self) -> list[Party]:
        """Those who talk, oldest first."""
        return sorted((party for party in self.parties.values() if party.is_phone), key=lambda party: party.created)

    def ours(self, prefix: str) -> tuple[str, Note] | None:
        """Tag and note of our own subscription, also of an earlier life of ours.

        A caller may choose a tag like ours, yet neither its label nor to be no party.
        """
        for tag, party in self.parties.items():
            note = None if party.is_phone or not tag.startswith(f"{prefix}-") else Note.parse(party.label)
            if note is not None:
                return tag, note
        return None

    def roles(self, far_label: str, near_label: str) -> Roles | None:
        """Who is who by their labels; one labelled party of two suffices. None: no labels, or not yet.

        Of several with one label, e.g. phones that rang together, the one counts whom the other party hears.
        """
        phones = self.phones
        far = [party for party in phones if party.label == far_label]
        near = [party for party in phones if party.label == near_label]
        others = [party for party in phones if party.label not in (far_label, near_label)]
        if len(phones) == 2 and len(others) == 1:
            far, near = far or (others if near else []), near or (others if far else [])
        pairs = [Roles(f.tag, n.tag) for f in far for n in near]
        return next((pair for pair in pairs if self.are_talking(pair)), None)

    def are_talking(self, roles: Roles) -> bool:
        """Whether the two are connected to each other."""
        far, near = self.parties.get(roles.far), self.parties.get(roles.near)
        return far is not None and near is not None and roles.near in far.hears and roles.far in near.hears

    def is_heard_by(self, tag: str) -> bool:
        """Whether our subscription is still there."""
        return tag in self.parties and self.parties[tag].is_listening

    def codecs(self, roles: Roles) -> tuple[str | None, str | None]:
        """What far and near speak now."""
        far, near = self.parties.get(roles.far), self.parties.get(roles.near)
        return None if far is None else far.codec, None if near is None else near.codec


def _party(tag: str, of: dict[str, Any]) -> Party:
    label, created = of.get("label"), of.get("created")
    relations = {
        which: [(to.get("type"), to.get("tag")) for to in _list(of.get(which)) if isinstance(to, dict)]
        for which in ("subscriptions", "subscribers")
    }
    is_phone = any(kind == "offer/answer" for to in relations.values() for kind, _ in to)
    heard = [of_whom for kind, of_whom in relations["subscriptions"] if kind == "offer/answer"]
    medias = [media.get("codec") for media in _list(of.get("medias")) if isinstance(media, dict)]
    codec = medias[0] if medias and isinstance(medias[0], str) else None
    return Party(
        tag=tag,
        label=label if isinstance(label, str) else None,
        created=created if isinstance(created, int) else 0,
        is_phone=is_phone,
        hears=tuple(of_whom for of_whom in heard if isinstance(of_whom, str)),
        is_listening=any(kind == "pub/sub" for kind, _ in relations["subscriptions"]),
        codec=codec.partition("/")[0] if codec else None,
    )


def _list(value: Any) -> list[Any]:
    return value if isinstance(value, list) else []


def is_clean(text: object) -> bool:
    """Whether a tag or call-id is text that goes back as it came, and is not absurdly long."""
    if not isinstance(text, str) or not 0 < len(text) <= MAX_TAG_CHARS:
        return False
    return not any(0xD800 <= ord(char) < 0xE000 for char in text)


def media_owners(reply: dict[str, Any]) -> dict[str, str]:
    """SDP label -> tag of whose media it is, from the reply to ``subscribe request``."""
    labels = reply.get("media-labels")
    if not isinstance(labels, dict):
        return {}
    pairs = {label: of.get("tag") for label, of in labels.items() if isinstance(of, dict)}
    return {label: tag for label, tag in pairs.items() if isinstance(tag, str)}


def listed_calls(reply: dict[str, Any]) -> list[str]:
    """Call-ids from the reply to ``list``."""
    return [call_id for call_id in _list(reply.get("calls")) if is_clean(call_id)]


def sdp_of(reply: dict[str, Any]) -> str:
    """The SDP of a reply.

    Raises:
        SignallingError: there is none.
    """
    sdp = reply.get("sdp")
    if not isinstance(sdp, str):
        raise SignallingError("subscribe reply has no sdp")
    return sdp
