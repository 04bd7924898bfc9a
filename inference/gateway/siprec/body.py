"""What an INVITE or UPDATE of a recording client carries: SDP, metadata, or both in a multipart body (RFC 7866)."""

from dataclasses import dataclass
from email.errors import MessageError
from email.parser import BytesParser
from email.policy import compat32

from inference.errors import SignallingError
from inference.gateway.sip.message import RefusedError, Request
from inference.gateway.sip.sdp import Description
from inference.gateway.siprec.metadata import Metadata

MAX_PARTS = 16
MAX_TYPE = 512
"""Characters of a Content-Type: the standard library takes its time over endless ones."""

MAX_MULTIPARTS = 4
"""Multiparts within multiparts: each is a level of recursion."""

SDP_TYPE = "application/sdp"
METADATA_TYPES = ("application/rs-metadata+xml", "application/rs-metadata")
"""RFC 7866, and its drafts."""

ACCEPT = (SDP_TYPE, METADATA_TYPES[0], "multipart/mixed")


@dataclass(frozen=True, slots=True)
class RecordingBody:
    """What a request says; either may be missing."""

    offer: Description | None = None
    metadata: Metadata | None = None


def read_body(request: Request) -> RecordingBody:
    """Read the body of a request.

    Raises:
        RefusedError: 415, a type we do not take; 400, a part that is malformed; 413, too many parts.
    """
    if not request.body.strip():
        return RecordingBody()
    encoding = (request.headers.get("Content-Encoding") or "identity").strip().lower()
    if encoding != "identity":
        raise RefusedError(415, "body is encoded", [("Accept-Encoding", "identity")])
    parts = _parts(request)
    found: dict[str, bytes] = {}
    for kind, data, is_required in parts:
        name = "metadata" if kind in METADATA_TYPES else "sdp" if kind == SDP_TYPE else None
        if name is not None:
            found.setdefault(name, data)
        elif is_required or len(parts) == 1:
            raise RefusedError(415, "body is of no type taken here", [("Accept", ", ".join(ACCEPT))])
    try:
        offer = Description.parse(found["sdp"]) if "sdp" in found else None
        metadata = Metadata.parse(found["metadata"]) if "metadata" in found else None
    except RefusedError:
        raise
    except SignallingError as error:
        raise RefusedError(400, str(error)) from error
    return RecordingBody(offer, metadata)


def _parts(request: Request) -> list[tuple[str, bytes, bool]]:
    """(type, content, whether it must be understood) of each part."""
    kind = request.headers.get("Content-Type") or ""
    if not kind.partition(";")[0].strip().lower().startswith("multipart/"):
        return [(kind.partition(";")[0].strip().lower(), request.body, True)]
    if len(kind) > MAX_TYPE:
        raise RefusedError(415, "Content-Type is too long")
    if request.body.lower().count(b"multipart/") > MAX_MULTIPARTS:
        raise RefusedError(413, "body has too many parts within parts")
    try:
        return _read_multipart(f"Content-Type: {kind}\r\n\r\n".encode("utf-8", "surrogateescape") + request.body)
    except RefusedError:
        raise
    except (MessageError, ValueError, LookupError) as error:  # of the standard library, for a hostile part's headers
        raise RefusedError(400, "multipart body is malformed") from error


def _read_multipart(data: bytes) -> list[tuple[str, bytes, bool]]:
    message = BytesParser(policy=compat32).parsebytes(data)
    if not message.is_multipart():
        raise RefusedError(400, "multipart body has no boundary that fits")
    out: list[tuple[str, bytes, bool]] = []
    for part in message.walk():
        if part.is_multipart():
            continue
        if len(out) == MAX_PARTS:
            raise RefusedError(413, f"body has more than {MAX_PARTS} parts")
        if len(str(part.get("Content-Type", ""))) > MAX_TYPE:
            raise RefusedError(415, "Content-Type of a part is too long")
        content = part.get_payload(decode=True)
        disposition = str(part.get("Content-Disposition", "")).lower().replace(" ", "")
        is_optional = "handling=optional" in disposition
        out.append((part.get_content_type(), content if isinstance(content, bytes) else b"", not is_optional))
    return out
