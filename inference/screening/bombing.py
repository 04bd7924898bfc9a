"""Call bombing (a DDoS by telephone): one subscriber called by many numbers, to wear down or to hide a theft.

A burst alone is no attack: a radio quiz, a recall, a school that closes for snow are bursts of people who wait to be
answered. An attack's callers give up within seconds of ringing, or show numbers that no plan holds or that follow one
another. So a burst beyond the callee's own habit must come with either sign before the shield goes up; once it is up,
the rate alone holds it.
"""

from pydantic import BaseModel, ConfigDict, Field

from inference.screening.store import CalleeWindow


class BombingConfig(BaseModel):
    """When a callee is under attack, and for how long it is shielded.

    Attributes:
        burst_from: attempts in a minute, or spread over ten, below which nothing is an attack.
        surge: by which factor the callee's own busiest ten minutes must be exceeded.
        short_share: share of calls given up within 5 s, among those that rang, that marks an attack.
        odd_share: share of callers withheld, of no plan or in sequence, among all of the minute, that marks one.
        min_short, min_odd: so many calls must show such a sign: in a crowd, a few give up in a row by chance.
        hold_s: the shield stays up for so long after the last sign.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    burst_from: int = Field(default=8, ge=5, le=10_000)
    surge: float = Field(default=2.0, ge=1, le=100)
    short_share: float = Field(default=0.6, gt=0, le=1)
    odd_share: float = Field(default=0.3, gt=0, le=1)
    min_short: int = Field(default=6, ge=1, le=1000)
    min_odd: int = Field(default=4, ge=1, le=1000)
    hold_s: float = Field(default=600.0, ge=30, le=86_400)


class BombingDetector:
    """Implements :class:`inference.screening.screener.BurstDetector`; holds no state, that is the store's."""

    def __init__(self, config: BombingConfig | None = None) -> None:
        self._config = config or BombingConfig()

    def shield_until_s(self, window: CalleeWindow, at_s: float) -> float | None:
        """Until when to shield the callee, seconds since the epoch; None where it is not under attack now."""
        is_held = window.shielded_until_s is not None and window.attempts_600s >= self._config.burst_from
        return at_s + self._config.hold_s if is_held or self.is_attack(window) else None

    def is_attack(self, window: CalleeWindow) -> bool:
        """Whether these attempts are an attack by themselves, whatever was before."""
        config = self._config
        if window.attempts_600s < config.burst_from or window.attempts_600s < config.surge * window.baseline_peak_10min:
            return False
        if window.attempts_60s >= config.burst_from:
            is_odd = window.odd_callers_60s >= config.odd_share * window.attempts_60s
            rang = max(window.attempts_60s - window.busy_60s, window.short_rings_60s + window.served_60s)
            if (is_odd and window.odd_callers_60s >= config.min_odd) or self._gives_up(window.short_rings_60s, rang):
                return True
        rang = max(window.attempts_600s - window.busy_600s, window.short_rings_600s + window.served_600s)
        return self._gives_up(window.short_rings_600s + 1, rang)  # fewer chances for it to happen by chance

    def _gives_up(self, short: int, rang: int) -> bool:
        """Whether most of what rang, or still does, was given up; a call that goes on is no sign."""
        return short >= self._config.min_short and short >= self._config.short_share * rang
