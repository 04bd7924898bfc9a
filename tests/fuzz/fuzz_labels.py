"""Coverage-guided fuzzing of what learning reads: ``python tests/fuzz/fuzz_labels.py -max_total_time=30``.

Labelled texts, kept transcripts, Label Studio's export, digests of a version: all files that people edit. Whatever they
hold: calls, or one line of error that quotes nothing. Needs the extra ``fuzz`` (atheris).
"""

import json
import sys
import tempfile
from pathlib import Path
from typing import Any

import atheris

with atheris.instrument_imports(include=["training.evaluation.labelled", "training.mine", "inference.engine.sums"]):
    from inference.engine.sums import read_sums
    from training.evaluation.labelled import PROVENANCE, read_labelled
    from training.mine.label_studio import labelled_lines, read_export, tasks
    from training.mine.rank import Ranked, read_kept

from inference.errors import ScamTapError

SECRET = "plantedwords"
VALUES: list[Any] = [
    "scam", "genuine", "benign", "far", "near", "en", "tax", "caller", SECRET, "", "\ud800", "\x00", "a" * 300, 0, 1,
    0.5, -1, 10**30, float("nan"), float("inf"), None, True, [], {},
]  # fmt: skip
KEYS = [
    "id", "lang", "label", "family", "turns", "text", "leg", "stages", "peak_risk", "utterances", "alerts", "feedback",
    "data", "dialogue", "author", "annotations", "result", "value", "choices", "from_name",
]  # fmt: skip
FOLDER = Path(tempfile.mkdtemp(prefix="fuzz-labels-"))


def value(data: atheris.FuzzedDataProvider, depth: int) -> Any:
    """A JSON value that is often nearly a call."""
    kind = data.ConsumeIntInRange(0, 5)
    if depth > 0 and kind <= 2:
        return {data.PickValueInList(KEYS): value(data, depth - 1) for _ in range(data.ConsumeIntInRange(0, 6))}
    if depth > 0 and kind == 3:
        return [value(data, depth - 1) for _ in range(data.ConsumeIntInRange(0, 3))]
    return data.PickValueInList(VALUES) if kind == 4 else data.ConsumeUnicode(data.ConsumeIntInRange(0, 20))


def content(data: atheris.FuzzedDataProvider) -> bytes:
    """Raw bytes, or a good call with one thing wrong."""
    if data.ConsumeBool():
        return bytes(data.ConsumeBytes(300))
    said = [{"leg": "far", "text": SECRET, "author": "caller", "stages": ["ask"]}]
    call: Any = {"id": "c", "lang": "en", "label": "scam", "family": "tax", "turns": said, "peak_risk": 0.5,
                 "utterances": said, "data": {"id": "c", "language": "en", "dialogue": said},
                 "annotations": [{"result": [{"from_name": "label", "value": {"choices": ["scam"]}}]}]}  # fmt: skip
    call[data.PickValueInList(KEYS)] = value(data, 3)
    return json.dumps([call] if data.ConsumeBool() else call).encode() + b"\n"


def one_input(data: bytes) -> None:
    """Every reader either reads it or says in a line why not."""
    path = FOLDER / "2026-01-01.jsonl"
    path.write_bytes(content(atheris.FuzzedDataProvider(data)))
    provenance = dict.fromkeys(PROVENANCE, "x")
    readers = (
        lambda: [call.to_call() for call in read_labelled(path)],
        lambda: tasks([Ranked(call, 0.0, {}) for call in read_kept(FOLDER)]),
        lambda: labelled_lines(read_export(path), provenance),
        lambda: read_sums(path),
    )
    for read in readers:
        says = ""
        try:
            read()
        except ScamTapError as error:
            says = str(error)
        assert "\n" not in says
        assert SECRET not in says


if __name__ == "__main__":
    atheris.Setup([*sys.argv, "-len_control=0", "-max_len=512"], one_input)  # a call is no shorter than that
    atheris.Fuzz()
