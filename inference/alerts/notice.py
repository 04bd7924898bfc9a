"""What operators' systems are told, as CloudEvents 1.0 in structured JSON (cloudevents.io): one body for every sink.

Written by hand: the form is six attributes around our own JSON. The tests read it back with the CloudEvents project's
own library.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

CONTENT_TYPE = "application/cloudevents+json; charset=utf-8"
TYPE_PREFIX, TYPE_VERSION = "org.scamtap.", ".v1"


@dataclass(frozen=True, slots=True)
class Envelope:
    """A notice as it goes over the wire: the same bytes to every sink and at every attempt.

    Attributes:
        id: idempotency key; a receiver that has seen it has seen this notice.
        call: what keeps notices of one call together (a Kafka key).
        body: the CloudEvent, JSON text.
    """

    id: str
    call: str
    body: str


@dataclass(frozen=True, slots=True)
class Notice:
    """Something operators' systems are told.

    Attributes:
        kind: what happened, e.g. ``alert``; makes the event type ``org.scamtap.alert.v1``.
        id: the same whenever the same thing is told again.
        call: the call it is about.
        at_s: when it happened, seconds since the epoch.
        data: JSON object; what was said is in it only where the operator wants that.
    """

    kind: str
    id: str
    call: str
    at_s: float
    data: Mapping[str, Any]

    def cloud_event(self, source: str) -> dict[str, Any]:
        """The event; ``source`` is the URI reference that names this installation (CloudEvents 1.0, section 3.1)."""
        at = datetime.fromtimestamp(self.at_s, UTC).isoformat(timespec="milliseconds")
        return {
            "specversion": "1.0",
            "id": self.id,
            "source": source,
            "type": f"{TYPE_PREFIX}{self.kind}{TYPE_VERSION}",
            "subject": self.call,
            "time": at.replace("+00:00", "Z"),
            "datacontenttype": "application/json",
            "data": dict(self.data),
        }

    def sealed(self, source: str) -> Envelope:
        """The notice, ready to go."""
        return Envelope(self.id, self.call, body_text(self.cloud_event(source)))


def body_text(event: Mapping[str, Any]) -> str:
    """An event as JSON text of one line. Half a surrogate pair, which is no text, becomes JSON's own escape."""
    text = json.dumps(event, ensure_ascii=False, separators=(",", ":"))
    return text.encode("utf-8", "backslashreplace").decode()
