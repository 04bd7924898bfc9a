"""Forks without signalling, as of a SPAN port: a pair of ports or sources is a line that carries call after call."""

from typing import Annotated, Self

import structlog
from pydantic import BaseModel, ConfigDict, Field, StringConstraints, model_validator

from inference.gateway.control import CallControl
from inference.gateway.spec import CallSpec, Language, LegSpec

log = structlog.get_logger(__name__)


class StaticLine(BaseModel):
    """Two media streams that are always the same parties' sides.

    Attributes:
        name: its calls are named after it, with the time at which each was first heard.
        far, near: where each party's packets arrive; a port that is the leg's alone needs no source.
        language: overrides ``speech.language``.
        idle_s: a call is over when neither party has sent a packet for so long.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    name: Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,63}$")]
    far: LegSpec
    near: LegSpec | None = None
    language: Language | None = None
    idle_s: float = Field(default=10.0, ge=1, le=3600)

    @model_validator(mode="after")
    def _comes_as_packets(self) -> Self:
        if self.far.is_streamed or (self.near is not None and self.near.is_streamed):
            raise ValueError("a static line comes as packets: give each leg its local_port")
        self.spec()  # as strict as any call
        return self

    def spec(self) -> CallSpec:
        """How its calls are announced."""
        return CallSpec(id=self.name, far=self.far, near=self.near, language=self.language)


class StaticGateway:
    """The configured lines: nothing is signalled, packets alone begin and end a call."""

    name = "static"

    def __init__(self, lines: tuple[StaticLine, ...], control: CallControl) -> None:
        self._lines = lines
        self._control = control

    async def start(self) -> None:
        """Wait for packets on every line.

        Raises:
            ConfigError: a port is not ours, or two lines have the same source.
            CapacityError: more lines than calls fit.
        """
        for line in self._lines:
            self._control.keep(line.spec(), idle_s=line.idle_s)
        log.info("static lines", lines=[line.name for line in self._lines])

    async def aclose(self) -> None:
        """Nothing to detach from: the service ends the calls."""
