"""A promoted intent model reaches a running worker: new calls begin with it, others end with the one they began with.

A version is a folder that appears (or, rolled back, goes away) in one step, so looking at names is enough. It is loaded
beside the one in use, in a thread of its own; what does not load, or is no pair with the recogniser here, changes
nothing. The old one is released with the last call that it judges.
"""

import asyncio
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import structlog
from pydantic import BaseModel, ConfigDict, Field

from inference.engine.repository import newest_version
from inference.errors import ScamTapError, WeightsError
from inference.intent.install import intent_models
from inference.service.call import CallParts
from inference.service.models import build_parts, build_scorer, default_models_dir
from inference.service.stages import Stages
from inference.speech.graph import ENCODER
from inference.speech.whole import WHOLE

if TYPE_CHECKING:
    from inference.config import Settings

log = structlog.get_logger(__name__)


class RenewalConfig(BaseModel):
    """How a running worker takes up another version of the intent model.

    Attributes:
        every_s: how often it looks for one; 0: never, a restart does.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    every_s: float = Field(default=10.0, ge=0, le=3600)


def versions_there(settings: "Settings") -> str:
    """Newest version of every intent model, as the log has it: ``scam_intent 3, scam_intent_en 1``."""
    models_dir: Path = settings.models_dir or default_models_dir()
    names = intent_models(models_dir, settings.intent.model)
    return ", ".join(f"{name} {newest_version(models_dir, name)}" for name in names)


class Renewal:
    """Looks for another version, loads it, hands it on.

    Args:
        settings: where models are.
        stages: what runs now; its recogniser stays.
        use: told the parts that new calls are to have.
        load: how a version becomes parts; None: from the repository.
        seen: the versions that were there before ``stages`` were loaded; None: those there are now.
    """

    def __init__(
        self,
        settings: "Settings",
        stages: Stages,
        use: Callable[[CallParts], None],
        load: Callable[[], CallParts] | None = None,
        seen: str | None = None,
    ) -> None:
        self._config = settings.renewal
        self._settings = settings
        self._stages = stages
        self._use = use
        self._load = load or self._from_repository
        self._seen = versions_there(settings) if seen is None else seen
        self._refused = ""

    def _from_repository(self) -> CallParts:
        encoder = ENCODER if self._settings.engine.url is None else WHOLE
        speech = self._stages.engine.spec(encoder).metadata
        scorer = build_scorer(self._settings, speech=speech)
        if lost := set(self._stages.scorer.calibration.languages) - set(scorer.calibration.languages):
            raise WeightsError(f"it does not judge calls in {min(lost)}, and what serves does; is a folder gone?")
        parts = build_parts(self._settings, Stages(self._stages.recogniser, scorer, self._stages.engine))
        return replace(parts, scorer=scorer)

    async def look(self) -> bool:
        """Take up another version if there is one; False where there is none or it does not load."""
        found = await asyncio.to_thread(versions_there, self._settings)
        if found == self._seen:
            return False
        try:
            parts = await asyncio.to_thread(self._load)
        except ScamTapError as error:
            if found != self._refused:  # said once; tried again, for a server may still be loading it
                log.error("version not taken up", version=found, still=self._seen, why=str(error))
            self._refused = found
            return False
        before, self._seen = self._seen, found
        self._use(parts)
        log.info("version taken up", version=found, before=before, model=parts.model)
        return True

    async def run(self) -> None:
        """Look again and again, until cancelled."""
        while self._config.every_s:
            await asyncio.sleep(self._config.every_s)
            try:
                await self.look()
            except OSError as error:  # the folder went away for a moment, as a network file system does
                log.error("versions not looked at", why=error.strerror)
