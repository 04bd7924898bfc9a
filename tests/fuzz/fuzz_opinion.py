"""Coverage-guided fuzzing of what a language model answers: ``python tests/fuzz/fuzz_opinion.py -max_total_time=30``.

Whatever an endpoint sends, and whatever was said: no exception, and acts of our own list about utterances that were
asked about, or nothing. Needs the extra ``fuzz`` (atheris).
"""

import json
import sys
from typing import Any

import atheris

with atheris.instrument_imports(include=["inference.opinion", "pydantic"]):
    from inference.opinion.answer import read_answer
    from inference.opinion.question import Line, Question

from inference.intent.acts import ACTS

VALUES: list[Any] = [
    "threat", "secrecy", "plantedwords", "", "\x00", 0, 1, 2, 3, -1, 1.5, 10**30, None, True, [], {},
]  # fmt: skip
KEYS = ["utterances", "utterance", "acts", "choices", "message", "content", "x"]


def value(data: atheris.FuzzedDataProvider, depth: int) -> Any:
    """A JSON value that is often nearly an answer."""
    kind = data.ConsumeIntInRange(0, 5)
    if depth > 0 and kind <= 2:
        return {data.PickValueInList(KEYS): value(data, depth - 1) for _ in range(data.ConsumeIntInRange(0, 3))}
    if depth > 0 and kind == 3:
        return [value(data, depth - 1) for _ in range(data.ConsumeIntInRange(0, 4))]
    return data.PickValueInList(VALUES) if kind == 4 else data.ConsumeUnicode(data.ConsumeIntInRange(0, 20))


def response(data: atheris.FuzzedDataProvider) -> bytes:
    """Raw bytes, a body of any form, or a completion whose message is nearly an answer."""
    kind = data.ConsumeIntInRange(0, 2)
    if kind == 0:
        return bytes(data.ConsumeBytes(300))
    if kind == 1:
        return json.dumps(value(data, 4)).encode()
    marked = [{"utterance": value(data, 0), "acts": [value(data, 0)]} for _ in range(data.ConsumeIntInRange(0, 4))]
    content = data.ConsumeUnicodeNoSurrogates(4) + json.dumps({"utterances": marked})
    return json.dumps({"choices": [{"message": {"content": content}}]}).encode()


def one_input(data: bytes) -> None:
    """An answer to a question about three utterances, and a question about whatever was said."""
    provider = atheris.FuzzedDataProvider(data)
    shown = read_answer(response(provider), 3)
    if shown is not None:
        assert set(shown) <= {1, 2, 3}
        assert all(acts <= set(ACTS) for acts in shown.values())
    said = provider.ConsumeUnicode(200)
    body = Question((Line(1, "far", said), Line(2, "near", said))).body("m")
    asked = json.loads(body["messages"][1]["content"])["utterances"]
    assert [set(one) for one in asked] == [{"utterance", "speaker", "words"}] * 2
    assert not set(asked[0]["words"]) & set('<>|[]{}"\\')
    json.dumps(body).encode()


if __name__ == "__main__":
    atheris.Setup([*sys.argv, "-len_control=0", "-max_len=512"], one_input)
    atheris.Fuzz()
