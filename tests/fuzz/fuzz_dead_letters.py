"""Coverage-guided fuzzing of dead letters: ``python tests/fuzz/fuzz_dead_letters.py -max_total_time=30``.

An operator may edit that file. Whatever a line holds: a letter that can be sent, or a ValueError. Needs the extra
``fuzz`` (atheris).
"""

import json
import sys
from typing import Any

import atheris

with atheris.instrument_imports(include=["inference.alerts.resend", "inference.alerts.notice", "json"]):
    from inference.alerts.resend import Letter

VALUES: list[Any] = [
    "alr_1", "call-1", "", "two words", "\ud800", "\x00", "a" * 300, 0, 1, -1, 10**30, 1e308, float("nan"),
    float("inf"), None, True, [], {}, "1.0",
]  # fmt: skip
KEYS = ["id", "subject", "data", "sink", "why", "attempts", "given_up_s", "event", "x"]


def value(data: atheris.FuzzedDataProvider, depth: int) -> Any:
    """A JSON value that is often nearly an event."""
    kind = data.ConsumeIntInRange(0, 5)
    if depth > 0 and kind <= 2:
        return {data.PickValueInList(KEYS): value(data, depth - 1) for _ in range(data.ConsumeIntInRange(0, 6))}
    if depth > 0 and kind == 3:
        return [value(data, depth - 1) for _ in range(data.ConsumeIntInRange(0, 3))]
    return data.PickValueInList(VALUES) if kind == 4 else data.ConsumeUnicode(data.ConsumeIntInRange(0, 40))


def line(data: atheris.FuzzedDataProvider) -> str:
    """Raw text, or a good line with one thing wrong, perhaps cut short."""
    if data.ConsumeBool():
        return str(data.ConsumeUnicode(200))
    event = {"id": "alr_1", "subject": "call-1", "data": value(data, 3)}
    event[data.PickValueInList(KEYS[:3])] = value(data, 2)
    fields = {"sink": "webhook", "why": "", "attempts": 1, "given_up_s": 1.0, "event": event}
    if data.ConsumeBool():
        fields[data.PickValueInList(KEYS)] = value(data, 2)
    text = json.dumps(fields, ensure_ascii=data.ConsumeBool())
    return text[: data.ConsumeIntInRange(0, len(text))] if data.ConsumeBool() else text


def one_input(data: bytes) -> None:
    """Parse a line; a letter survives being written and read again."""
    try:
        letter = Letter.parse(line(atheris.FuzzedDataProvider(data)))
    except ValueError:
        return
    letter.envelope.body.encode()
    again = f'{{"sink": "s", "why": "", "attempts": 0, "given_up_s": 0, "event": {letter.envelope.body}}}'
    assert Letter.parse(again).envelope == letter.envelope


if __name__ == "__main__":
    atheris.Setup([*sys.argv, "-len_control=0", "-max_len=512"], one_input)  # a letter is no shorter than that
    atheris.Fuzz()
