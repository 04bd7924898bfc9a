"""Known calls, held to what the network said of them before it went on learning.

A network tuned on fifty new calls drifts on the old ones, rehearsed or not: a label says which side a call is on, not
how sure the champion was, and thresholds stand where it was sure. So old calls are taught by the champion itself
(Li and Hoiem, "Learning without Forgetting", ECCV 2016), on words damaged alike for both; the new ones by labels.
"""

from collections.abc import Callable, Sequence

import torch

from training.intent.data import Call
from training.intent.losses import Network, Taught, run
from training.intent.prepare import Prepared


class Teacher:
    """The network as it was.

    Args:
        network: is not trained; its tensors are its own.
        holds: which calls are held to what it says.
    """

    def __init__(self, network: Network, holds: Callable[[Call], bool]) -> None:
        self._network = network.eval()
        self._holds = holds

    @torch.no_grad()
    def of(self, batch: Sequence[Prepared]) -> Taught | None:
        """What it says of ``batch``; None where no call of it is held."""
        is_held = [self._holds(item.call) for item in batch]
        return Taught(run(self._network, batch), is_held) if any(is_held) else None
