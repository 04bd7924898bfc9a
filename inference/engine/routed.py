"""Two engines behind one door."""

from collections.abc import Collection

from inference.engine.base import Batch, Engine, ModelSpec, Tensor


class RoutedEngine:
    """Runs a few models in this process and all others elsewhere.

    Voice activity is asked for every 32 ms of every leg, on the loop that reads the packets: its state is a kilobyte
    and its network 8 µs of work. A trip to a server would cost more than the answer, and stall the loop when the server
    is away.

    Args:
        remote: runs what is not listed.
        local: runs ``in_process``.
        in_process: names of models.
    """

    def __init__(self, remote: Engine, local: Engine, in_process: Collection[str]) -> None:
        self._remote, self._local = remote, local
        self._in_process = frozenset(in_process)

    def infer(self, model: str, batch: Batch) -> dict[str, Tensor]:
        """See :meth:`inference.engine.base.Engine.infer`."""
        return self._of(model).infer(model, batch)

    def spec(self, model: str) -> ModelSpec:
        """See :meth:`inference.engine.base.Engine.spec`."""
        return self._of(model).spec(model)

    def close(self) -> None:
        """See :meth:`inference.engine.base.Engine.close`."""
        self._remote.close()
        self._local.close()

    def _of(self, model: str) -> Engine:
        return self._local if model in self._in_process else self._remote
