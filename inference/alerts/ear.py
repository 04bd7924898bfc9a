"""The way back to one ear: what a gateway must offer so that the subscriber hears a warning, and nobody else."""

from dataclasses import dataclass
from typing import Literal, Protocol

from pydantic import BaseModel, ConfigDict, Field, SecretStr

from inference.audio.segment import PCM
from inference.verdict.verdict import Level


class Reach(BaseModel):
    """How the subscriber of one call is reached; said by signalling when the call begins, never guessed.

    Attributes:
        via: name of the :class:`Ear` that can: the gateway that forked the call to us.
        call: the gateway's own reference of the call, e.g. rtpengine's call-id, a channel's uuid, a callSid.
        ear: the gateway's reference of the subscriber's side, e.g. a from-tag, a channel; None where ``call`` says it.
        subscriber: the subscriber's number, for a message where nothing can be played. Personal data.
        caller: the other party's number. Personal data.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    via: str | None = Field(default=None, max_length=64)
    call: SecretStr | None = Field(default=None, max_length=512)
    ear: SecretStr | None = Field(default=None, max_length=512)
    subscriber: SecretStr | None = Field(default=None, max_length=256)
    caller: SecretStr | None = Field(default=None, max_length=256)


@dataclass(frozen=True, slots=True)
class Announcement:
    """What the subscriber is to hear.

    Attributes:
        name: names the sound among an operator's own recordings, e.g. ``en-danger-gift_card``.
        level: what it warns of.
        language: of ``text``, ISO 639-1.
        text: the spoken line; empty where there is a tone alone. For gateways that speak or show text themselves.
        samples: int16 ``[num_samples]`` at 8 kHz, the tone and the line.
        family: of scams, that ``text`` is about; None where it is about any.
    """

    name: str
    level: Level
    language: Literal["en", "zh"]
    text: str
    samples: PCM
    family: str | None = None


class Ear(Protocol):
    """Plays to one party of a call. One per gateway; calls are told apart by their :class:`Reach`."""

    name: str

    async def play(self, reach: Reach, announcement: Announcement) -> None:
        """Have it played to the subscriber alone; returns once the gateway has taken it.

        Raises:
            AlertError: it was not taken, or the call is gone. Nothing is retried: a late tone warns nobody.
        """
        ...

    async def stop(self, reach: Reach) -> None:
        """Stop what is being played, at once; nothing where nothing is.

        Raises:
            AlertError: the gateway did not answer.
        """
        ...

    async def aclose(self) -> None:
        """Release what the ear holds."""
        ...
