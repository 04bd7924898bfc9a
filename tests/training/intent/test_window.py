"""Windows read as one text: the network learns, is the graph that is served, and goes on from what was shipped."""

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnxruntime
import pytest

torch = pytest.importorskip("torch")

from inference.errors import ConfigError  # noqa: E402
from inference.intent.context import pad_rows  # noqa: E402
from inference.intent.graph import build_intent  # noqa: E402
from training.intent.data import MAX_PIECES, Call, Piece, windows_of  # noqa: E402
from training.intent.encoders import Encoder, scratch_encoder  # noqa: E402
from training.intent.fit import FitConfig, fit  # noqa: E402
from training.intent.layers import LowerLayers  # noqa: E402
from training.intent.losses import run  # noqa: E402
from training.intent.prepare import Prepared, prepare  # noqa: E402
from training.intent.settings import load_training  # noqa: E402
from training.intent.version import window_tokenizer, write_head  # noqa: E402
from training.intent.window import WindowNetwork  # noqa: E402

NUM_TUNED = 2
CONFIG = FitConfig(
    epochs=30,
    num_tuned=NUM_TUNED,
    dropout=0.0,
    pieces_per_batch=16,
    layer_rate=2e-3,
    learning_rate=3e-3,
    act_weight=0.0,
)


def calls() -> list[Call]:
    """The far party's last words are the same in all: only what the near party said before tells the calls apart."""
    out = []
    for number in range(16):
        is_scam = number % 2 == 0
        before = "you said my savings are in danger" if is_scam else "i rang you about my new card"
        pieces = (
            Piece("far", f"hello this is the bank number {number}", 0, ("contact",)),
            Piece("near", before, 1),
            Piece("far", "please read me the number now", 2, ("ask",)),
        )
        out.append(
            Call(
                f"c{number}", "scripts", is_scam, "card_otp" if is_scam else None, "bank", f"c{number}", "train", pieces
            )
        )
    return out


@pytest.fixture(scope="module", autouse=True)
def exact() -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("SCAMTAP_FLOAT32", "1")
        torch.set_num_threads(1)
        yield


@pytest.fixture(scope="module")
def encoder(tmp_path_factory: pytest.TempPathFactory) -> Encoder:
    return scratch_encoder(calls(), tmp_path_factory.mktemp("encoder"), seed=0).read_as("window")


@pytest.fixture(scope="module")
def prepared(encoder: Encoder) -> list[Prepared]:
    lower = LowerLayers(encoder.tensors, encoder.shape, encoder.shape.num_layers - NUM_TUNED)
    return prepare(calls(), [1.0] * 16, lower, window_tokenizer(encoder.tokenizer, "window"), lambda _: None)


@pytest.fixture(scope="module")
def network(encoder: Encoder, prepared: list[Prepared]) -> WindowNetwork:
    return fit(encoder.tensors, encoder.shape, lambda _: prepared, CONFIG, lambda _text, _done: None)


def test_it_tells_apart_what_differs_in_what_was_said_before(network: WindowNetwork, prepared: list[Prepared]) -> None:
    with torch.no_grad():
        llr = run(network, prepared).llr.numpy()
    last = llr[1::2]  # two far utterances a call
    assert last[::2].min() > last[1::2].max()


def test_it_is_the_graph_that_is_served(
    encoder: Encoder, network: WindowNetwork, prepared: list[Prepared], tmp_path: Path
) -> None:
    head = tmp_path / "head.safetensors"
    write_head(head, encoder.frozen(NUM_TUNED, is_whole=False) | network.shipped())
    model = build_intent({}, head, "fp32", encoder.shape)
    session = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    tokenizer = window_tokenizer(encoder.tokenizer, "window")
    windows = [w for call in calls() for w in windows_of(call, MAX_PIECES) if w.current.leg == "far"]
    batch = pad_rows([tokenizer.window_ids(window) for window in windows])
    llr, families, stages = session.run(
        ["llr", "families", "stages"], {"input_ids": batch.input_ids, "part": batch.part}
    )
    with torch.no_grad():
        out = run(network, prepared)
    for served, trained in ((llr, out.llr), (families, out.families), (stages, out.stages)):
        np.testing.assert_allclose(served, trained.numpy(), atol=0.03)  # shipped, and states kept, in float16
    assert "acts" not in [output.name for output in session.get_outputs()]


def test_what_is_shipped_is_gone_on_from(encoder: Encoder, network: WindowNetwork, prepared: list[Prepared]) -> None:
    shipped = network.shipped()
    again = WindowNetwork({**encoder.tensors, **shipped}, encoder.shape, NUM_TUNED).eval()
    again.go_on_from(shipped)
    with torch.no_grad():
        for one, other in zip(run(network, prepared), run(again, prepared), strict=True):
            torch.testing.assert_close(one, other, rtol=0.02, atol=0.02)


def test_an_encoder_from_nothing_reads_utterances(encoder: Encoder) -> None:
    with pytest.raises(ConfigError, match="reads utterances"):
        prepare(calls(), [1.0] * 16, None, window_tokenizer(encoder.tokenizer, "window"), lambda _: None)
    assert load_training(None).changed("scratch", None, None, {}).reading == "utterances"


def test_another_encoder_reads_english_unless_more_is_said() -> None:
    settings = load_training(None)
    assert settings.changed(None, None, None, {}).languages == ("en", "zh")
    assert settings.changed("scratch", None, None, {}).languages == ("en", "zh")
    other = settings.changed("all-minilm-l6-v2", None, None, {})
    assert (other.languages, other.num_layers) == (("en",), None)
    assert settings.changed("a/b", None, ["zh"], {}).languages == ("zh",)


def test_the_settings_in_the_repository_are_those_built_in() -> None:
    assert load_training(Path(__file__).parents[3] / "configs" / "training.yaml") == load_training(None)


def test_what_a_file_of_settings_leaves_out_is_as_shipped(tmp_path: Path) -> None:
    path = tmp_path / "training.yaml"
    path.write_text("fit: {seed: 7}")
    assert load_training(path).fit == replace(load_training(None).fit, seed=7)
