"""Who is warned, with what, how often, and by which way: between a verdict and one ear.

The ear that the call came by is asked first; where there is none, or it fails, the fall-backs are tried in turn, for
``danger`` only. Nothing here waits in the caller, and whatever happens to a warning is counted.
"""

import asyncio
import time
from collections import OrderedDict
from collections.abc import Callable, Coroutine, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

import structlog
from pydantic import BaseModel, ConfigDict, Field, SecretStr, model_validator

from inference.alerts.alert import Alert
from inference.alerts.announcements import Announcements, Language
from inference.alerts.ear import Announcement, Ear, Reach
from inference.alerts.feedback import Feedback
from inference.alerts.optout import OptOuts
from inference.audio import SAMPLE_RATE_HZ, Leg
from inference.errors import AlertError, ConfigError
from inference.verdict.verdict import LEVELS

log = structlog.get_logger(__name__)

MAX_CALLS = 16_384
"""Calls remembered because they were warned; the one warned longest ago is forgotten first."""

MAX_RUNNING = 512
"""Warnings on their way at once; another is suppressed, and counted."""

NO_EAR = "none"
"""Counted as the way of a warning that nothing could carry."""


class WarnerConfig(BaseModel):
    """What is played, and how often.

    Attributes:
        in_call: warn subscribers at all; off, operators' systems alone are told.
        suspect_tone: beep at ``suspect``; off, only ``danger`` is heard.
        language: spoken where the language of the call is unknown or not ours.
        announcements_dir: folder of lines and sounds; None for those of the clone.
        cooldown_s: after a warning, none of the same or a lower level for so long. A rise is always said at once.
        max_per_call: warnings in one call, at most.
        play_timeout_s: bound on one attempt at one gateway.
        fallbacks: ears tried in turn for ``danger`` where the call's own fails or there is none, e.g. ``[sms]``.
        not_scam_keys: digits by which the subscriber says 'not a scam', in a row; empty for none.
        key_window_s: how long after a warning these keys count.
        opt_out_path: file of subscribers' hashes, see :mod:`inference.alerts.optout`. A subscriber whom signalling
            does not name (``reach.subscriber``) cannot be found in it, and is warned.
        opt_out_key: key of these hashes.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    in_call: bool = True
    suspect_tone: bool = True
    language: Language = "en"
    announcements_dir: Path | None = None
    cooldown_s: float = Field(default=30.0, ge=0, le=3600)
    max_per_call: int = Field(default=3, ge=1, le=20)
    play_timeout_s: float = Field(default=2.0, gt=0, le=30)
    fallbacks: tuple[str, ...] = Field(default=(), max_length=4)
    not_scam_keys: str = Field(default="9", pattern=r"^[0-9*#A-D]{0,4}$")
    key_window_s: float = Field(default=20.0, gt=0, le=300)
    opt_out_path: Path | None = None
    opt_out_key: SecretStr | None = None

    @model_validator(mode="after")
    def _hashes_have_a_key(self) -> Self:
        if (self.opt_out_path is None) != (self.opt_out_key is None):
            raise ValueError("opt_out_path and opt_out_key go together: bare hashes of numbers can be guessed")
        return self

    def opt_outs(self) -> OptOuts:
        """The list, read.

        Raises:
            ConfigError: it cannot be.
        """
        return OptOuts(self.opt_out_path, self.opt_out_key.get_secret_value() if self.opt_out_key is not None else "")


@dataclass(frozen=True, slots=True)
class _Heard:
    """A warning that a subscriber hears in the call, or is about to.

    Attributes:
        alert: whose.
        ear, reach: by which way.
        at_s, until_s: when it began and when it is over, seconds of the clock.
    """

    alert: Alert
    ear: Ear
    reach: Reach
    at_s: float
    until_s: float


@dataclass(slots=True)
class _Warned:
    """What is remembered of a call that was warned.

    Attributes:
        alert: the newest warning's.
        num: warnings so far, taken by a gateway or not.
        at_s: when the newest was decided on, seconds of the clock.
        heard: the newest that was not refused; None for none.
        keys: those that the subscriber pressed since, at most as many as are asked for.
        is_silenced, is_over: nothing more is played.
    """

    alert: Alert
    num: int = 0
    at_s: float = -float("inf")
    heard: _Heard | None = None
    keys: str = ""
    is_silenced: bool = False
    is_over: bool = False


class Warner:
    """Warns subscribers; to be called from the event loop.

    Args:
        config: what and how often.
        announcements: what can be said.
        ears: ways to a subscriber; closed with the warner. More may be added as gateways open.
        opt_outs: who wants none.
        on_outcome: told ``(ear, "played" | "failed" | "suppressed: <why>" | ...)``, for metrics; never personal data.
        on_feedback: told when a subscriber says that a warning was wrong; must not raise.
        clock: monotonic seconds.
    """

    def __init__(
        self,
        config: WarnerConfig,
        announcements: Announcements,
        ears: Iterable[Ear] = (),
        *,
        opt_outs: OptOuts | None = None,
        on_outcome: Callable[[str, str], None] = lambda _ear, _outcome: None,
        on_feedback: Callable[[Feedback], None] = lambda _feedback: None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._config = config
        self._announcements = announcements
        self._ears: dict[str, Ear] = {}
        self._own = list(ears)
        self._opt_outs = OptOuts(None) if opt_outs is None else opt_outs  # an empty list may fill up
        self._on_outcome = on_outcome
        self._on_feedback = on_feedback
        self._clock = clock
        self._calls: OrderedDict[str, _Warned] = OrderedDict()
        self._tasks: set[asyncio.Task[None]] = set()
        self._is_list_broken = False
        for ear in self._own:
            self.add(ear)

    @property
    def num_calls(self) -> int:
        """Calls that something is remembered of."""
        return len(self._calls)

    def add(self, ear: Ear) -> None:
        """Another way to subscribers, opened and closed by whoever adds it.

        Raises:
            ConfigError: there is one of that name.
        """
        if ear.name in self._ears:
            raise ConfigError(f"two ways back to the subscriber are called {ear.name}: configure one of them")
        self._ears[ear.name] = ear

    def alerted(self, alert: Alert, reach: Reach | None, language: str | None) -> None:
        """A call rose to a level: warn its subscriber, or count why not."""
        via = reach.via if reach is not None and reach.via in self._ears else NO_EAR
        announcement = self._announcements.pick(alert.level, alert.family, language)
        if announcement is None:
            return
        now_s = self._clock()
        warned = self._calls.get(alert.call)
        why_not = self._why_not(alert, reach, warned, now_s)
        if why_not is not None:
            self._on_outcome(via, f"suppressed: {why_not}")
            return
        if warned is None:
            warned = self._calls[alert.call] = _Warned(alert)
            if len(self._calls) > MAX_CALLS:
                self._calls.popitem(last=False)
        warned.alert, warned.num, warned.at_s = alert, warned.num + 1, now_s
        self._run(self._warn(warned, alert, reach or Reach(), announcement, self._chain(alert, reach)))

    def labelled(self, reach: Reach, text: str, language: Language) -> None:
        """A call that was labelled before it rang is answered: say so, once, by the call's own ear.

        It is no warning of what is heard, and counts as none.
        """
        ear = self._ears.get(reach.via or "")
        why_not = (
            "off" if not self._config.in_call
            else "no way" if ear is None
            else "opted out" if self._has_opted_out(reach)
            else "busy" if len(self._tasks) >= MAX_RUNNING
            else None
        )  # fmt: skip
        if why_not is not None or ear is None:
            self._on_outcome(NO_EAR if ear is None else ear.name, f"label suppressed: {why_not}")
            return
        self._run(self._say(ear, reach, self._announcements.label(text, language)))

    async def _say(self, ear: Ear, reach: Reach, announcement: Announcement) -> None:
        await self._refresh_opt_outs()
        if self._has_opted_out(reach):
            self._on_outcome(ear.name, "label suppressed: opted out")
            return
        try:
            async with asyncio.timeout(self._config.play_timeout_s):
                await ear.play(reach, announcement)
        except (AlertError, TimeoutError) as error:
            self._on_outcome(ear.name, "label failed")
            log.warning("label not said", ear=ear.name, why=str(error) or "no answer")
            return
        self._on_outcome(ear.name, "label said")

    def _why_not(self, alert: Alert, reach: Reach | None, warned: _Warned | None, now_s: float) -> str | None:
        config = self._config
        if not config.in_call:
            return "off"
        if alert.level == "suspect" and not config.suspect_tone:
            return "suspect is off"
        if warned is not None:
            if warned.is_silenced:
                return "not a scam"
            if warned.num >= config.max_per_call:
                return "enough"
            has_risen = LEVELS.index(alert.level) > LEVELS.index(warned.alert.level)
            if not has_risen and now_s - warned.at_s < config.cooldown_s:
                return "cooldown"
        if reach is not None and self._has_opted_out(reach):
            return "opted out"
        return "busy" if len(self._tasks) >= MAX_RUNNING else None

    def _has_opted_out(self, reach: Reach) -> bool:
        return reach.subscriber is not None and self._opt_outs.covers(reach.subscriber.get_secret_value())

    def _chain(self, alert: Alert, reach: Reach | None) -> list[Ear]:
        """Ears to try, in turn: the call's own, then for ``danger`` the fall-backs."""
        names = [reach.via] if reach is not None else []
        if alert.level == "danger":
            names += self._config.fallbacks
        return [self._ears[name] for name in dict.fromkeys(names) if name in self._ears]

    async def _warn(
        self, warned: _Warned, alert: Alert, reach: Reach, announcement: Announcement, chain: Sequence[Ear]
    ) -> None:
        await self._refresh_opt_outs()
        if self._has_opted_out(reach):
            self._on_outcome(chain[0].name if chain else NO_EAR, "suppressed: opted out")
            return
        for ear in chain:
            is_own, before = ear.name == reach.via, warned.heard
            if (why_not := self._overtaken(warned, alert, is_own=is_own)) is not None:
                self._on_outcome(ear.name, f"suppressed: {why_not}")
                continue
            if is_own:  # noted before the gateway has answered: a key may be pressed meanwhile
                now_s, length_s = self._clock(), announcement.samples.size / SAMPLE_RATE_HZ
                warned.heard, warned.keys = _Heard(alert, ear, reach, now_s, now_s + length_s), ""
            try:
                async with asyncio.timeout(self._config.play_timeout_s):
                    await ear.play(reach, announcement)
            except (AlertError, TimeoutError) as error:
                if warned.heard is not None and warned.heard.alert is alert:
                    warned.heard = before
                self._on_outcome(ear.name, "failed")
                why = str(error) or f"no answer within {self._config.play_timeout_s:g} s"
                log.warning("warning not played", call=alert.call, ear=ear.name, why=why)
                continue
            self._on_outcome(ear.name, "played")
            log.info("warning played", call=alert.call, ear=ear.name, announcement=announcement.name)
            if warned.is_silenced and is_own:  # the key came while the gateway was about to play
                await self._stop(ear, reach)
            return
        if not chain:
            self._on_outcome(NO_EAR, "suppressed: no way")
            log.info("warning not played", call=alert.call, why="no gateway here reaches its subscriber")

    def _overtaken(self, warned: _Warned, alert: Alert, *, is_own: bool) -> str | None:
        """Why a warning that was decided on is not sent any more."""
        if warned.is_silenced:
            return "not a scam"
        if warned.alert is not alert:
            return "a later one"
        # A message still helps who has just hung up.
        return "call over" if warned.is_over and is_own else None

    async def _refresh_opt_outs(self) -> None:
        if not self._opt_outs.is_kept:
            return
        try:
            await asyncio.to_thread(self._opt_outs.refresh)
            self._is_list_broken = False
        except ConfigError as error:
            if not self._is_list_broken:
                log.error("opt-out list not read again; the former one is in force", why=str(error))
            self._is_list_broken = True

    async def _stop(self, ear: Ear, reach: Reach) -> None:
        try:
            async with asyncio.timeout(self._config.play_timeout_s):
                await ear.stop(reach)
            self._on_outcome(ear.name, "stopped")
        except (AlertError, TimeoutError) as error:
            self._on_outcome(ear.name, "stop failed")
            log.warning("warning not stopped", ear=ear.name, why=str(error) or "no answer")

    def key_pressed(self, call: str, leg: Leg, digit: str) -> None:
        """A party pressed a key. The subscriber's 'not a scam', soon after a warning, silences the rest of the call."""
        wanted, warned = self._config.not_scam_keys, self._calls.get(call)
        if not wanted or leg != "near" or warned is None or warned.is_silenced or warned.heard is None:
            return
        heard, now_s = warned.heard, self._clock()
        after_s = now_s - heard.at_s
        if after_s > self._config.key_window_s:
            warned.keys = ""
            return
        warned.keys = (warned.keys + digit)[-len(wanted) :]
        if warned.keys != wanted:
            return
        warned.is_silenced = True
        self._on_outcome(heard.ear.name, "not a scam")
        alert = heard.alert
        log.info("subscriber says not a scam", call=call, alert=alert.id)
        self._on_feedback(Feedback(call, "not_a_scam", alert.id, alert.level, alert.risk, alert.family, after_s))
        if now_s < heard.until_s:
            self._run(self._stop(heard.ear, heard.reach))

    def ended(self, call: str) -> None:
        """A call is over: nothing more is played to it, and it is forgotten."""
        warned = self._calls.pop(call, None)
        if warned is not None:
            warned.is_over = True

    def _run(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def settle(self) -> None:
        """Wait for the warnings under way."""
        while self._tasks:
            await asyncio.wait(self._tasks)

    async def aclose(self) -> None:
        """Let what is under way come to its end, which is bounded, and close the ears."""
        await self.settle()
        for ear in self._own:
            await ear.aclose()
