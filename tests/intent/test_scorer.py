"""From windows to calibrated scores, with an engine that answers what it is told."""

import hashlib
import json
from pathlib import Path

import numpy as np
import pytest
from tokenizers import Tokenizer, models

from inference.engine.base import Batch, ModelSpec, Tensor, TensorSpec
from inference.errors import EngineError, WeightsError
from inference.intent.acts import ACTS, FAR_ACTS, SUBSCRIBER_ACTS
from inference.intent.context import ContextWindow, Said
from inference.intent.scorer import IntentConfig, IntentScorer, open_judge
from inference.intent.scores import FAMILIES, STAGES
from inference.verdict.verdict import VerdictConfig

HEAD = hashlib.sha256(b"head").hexdigest()
WIDTH = 8


class FakeEngine:
    """Answers the same raw llr for every window, and remembers batch sizes."""

    def __init__(self, llr: float = 2.0, **metadata: str) -> None:
        self.llr = llr
        self.sizes: list[int] = []
        self.models: list[str] = []
        labels = {
            "reading": "utterances",
            "families": ",".join(FAMILIES),
            "stages": ",".join(STAGES),
            "acts": ",".join(ACTS),
        }
        self.metadata = labels | {"head_sha256": HEAD} | metadata

    def infer(self, model: str, batch: Batch) -> dict[str, Tensor]:
        self.models.append(model)
        size = len(batch["input_ids"])
        self.sizes.append(size)
        families = np.zeros((size, len(FAMILIES)), np.float32)
        families[:, 3] = 5
        stages = np.full((size, len(STAGES)), -200, np.float32)
        stages[:, 4] = 200
        out = {"llr": np.full(size, self.llr, np.float32), "families": families, "stages": stages}
        out["mean"] = np.zeros((size, WIDTH), np.float32)
        if self.metadata["acts"]:
            out["acts"] = np.full((size, len(ACTS)), -200, np.float32)
            out["acts"][:, [ACTS.index("secrecy"), ACTS.index("began_it")]] = 200
        return out

    def spec(self, model: str) -> ModelSpec:
        return ModelSpec(model, 1, (TensorSpec("before", "float32", (None, 6, WIDTH)),), (), self.metadata)

    def close(self) -> None: ...


@pytest.fixture
def tokenizer_path(tmp_path: Path) -> Path:
    path = tmp_path / "tokenizer.json"
    Tokenizer(models.WordLevel({"[UNK]": 0, "[CLS]": 1, "[SEP]": 2}, unk_token="[UNK]")).save(str(path))
    return path


@pytest.fixture
def calibration_path(tmp_path: Path) -> Path:
    path = tmp_path / "calibration.json"
    path.write_text(json.dumps(calibration()))
    return path


def calibration(**changes: object) -> dict[str, object]:
    point = {
        "suspect_llr": 2.0,
        "danger_llr": 4.0,
        "suspect_false_alarms": 0.05,
        "danger_false_alarms": 0.01,
        "num_genuine": 1,
    }
    stages = dict.fromkeys(STAGES, 0.5)
    good = {
        "head_sha256": HEAD,
        "languages": ["en"],
        "far_scale": 0.5,
        "far_bias": -0.25,
        "act_weights": dict.fromkeys(STAGES, 0.0) | {"ask": 1.0, "reassure": -1.0},
        "stage_thresholds": stages,
        "operating_point": point,
    }
    return good | changes


def window(text: str = "read me the code", leg: str = "far", language: str = "en") -> ContextWindow:
    return ContextWindow(Said(leg, text), (), language)  # type: ignore[arg-type]


def scorer_of(
    engine: FakeEngine, tokenizer_path: Path, calibration_path: Path, config: IntentConfig | None = None
) -> IntentScorer:
    return IntentScorer(open_judge(engine, "scam_intent", tokenizer_path, calibration_path, 96), config)


def with_own(engine: FakeEngine, tokenizer_path: Path, tmp_path: Path, **changes: object) -> IntentScorer:
    """A scorer that has a model of its own for Mandarin."""
    (tmp_path / "all.json").write_text(json.dumps(calibration()))
    (tmp_path / "zh.json").write_text(json.dumps(calibration(languages=["zh"], far_scale=1.0) | changes))
    judge = open_judge(engine, "scam_intent", tokenizer_path, tmp_path / "all.json", 96)
    own = open_judge(engine, "scam_intent_zh", tokenizer_path, tmp_path / "zh.json", 96)
    return IntentScorer(judge, IntentConfig(max_batch=4), {"zh": own})


