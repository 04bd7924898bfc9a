"""What is written down of a training run, for TensorBoard: ``tensorboard --logdir runs``."""

from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import Self

from torch import Tensor
from torch.utils.tensorboard import SummaryWriter

from inference.errors import ConfigError
from training.intent.losses import LOSSES

FLUSH_S = 10


class Journal:
    """Losses, gradient and learning rate of every step of one run.

    Args:
        folder: of this run; its siblings are compared with it. A run that goes on after a break writes into the same.

    Raises:
        ConfigError: the folder cannot be written.
    """

    def __init__(self, folder: Path) -> None:
        try:
            self._writer = SummaryWriter(str(folder), flush_secs=FLUSH_S)
        except OSError as error:
            raise ConfigError(
                f"{folder}: cannot be written ({error.strerror}); give another folder with --runs, or --no-log"
            ) from error

    def note(self, step: int, losses: Tensor, gradient_norm: Tensor, learning_rate: float, num_pieces: int) -> None:
        """One step: ``losses`` [4] as :data:`training.intent.losses.LOSSES` names them, before they are weighed."""
        for name, loss in zip(LOSSES, losses.tolist(), strict=True):
            self._writer.add_scalar(f"loss/{name}", loss, step)
        self._writer.add_scalar("fit/gradient_norm", float(gradient_norm), step)
        self._writer.add_scalar("fit/learning_rate", learning_rate, step)
        self._writer.add_scalar("fit/utterances", num_pieces, step)

    def conclude(self, figures: Mapping[str, float]) -> None:
        """What came of it: figures on development calls."""
        for name, value in figures.items():
            self._writer.add_scalar(f"dev/{name}", value, 0)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._writer.close()
