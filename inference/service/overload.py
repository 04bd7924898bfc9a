"""What a worker does when it cannot keep up, step by step, and when it goes back.

    normal      every segment of every call is heard at once
    long_hop    calls of low risk are heard less often: their segments wait, and go to the models joined
    gate_only   and only what the gate of the cascade passes is decoded (without a gate: as long_hop)
    refusing    and new calls are refused, so that those under way are still heard

What decides is the lag: how long a segment that comes now will wait for the models. At every step speech of low-risk
calls that has waited too long is shed (:mod:`inference.service.due`), and counted. A call at ``suspect`` is heard at
once and whole at every step. Calls of static lines cannot be refused, nobody announces them: they begin as low-risk
calls, whose speech is shed first.
"""

from typing import Literal, Self, TypeAlias, get_args

from pydantic import BaseModel, ConfigDict, Field, model_validator

Step: TypeAlias = Literal["normal", "long_hop", "gate_only", "refusing"]
STEPS: tuple[Step, ...] = get_args(Step)
"""From untroubled to worst; compare by index."""


class OverloadConfig(BaseModel):
    """When each step begins, and when it is left."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    long_hop_from_s: float = Field(1.0, gt=0, description="lag from which low-risk calls are heard less often")
    gate_only_from_s: float = Field(2.0, gt=0, description="lag from which they are decoded where the gate says so")
    refuse_from_s: float = Field(4.0, gt=0, description="lag from which new calls are refused")
    calm_s: float = Field(5.0, ge=0, description="a step is left once the lag was under half of it for so long")

    @model_validator(mode="after")
    def _in_order(self) -> Self:
        if not self.long_hop_from_s <= self.gate_only_from_s <= self.refuse_from_s:
            raise ValueError("want long_hop_from_s <= gate_only_from_s <= refuse_from_s")
        return self


class Overload:
    """The step that a worker is at. Up at once and as far as need be, down one step at a time.

    Args:
        config: where the steps lie.
        now_s: monotonic seconds; time is given, never read.
    """

    def __init__(self, config: OverloadConfig, now_s: float) -> None:
        self._from_s = (0.0, config.long_hop_from_s, config.gate_only_from_s, config.refuse_from_s)
        self._calm_s = config.calm_s
        self._index = 0
        self._uncalm_s = now_s  # when the lag last was too long for the step below
        self._updated_s = now_s
        self.seconds: dict[Step, float] = dict.fromkeys(STEPS, 0.0)
        self.lag_s = 0.0

    @property
    def step(self) -> Step:
        """Where the worker stands."""
        return STEPS[self._index]

    def update(self, lag_s: float, now_s: float) -> bool:
        """Note the lag; true where the step changed."""
        self.seconds[self.step] += max(0.0, now_s - self._updated_s)
        self._updated_s, self.lag_s = now_s, lag_s
        wanted = max(index for index, from_s in enumerate(self._from_s) if lag_s >= from_s)
        if wanted > self._index:
            self._index, self._uncalm_s = wanted, now_s
            return True
        if lag_s >= self._from_s[self._index] / 2:
            self._uncalm_s = now_s
        elif self._index and now_s - self._uncalm_s >= self._calm_s:
            self._index, self._uncalm_s = self._index - 1, now_s
            return True
        return False
