"""`scamtap-train intent` killed for real in the middle of a pass: the same command goes on to the same model."""

import hashlib
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

pytest.importorskip("torch")

ROOT = Path(__file__).parents[3]
SETTINGS = """
encoder: scratch
reading: utterances
languages: [en]
fit: {epochs: 3, is_whole: true, pieces_per_batch: 24, layer_rate: 0.002, act_weight: 6.0, save_every: 2}
"""
CALL = """
- id: en-{label}-{number}
  label: {label}
  {family}
  topic: bank
  turns: |
    far [contact, claims_authority]: Hello, this is the bank about card number {number}.
    near [doubts]: Who is this please?
    far [{marks}]: {words}
"""


@pytest.fixture
def folder(tmp_path):
    """Sixty small calls and the settings of a run."""
    calls = []
    for number in range(60):
        scam = number % 2 == 0
        calls.append(
            CALL.format(
                label="scam" if scam else "genuine",
                number=number,
                family="family: card_otp" if scam else "manner: plain",
                marks="ask, credential" if scam else "reassure, warns_of_codes",
                words="Read me the code at once." if scam else "Take your time, we never ask for codes.",
            )
        )
    (tmp_path / "scripts").mkdir()
    (tmp_path / "scripts" / "bank.yaml").write_text("".join(calls))
    (tmp_path / "none").mkdir()
    (tmp_path / "none" / "none.jsonl").write_text("")
    (tmp_path / "settings.yaml").write_text(SETTINGS)
    return tmp_path


def command(folder, name):
    return [
        sys.executable, "-c", "from training.cli import main; main()", "intent",
        "--settings", folder / "settings.yaml", "--scripts", folder / "scripts", "--recognised", folder / "none",
        "--out", folder / name / "scam_intent" / "1", "--resume", folder / name / "run.safetensors",
        "--threads", "1", "--no-test", "--runs", folder / "runs",
    ]  # fmt: skip


def start(folder, name):
    environment = os.environ | {"SCAMTAP_FLOAT32": "1", "OMP_NUM_THREADS": "1"}
    return subprocess.Popen(
        list(map(str, command(folder, name))),
        cwd=ROOT,
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
    )


def finish(process):
    output, _ = process.communicate(timeout=600)
    assert process.returncode == 0, output.decode()[-3000:]


def step_of(path):
    """Steps done, by the file's header; 0 where there is no file."""
    if not path.exists():
        return 0
    content = path.read_bytes()
    return int(json.loads(content[8 : 8 + int.from_bytes(content[:8], "little")])["__metadata__"]["step"])


def model(folder, name):
    version = folder / name / "scam_intent" / "1"
    return {
        path: hashlib.sha256((version / path).read_bytes()).hexdigest()
        for path in ("head.safetensors", "calibration.json")
    }


@pytest.mark.slow
def test_killed_twice_it_ends_in_the_same_bytes(folder):
    whole = start(folder, "whole")
    finish(whole)
    path = folder / "killed" / "run.safetensors"
    steps = []
    for least in (2, 6):
        process = start(folder, "killed")
        while step_of(path) < least:
            assert process.poll() is None, process.communicate()[0].decode()[-3000:]
            time.sleep(0.01)
        process.send_signal(signal.SIGKILL)
        process.communicate()
        assert process.returncode == -signal.SIGKILL
        steps.append(step_of(path))
    assert 0 < steps[0] < steps[1]
    assert not (folder / "killed" / "scam_intent" / "1" / "head.safetensors").exists()
    finish(start(folder, "killed"))
    assert model(folder, "killed") == model(folder, "whole")
