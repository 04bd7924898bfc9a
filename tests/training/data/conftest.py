import json

import numpy as np
import pytest
import soundfile

FIELDS = {
    "lang": "en",
    "channels": {"far": 0, "near": 1},
    "label": "genuine",
    "topic": "bank",
    "consent": "written by us",
    "legal_basis": "no personal data",
    "source": "test tones",
    "licence": "Apache-2.0",
}


@pytest.fixture
def corpus(tmp_path):
    """``corpus([{...}, ...])``: recordings of tones and a manifest of them; returns its path."""

    def make(calls, seconds=4.0, name="calls.jsonl"):
        lines = []
        for number, call in enumerate(calls):
            audio = f"c{number}.wav"
            tone = np.random.default_rng(number).integers(-900, 900, (round(seconds * 8000), 2)).astype(np.int16)
            soundfile.write(tmp_path / audio, tone, 8000)
            lines.append(json.dumps({"id": f"c{number}", "audio_filepath": audio, **FIELDS, **call}))
        path = tmp_path / name
        path.write_text("\n".join(lines) + "\n")
        return path

    return make


@pytest.fixture
def run():
    """``run("validate", path)``: the command line; returns exit code and what it printed."""
    from typer.testing import CliRunner

    from training.data.command import app

    def go(*words):
        result = CliRunner().invoke(app, [str(word) for word in words])
        error = "" if result.exception is None or isinstance(result.exception, SystemExit) else str(result.exception)
        return result.exit_code, result.output + error

    return go
