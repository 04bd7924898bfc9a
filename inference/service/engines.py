"""The engine of this installation, and what the log hears of it."""

from pathlib import Path

import structlog

from inference.audio.vad import VAD_MODEL
from inference.engine.base import Engine
from inference.engine.open import EngineConfig, open_engine

log = structlog.get_logger(__name__)


def build_engine(config: EngineConfig, models_dir: Path) -> Engine:
    """What the models run on; voice activity always in this process.

    Raises:
        EngineError: the Triton client is not installed, or a TLS file cannot be read.
    """
    return open_engine(config, models_dir, in_process=(VAD_MODEL,), on_change=_tell)


def _tell(is_away: bool, why: str) -> None:
    if is_away:
        log.error("inference servers away", why=why)
    else:
        log.info("inference servers back", why=why)
