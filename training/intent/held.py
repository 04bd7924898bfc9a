"""Known calls, held to what the network said of them before it went on learning.

A network tuned on fifty new calls drifts on the old ones, rehearsed or not: a label says which side a call is on, not
how sure the champion was, and thresholds stand where it was sure. So old calls are taught by the champion itself
(Li and Hoiem, "Learning without Forgetting", ECCV 2016), on words damaged alike for both; the new ones by labels.

What is held is run without dropout, as what it was is. With it a sum that has a floor comes out higher by chance, the
network makes up for that, and all evidence sinks: of 304 old scams 15 were missed, of 14 false alarms 3 gone.
"""

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from training.intent.data import Call
from training.intent.losses import Network, losses_of, run
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

    def losses(self, learner: Network, batch: Sequence[Prepared], smoothing: float) -> list[tuple[Tensor, float]]:
        """As :func:`training.intent.losses.losses_of`, but held calls are to be judged as they were."""
        held = [item for item in batch if self._holds(item.call)]
        if not held:
            return losses_of(learner, batch, smoothing)
        with torch.no_grad():
            was = run(self._network, held)
        learner.eval()
        known = losses_of(learner, held, smoothing, taught=was)
        learner.train()
        new = [item for item in batch if not self._holds(item.call)]
        pairs = zip(known, losses_of(learner, new, smoothing), strict=True)
        return [(loss + other, count + more) for (loss, count), (other, more) in pairs]
