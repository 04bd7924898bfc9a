"""Dead letters, once what they failed on is mended: ``scamtap alerts resend``."""

import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from inference.alerts.deadletters import DeadLetters
from inference.alerts.notice import Envelope, body_text
from inference.alerts.sinks.base import Sink
from inference.errors import AlertError, SinkDownError

PlainText = Annotated[str, Field(pattern=r"^[!-~]{1,256}$")]


class _Head(BaseModel):
    """What is read of an event; the rest is passed on."""

    id: PlainText
    subject: PlainText


class _Line(BaseModel):
    model_config = ConfigDict(extra="forbid")

    sink: str
    why: str
    attempts: int = Field(ge=0, le=10**6)
    given_up_s: float
    event: dict[str, Any]


@dataclass(frozen=True, slots=True)
class Letter:
    """One line of the file.

    Attributes:
        sink: who would not take it.
        envelope: what.
        attempts: how often it was tried.
    """

    sink: str
    envelope: Envelope
    attempts: int

    @classmethod
    def parse(cls, line: str) -> "Letter":
        """Read a line.

        Raises:
            ValueError: it is no dead letter.
        """
        try:
            fields = _Line.model_validate_json(line)
            head = _Head.model_validate(fields.event)
            return cls(fields.sink, Envelope(head.id, head.subject, body_text(fields.event)), fields.attempts)
        except (ValidationError, RecursionError) as error:
            raise ValueError("no dead letter") from error


async def resend(dead_letters: DeadLetters, sinks: Sequence[Sink]) -> tuple[int, int]:
    """Deliver every dead letter once more; may run while a worker adds to the file.

    What is refused again goes back into the file. Cut short, it begins again where the file it was at began: receivers
    know by the id what they have.

    Args:
        dead_letters: the file.
        sinks: where to; a letter for a sink that is not among them stays.

    Returns:
        How many were delivered, and how many are left.

    Raises:
        AlertError: the file cannot be read or written, or a line is no dead letter. Nothing is lost.
    """
    by_name = {sink.name: sink for sink in sinks}
    num_delivered = num_left = 0
    taken = dead_letters.take()
    for path in taken:
        for _ in _letters(path):  # all of it can be read, or none of it is sent
            pass
    for path in taken:
        for letter in _letters(path):
            why = await _deliver(letter, by_name)
            if why is None:
                num_delivered += 1
            else:
                num_left += 1
                dead_letters.append([(letter.sink, letter.envelope, letter.attempts + 1)], why, time.time())
        path.unlink()
    return num_delivered, num_left


async def _deliver(letter: Letter, sinks: dict[str, Sink]) -> str | None:
    """Why it was not taken; None where it was. A sink found to be away is not tried again."""
    sink = sinks.get(letter.sink)
    if sink is None:
        return "no such sink is configured, or it is away"
    try:
        await sink.deliver(letter.envelope)
    except SinkDownError as error:
        del sinks[letter.sink]
        return str(error)
    except AlertError as error:
        return str(error)
    return None


def _letters(path: Path) -> Iterator[Letter]:
    try:
        with path.open(encoding="utf-8") as lines:
            for number, line in enumerate(lines, 1):
                try:
                    yield Letter.parse(line)
                except ValueError as error:
                    raise AlertError(f"{path}: line {number} is no dead letter; mend or remove it") from error
    except UnicodeDecodeError as error:
        raise AlertError(f"{path}: not UTF-8; mend or remove it") from error
    except OSError as error:
        raise AlertError(f"{path}: {error.strerror}") from error
