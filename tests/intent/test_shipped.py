"""What is shipped under models/scam_intent*/1 belongs together, and works where the base weights were pulled."""

import hashlib
import json
from pathlib import Path

import pytest

from inference.engine.onnx import OnnxEngine
from inference.engine.sums import check_sums
from inference.errors import EngineError
from inference.intent.calibration import CALIBRATION_FILE, load_calibration
from inference.intent.context import ContextWindow, Said
from inference.intent.install import (
    HEAD_FILE,
    INTENT_MODEL,
    calibration_path,
    intent_models,
    joint_calibration,
    own_models,
    tokenizer_path,
)
from inference.intent.scorer import IntentScorer, open_judge
from inference.intent.scores import FAMILIES, STAGES
from inference.intent.versions import RECORD_FILE, read_record
from inference.verdict.verdict import VerdictConfig
from inference.weights.safetensors import read_safetensors

MODELS = Path(__file__).parents[2] / "models"
NAMES = intent_models(MODELS)

BLATANT = {
    "en": (
        ("Hello, it's Rachel from the bank, about a payment.", "Are you really the bank?"),
        "don't tell anyone at the branch, move your savings into the safe account and read me the code we sent",
        "we will never ask for a code, please hang up and call the number on the back of your card whenever you like",
    ),
    "zh": (
        ("您好,我是银行风控部的,您有一笔支付。", "你真是银行的吗?"),
        "这件事不要告诉任何人,现在把存款转到安全账户,再把收到的验证码念给我",
        "我们绝不会问您验证码,您可以先挂电话,打银行卡背面的电话核实,什么时候都行",
    ),
}
"""What was said before, what a scam asks, and how a genuine caller reassures."""


@pytest.fixture(params=NAMES)
def shipped(request: pytest.FixtureRequest) -> Path:
    """Version 1 of each intent model."""
    return MODELS / str(request.param) / "1"


def test_head_calibration_and_report_belong_together(shipped: Path) -> None:
    digest = hashlib.sha256((shipped / HEAD_FILE).read_bytes()).hexdigest()
    report = json.loads((shipped / "report.json").read_text())
    assert load_calibration(shipped / CALIBRATION_FILE).head_sha256 == digest
    assert report["training"]["model"]["head_sha256"] == report["calibration"]["head_sha256"] == digest
    assert report["training"]["data"]["scripts"]
    assert not any("switchboard" in name for name in report["training"]["data"]["outside"])


def test_the_head_is_no_whole_encoder_and_has_the_labels_of_this_code(shipped: Path) -> None:
    assert (shipped / HEAD_FILE).stat().st_size < 48_000_000
    head = read_safetensors(shipped / HEAD_FILE)
    assert head["head.families.weight"].shape[0] == len(FAMILIES)
    assert head["head.stages.weight"].shape[0] == len(STAGES)


def test_no_pickle_is_shipped(shipped: Path) -> None:
    assert not [p.name for p in shipped.iterdir() if p.suffix in (".pkl", ".pt", ".pth", ".bin", ".joblib", ".npy")]


def test_the_models_go_together_and_know_english_and_mandarin() -> None:
    assert set(BLATANT) <= set(joint_calibration(MODELS).languages)


@pytest.mark.parametrize("language", BLATANT)
def test_the_operating_point_is_usable(language: str) -> None:
    suspect, danger = VerdictConfig().calibrated(joint_calibration(MODELS)).thresholds(language)
    assert 0 < suspect <= danger <= VerdictConfig().ceiling_llr


@pytest.mark.parametrize("language", BLATANT)
def test_a_blatant_ask_tells_more_than_reassurance_which_speaks_for_a_genuine_call(language: str) -> None:
    engine = OnnxEngine(MODELS)
    try:
        judges = {
            name: open_judge(engine, name, tokenizer_path(MODELS, name), calibration_path(MODELS, name), 96)
            for name in NAMES
        }
    except EngineError:
        pytest.skip("the intent models are not built here; run: scamtap models pull")
    own = {code: judges[name] for code, name in own_models(MODELS).items()}
    scorer = IntentScorer(judges[INTENT_MODEL], None, own)
    (hello, doubt), *texts = BLATANT[language]
    before = (Said("far", hello), Said("near", doubt))
    ask, reassure = scorer.score([ContextWindow(Said("far", text), before, language) for text in texts])
    assert ask.llr > reassure.llr
    assert reassure.llr < 0
    assert ask.stages["ask"] > reassure.stages["ask"]
    engine.close()


def test_what_is_sealed_is_whole(shipped: Path) -> None:
    if not (shipped / RECORD_FILE).is_file():
        pytest.skip("not sealed here; run: scamtap models pull")
    check_sums(shipped, (HEAD_FILE, CALIBRATION_FILE, RECORD_FILE))
    assert read_record(shipped).head_sha256 == hashlib.sha256((shipped / HEAD_FILE).read_bytes()).hexdigest()
