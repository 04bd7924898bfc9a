"""What is shipped under models/scam_intent/1 belongs together, and works where the base weights were pulled."""

import hashlib
import json
from pathlib import Path

import pytest

from inference.engine.onnx import OnnxEngine
from inference.engine.sums import check_sums
from inference.errors import EngineError
from inference.intent.calibration import CALIBRATION_FILE, load_calibration
from inference.intent.context import ContextWindow, Said
from inference.intent.install import HEAD_FILE, INTENT_MODEL, calibration_path, tokenizer_path
from inference.intent.scorer import IntentScorer
from inference.intent.scores import FAMILIES, STAGES
from inference.intent.versions import RECORD_FILE, read_record
from inference.verdict.verdict import VerdictConfig
from inference.weights.safetensors import read_safetensors

MODELS = Path(__file__).parents[2] / "models"
SHIPPED = MODELS / INTENT_MODEL / "1"


def test_head_calibration_and_report_belong_together() -> None:
    digest = hashlib.sha256((SHIPPED / HEAD_FILE).read_bytes()).hexdigest()
    report = json.loads((SHIPPED / "report.json").read_text())
    assert load_calibration(calibration_path(MODELS)).head_sha256 == digest
    assert report["training"]["model"]["head_sha256"] == report["calibration"]["head_sha256"] == digest
    assert report["training"]["data"]["scripts"]
    assert not any("switchboard" in name for name in report["training"]["data"]["outside"])


def test_the_head_is_small_and_has_the_labels_of_this_code() -> None:
    assert (SHIPPED / HEAD_FILE).stat().st_size < 16_000_000
    head = read_safetensors(SHIPPED / HEAD_FILE)
    assert head["head.families.weight"].shape[0] == len(FAMILIES)
    assert head["head.stages.weight"].shape[0] == len(STAGES)


def test_no_pickle_is_shipped() -> None:
    assert not [p.name for p in SHIPPED.iterdir() if p.suffix in (".pkl", ".pt", ".pth", ".bin", ".joblib", ".npy")]


def test_the_operating_point_is_usable() -> None:
    suspect, danger = VerdictConfig().calibrated(calibration_path(MODELS)).thresholds()
    assert 0 < suspect <= danger <= VerdictConfig().ceiling_llr


def test_in_the_same_place_a_blatant_ask_tells_more_than_reassurance_which_speaks_for_a_genuine_call() -> None:
    try:
        engine = OnnxEngine(MODELS)
        scorer = IntentScorer(engine, tokenizer_path(MODELS), calibration_path(MODELS))
    except EngineError:
        pytest.skip("the intent model is not built here; run: scamtap models pull")
    before = (
        Said("far", "Hello, it's Rachel from the bank, about a payment."),
        Said("near", "Are you really the bank?"),
    )
    texts = (
        "don't tell anyone at the branch, move your savings into the safe account and read me the code we sent",
        "we will never ask for a code, please hang up and call the number on the back of your card whenever you like",
    )
    ask, reassure = scorer.score([ContextWindow(Said("far", text), before) for text in texts])
    assert ask.llr > reassure.llr
    assert reassure.llr < 0
    assert ask.stages["ask"] > reassure.stages["ask"]
    engine.close()


def test_what_is_sealed_is_whole() -> None:
    if not (SHIPPED / RECORD_FILE).is_file():
        pytest.skip("not sealed here; run: scamtap models pull")
    check_sums(SHIPPED, (HEAD_FILE, CALIBRATION_FILE, RECORD_FILE))
    assert read_record(SHIPPED).head_sha256 == hashlib.sha256((SHIPPED / HEAD_FILE).read_bytes()).hexdigest()
