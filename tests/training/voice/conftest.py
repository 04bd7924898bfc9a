"""A speaker that hums: as long as the text, at a pitch of the voice's own; no model, no network."""

import zlib
from dataclasses import dataclass, field

import numpy as np
import pytest

from training.scripts import Script, parse_turns
from training.voice.speaker import SPEECH_RATE_HZ


@dataclass
class Hummer:
    fingerprint: str = "hummer-1"
    source: str = "synthetic: a hum"
    said: list[tuple[str, str, float]] = field(default_factory=list)
    stop_after: int | None = None

    def speak(self, text: str, voice: str, speed: float) -> np.ndarray:
        if self.stop_after is not None and len(self.said) >= self.stop_after:
            raise KeyboardInterrupt
        self.said.append((text, voice, speed))
        t_s = np.arange(int(SPEECH_RATE_HZ * 0.03 * len(text) / speed)) / SPEECH_RATE_HZ
        pitch_hz = 400 + zlib.crc32(voice.encode()) % 800
        return np.round(8000 * np.sin(2 * np.pi * pitch_hz * t_s)).astype(np.int16)


@pytest.fixture
def hummer() -> Hummer:
    return Hummer()


def make_script(name: str = "en-scam-test", label: str = "scam", num_turns: int = 12) -> Script:
    lines = []
    for i in range(num_turns):
        leg, mark = ("far", "near")[i % 2], ""
        if i == 4:
            mark = " [isolation]"
        if i in (6, 8):
            mark = " [ask]"
        lines.append(f"{leg}{mark}: This is turn number {i}, and it is said by {leg}.")
    family = "parcel" if label == "scam" else None
    return Script(id=name, label=label, family=family, topic="parcel", turns=parse_turns("\n".join(lines)))


@pytest.fixture
def script() -> Script:
    return make_script()
