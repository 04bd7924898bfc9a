"""A warner on a virtual clock, with ears that note what they are told."""

import asyncio
import importlib.util
import sys
from pathlib import Path

import numpy as np
import pytest

from inference.alerts.alert import Alert
from inference.alerts.announcements import Announcements
from inference.alerts.ear import Announcement, Reach
from inference.alerts.warner import Warner, WarnerConfig


@pytest.fixture(scope="session")
def noting_ear():
    """The class in doubles.py; test modules cannot import each other (import-mode=importlib)."""
    path = Path(__file__).with_name("doubles.py")
    spec = importlib.util.spec_from_file_location("scamtap_tests_alerts_doubles", path)
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module.NotingEar


def sounds() -> Announcements:
    made = {}
    for language in ("en", "zh"):
        for family in ("general", "card_otp"):
            name = f"{language}-danger-{family}"
            made[name] = Announcement(name, "danger", language, f"a line about {family}", np.ones(40_000, np.int16))
    return Announcements(made)


class WarnerBench:
    """A warner and what became of it; time is ``now_s``."""

    def __init__(self, noting_ear, *names, **config) -> None:
        self.now_s = 500.0
        opt_outs = config.pop("opt_outs", None)
        self.ears = {name: noting_ear(name) for name in names or ("gate", "sms")}
        self.outcomes: list[tuple[str, str]] = []
        self.feedback = []
        self.warner = Warner(
            WarnerConfig(**config),
            sounds(),
            self.ears.values(),
            opt_outs=opt_outs,
            on_outcome=lambda *outcome: self.outcomes.append(outcome),
            on_feedback=self.feedback.append,
            clock=lambda: self.now_s,
        )

    @property
    def gate(self):
        return self.ears["gate"]

    async def alert(self, level, call="c1", *, via="gate", language="en", family="card_otp", subscriber="+1555"):
        reach = Reach(via=via, call="their-id", subscriber=subscriber) if via is not None else None
        self.warner.alerted(Alert(call, level, 12.0, 0.9, family, "ask", ()), reach, language)
        await self.warner.settle()


@pytest.fixture(scope="session")
def warned(noting_ear):
    """``warned(run, *ear names, **config)``: run ``run(bench)`` and give the bench back."""

    def run(scenario, *names, **config):
        async def whole():
            bench = WarnerBench(noting_ear, *names, **config)
            await scenario(bench)
            await bench.warner.aclose()
            return bench

        return asyncio.run(whole())

    return run