def test_a_language_with_a_model_of_its_own_is_judged_by_it(tokenizer_path: Path, tmp_path: Path) -> None:
    engine = FakeEngine(2.0)
    scorer = with_own(engine, tokenizer_path, tmp_path)
    english, mandarin = window(), window("请把验证码念给我听", language="zh")
    scores = scorer.score([english, mandarin, english])
    assert [s.llr for s in scores] == pytest.approx([1.75, 2.75, 1.75])
    assert sorted(zip(engine.models, engine.sizes, strict=True)) == [("scam_intent", 2), ("scam_intent_zh", 1)]
    assert scorer.calibration.languages == ("en", "zh")


def test_a_language_of_its_own_brings_its_stage_thresholds(tokenizer_path: Path, tmp_path: Path) -> None:
    scorer = with_own(FakeEngine(), tokenizer_path, tmp_path, stage_thresholds=dict.fromkeys(STAGES, 0.9))
    config = VerdictConfig().calibrated(scorer.calibration)
    assert (config.shows("ask", "zh"), config.shows("ask", "en"), config.shows("ask")) == (0.9, 0.5, 0.5)


@pytest.mark.parametrize(
    ("of_all", "own", "by_hand", "expected"),
    [
        (None, 1.75, None, (None, 1.75)),
        (0.5, None, None, (0.5, None)),  # no bound in a language is said by its model, not taken from the other
        (0.5, 1.75, 3.0, (3.0, 3.0)),
    ],
)
def test_a_language_of_its_own_brings_its_bound_on_small_talk(
    of_all: float | None,
    own: float | None,
    by_hand: float | None,
    expected: tuple[float | None, float | None],
    tokenizer_path: Path,
    tmp_path: Path,
) -> None:
    made = with_own(FakeEngine(), tokenizer_path, tmp_path, bare_budget=own).calibration
    config = VerdictConfig(bare_budget=by_hand).calibrated(made.model_copy(update={"bare_budget": of_all}))
    assert (config.budget("en"), config.budget("zh")) == expected


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"languages": ["en"]}, "was not trained on it"),
        ({"act_floor": 0.25}, "counts acts"),
        ({"bare_limit": 0.5}, "counts acts"),
    ],
)
def test_models_that_do_not_go_together_are_refused(
    changes: dict[str, object], reason: str, tokenizer_path: Path, tmp_path: Path
) -> None:
    with pytest.raises(WeightsError, match=reason):
        with_own(FakeEngine(), tokenizer_path, tmp_path, **changes)


def test_another_calibration_of_any_model_is_another_fingerprint(tokenizer_path: Path, tmp_path: Path) -> None:
    one = with_own(FakeEngine(), tokenizer_path, tmp_path).fingerprint
    other = with_own(FakeEngine(), tokenizer_path, tmp_path, far_bias=-0.5).fingerprint
    assert one == with_own(FakeEngine(), tokenizer_path, tmp_path).fingerprint != other


def test_the_near_leg_shows_acts_and_has_no_ratio_of_its_own(tokenizer_path: Path, calibration_path: Path) -> None:
    scorer = scorer_of(FakeEngine(2.0), tokenizer_path, calibration_path)
    far, near = scorer.score([window(), window(leg="near")])
    assert (far.llr, near.llr) == pytest.approx((2.0 * 0.5 - 0.25 + 1.0, 0.0))
    assert sum(far.families.values()) == pytest.approx(1)
    assert max(far.families, key=lambda name: far.families[name]) == FAMILIES[3]
    assert far.stages["ask"] == pytest.approx(1)
    assert far.stages["contact"] == pytest.approx(0)


def test_acts_count_for_the_leg_whose_they_are(tokenizer_path: Path, tmp_path: Path) -> None:
    path = tmp_path / "calibration.json"
    weights = dict.fromkeys(STAGES, 0.0) | {"secrecy": 0.75, "began_it": -0.5}
    path.write_text(json.dumps(calibration(act_weights=weights, act_floor=0.5)))
    far, near = scorer_of(FakeEngine(0.0), tokenizer_path, path).score([window(), window(leg="near")])
    assert far.acts["secrecy"] == pytest.approx(1)
    assert set(far.acts) == set(FAR_ACTS)
    assert set(near.acts) == set(SUBSCRIBER_ACTS)
    assert (far.llr, near.llr) == pytest.approx((-0.25 + 0.75, -0.5))
    assert far.weighed is not None
    assert far.weighed.acts == pytest.approx({"ask": 0.0, "secrecy": 0.75})


def test_a_head_without_acts_is_read_as_one_that_shows_none(tokenizer_path: Path, calibration_path: Path) -> None:
    scores = scorer_of(FakeEngine(acts=""), tokenizer_path, calibration_path).score([window()])[0]
    assert scores.acts == {}
    assert scores.llr == pytest.approx(2.0 * 0.5 - 0.25 + 1.0)


@pytest.mark.parametrize("raw", [50.0, -50.0])
def test_no_utterance_counts_for_more_than_the_limit(raw: float, tokenizer_path: Path, calibration_path: Path) -> None:
    scorer = scorer_of(FakeEngine(raw), tokenizer_path, calibration_path, IntentConfig(llr_limit=2.5))
    assert abs(scorer.score([window()])[0].llr) == 2.5


@pytest.mark.parametrize(
    "item", [window("Yes."), window("mm-hm, okay"), window(""), window("请把钱转到安全账户", language="zh")]
)
def test_what_is_no_evidence_adds_exactly_nothing(
    item: ContextWindow, tokenizer_path: Path, calibration_path: Path
) -> None:
    assert scorer_of(FakeEngine(), tokenizer_path, calibration_path).score([item])[0].llr == 0.0


def test_a_broken_number_is_no_evidence(tokenizer_path: Path, calibration_path: Path) -> None:
    assert scorer_of(FakeEngine(np.nan), tokenizer_path, calibration_path).score([window()])[0].llr == 0.0


def test_many_windows_go_in_batches_and_none_in_none(tokenizer_path: Path, calibration_path: Path) -> None:
    engine = FakeEngine()
    scorer = scorer_of(engine, tokenizer_path, calibration_path, IntentConfig(max_batch=4))
    assert scorer.score([]) == []
    assert len(scorer.score([window()] * 10)) == 10
    assert engine.sizes == [4, 4, 2]


def test_a_calibration_of_another_head_is_refused(tokenizer_path: Path, calibration_path: Path) -> None:
    with pytest.raises(WeightsError, match="another head"):
        scorer_of(FakeEngine(head_sha256="f" * 64), tokenizer_path, calibration_path)


def test_a_model_with_other_labels_is_refused(tokenizer_path: Path, calibration_path: Path) -> None:
    with pytest.raises(EngineError, match="other labels"):
        scorer_of(FakeEngine(stages="a,b"), tokenizer_path, calibration_path)


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        ("{", "Invalid JSON"),
        (json.dumps(calibration(far_scale=-1)), "far_scale"),
        (json.dumps(calibration(surprise=1)), "surprise"),
        (json.dumps(calibration(stage_thresholds={"ask": 0.5})), "stage_thresholds lacks"),
        (json.dumps(calibration(act_weights=dict.fromkeys(STAGES, -1.0))), "wrong sign"),
        (json.dumps(calibration(act_weights=dict.fromkeys(STAGES, 0.0) | {"began_it": 0.1})), "wrong sign"),
        (json.dumps(calibration(act_weights=dict.fromkeys(STAGES, 0.0) | {"juggles": 0.1})), "unknown juggles"),
    ],
)
def test_bad_calibration_is_one_clear_line(content: str, reason: str, tokenizer_path: Path, tmp_path: Path) -> None:
    path = tmp_path / "bad.json"
    path.write_text(content)
    with pytest.raises(WeightsError, match=reason) as error:
        scorer_of(FakeEngine(), tokenizer_path, path)
    assert "\n" not in str(error.value)


def test_missing_files_say_what_to_do(tokenizer_path: Path, calibration_path: Path, tmp_path: Path) -> None:
    with pytest.raises(WeightsError, match="restore it"):
        scorer_of(FakeEngine(), tokenizer_path, tmp_path / "none.json")
    with pytest.raises(WeightsError, match="models pull"):
        scorer_of(FakeEngine(), tmp_path / "none.json", calibration_path)
