"""The intent graph, on a made encoder: shapes, refusals, independence of the batch; parity with torch where it is."""

from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import onnxruntime as ort
import pytest

from inference.engine.graph import Precision
from inference.errors import WeightsError
from inference.intent.context import CONTEXT_UTTERANCES, pad_rows
from inference.intent.encoder import EncoderShape
from inference.intent.graph import (
    HIDDEN,
    LABELS,
    LLR_LIMIT,
    LOOK,
    LOOK_DENSE,
    LOOK_NORMS,
    LOOK_READS,
    MAX_UTTERANCES,
    build_intent,
)
from inference.intent.scores import FAMILIES, STAGES
from inference.weights.safetensors import write_safetensors

VOCABULARY, POSITIONS, WIDTH, NUM_LAYERS = 40, 24, 384, 6
ENCODER = EncoderShape(artefact=None, num_layers=NUM_LAYERS)
Tensors = dict[str, npt.NDArray[Any]]
LINEARS = {
    "attention.self.query": (WIDTH, WIDTH),
    "attention.self.key": (WIDTH, WIDTH),
    "attention.self.value": (WIDTH, WIDTH),
    "attention.output.dense": (WIDTH, WIDTH),
    "intermediate.dense": (4 * WIDTH, WIDTH),
    "output.dense": (WIDTH, 4 * WIDTH),
}


@pytest.fixture(scope="module")
def base() -> Tensors:
    rng = np.random.default_rng(0)

    def normal(*shape: int) -> npt.NDArray[np.float32]:
        return rng.normal(0, 0.04, shape).astype(np.float32)

    def norm(prefix: str) -> Tensors:
        return {f"{prefix}.LayerNorm.weight": 1 + normal(WIDTH), f"{prefix}.LayerNorm.bias": normal(WIDTH)}

    tensors: Tensors = {
        "embeddings.word_embeddings.weight": normal(VOCABULARY, WIDTH),
        "embeddings.position_embeddings.weight": normal(POSITIONS, WIDTH),
        "embeddings.token_type_embeddings.weight": normal(2, WIDTH),
        **norm("embeddings"),
    }
    for number in range(NUM_LAYERS):
        prefix = f"encoder.layer.{number}"
        for name, shape in LINEARS.items():
            tensors |= {f"{prefix}.{name}.weight": normal(*shape), f"{prefix}.{name}.bias": normal(shape[0])}
        tensors |= norm(f"{prefix}.attention.output") | norm(f"{prefix}.output")
    return tensors


def head_tensors(scale: float = 0.1) -> Tensors:
    rng = np.random.default_rng(1)
    sizes = {"hidden": (HIDDEN, 2 * WIDTH + LOOK), "llr": (1, HIDDEN)}
    sizes |= {f"look.{name}": (LOOK, WIDTH) for name in LOOK_READS}
    sizes |= {f"look.{name}": shape for name, shape in LOOK_DENSE.items()}
    sizes |= {name: (len(labels), HIDDEN) for name, labels in LABELS.items()}
    out: Tensors = {"head.look.age": rng.normal(0, scale, (MAX_UTTERANCES, LOOK)).astype(np.float16)}
    for name, shape in sizes.items():
        out[f"head.{name}.weight"] = rng.normal(0, scale, shape).astype(np.float16)
        out[f"head.{name}.bias"] = rng.normal(0, scale, shape[0]).astype(np.float16)
    for name in LOOK_NORMS:
        out[f"head.look.{name}.weight"] = rng.normal(1, scale, LOOK).astype(np.float16)
        out[f"head.look.{name}.bias"] = rng.normal(0, scale, LOOK).astype(np.float16)
    return out


def write(path: Path, tensors: Tensors) -> Path:
    with path.open("wb") as file:
        write_safetensors(file, {n: t.shape for n, t in tensors.items()}, "float16", lambda name: tensors[name])
    return path


@pytest.fixture(scope="module")
def head(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write(tmp_path_factory.mktemp("head") / "head.safetensors", head_tensors())


UTTERANCES = [[[2, 7, 8, 9, 3], [2, 5, 6, 3]], [[2, 11, 3]], [[2, 30, 31, 3], [2, *range(10, 24), 3], [2, 5, 3]]]
"""Windows as utterances, the current one first."""


def rows() -> list[list[list[int]]]:
    return UTTERANCES


def session_of(base: Tensors, head: Path, precision: Precision) -> Any:
    options = ort.SessionOptions()
    options.intra_op_num_threads = 1
    model = build_intent(base, head, precision, ENCODER).SerializeToString()
    return ort.InferenceSession(model, options, providers=["CPUExecutionProvider"])


def ask(session: Any, batch: list[tuple[list[int], list[int]]], **more: Any) -> Tensors:
    tokens = pad_rows(batch)
    names = [output.name for output in session.get_outputs()]
    given = {"input_ids": tokens.input_ids, "part": tokens.part, **more}
    return dict(zip(names, session.run(None, given), strict=True))


def run(session: Any, windows: list[list[list[int]]]) -> Tensors:
    """Outputs for windows of utterances, the current one first: those before it are encoded first, then given."""
    means = np.zeros((len(windows), CONTEXT_UTTERANCES, WIDTH), np.float32)
    for row, window in enumerate(windows):
        for place, ids in enumerate(window[1:]):
            nothing = np.full((1, CONTEXT_UTTERANCES, WIDTH), 9, np.float32)  # not looked at
            out = ask(session, [(ids, [1] * len(ids))], before=nothing, num_before=np.zeros(1, np.int64))
            means[row, place] = out["mean"][0]
    counts = np.array([len(window) - 1 for window in windows], np.int64)
    return ask(session, [(w[0], [1] * len(w[0])) for w in windows], before=means, num_before=counts)


@pytest.fixture(scope="module")
def sessions(base: Tensors, head: Path) -> dict[str, Any]:
    return {"fp32": session_of(base, head, "fp32"), "int8": session_of(base, head, "int8")}


def test_outputs_and_their_bounds(sessions: dict[str, Any]) -> None:
    out = run(sessions["fp32"], rows())
    assert out["llr"].shape == (3,)
    assert out["families"].shape == (3, len(FAMILIES))
    assert out["stages"].shape == (3, len(STAGES))
    assert np.abs(out["llr"]).max() <= LLR_LIMIT
    assert len({round(float(value), 4) for value in out["llr"]}) == 3


@pytest.mark.parametrize("precision", ["fp32", "int8"])
def test_a_window_s_scores_do_not_depend_on_its_neighbours(sessions: dict[str, Any], precision: str) -> None:
    together = run(sessions[precision], rows())
    for index, row in enumerate(rows()[:2]):
        alone = run(sessions[precision], [row])
        for name in ("llr", *LABELS):
            np.testing.assert_allclose(together[name][index], alone[name][0], atol=1e-3)


def test_int8_is_close_to_fp32(sessions: dict[str, Any]) -> None:
    exact, small = run(sessions["fp32"], rows()), run(sessions["int8"], rows())
    for name in LABELS:
        spread = float(exact[name].std())
        assert np.sqrt(np.mean((small[name] - exact[name]) ** 2)) < 0.1 * spread


def test_int8_keeps_what_tells_texts_apart_where_all_lie_in_a_narrow_cone(base: Tensors, tmp_path: Path) -> None:
    # As a trained head is shipped: centre and spread of what it reads are folded into its weights.
    rng = np.random.default_rng(3)
    spread, centre = 0.02, rng.normal(0, 2, WIDTH)
    tensors = head_tensors(0.05)
    tensors |= {
        "encoder.layer.5.output.LayerNorm.weight": np.full(WIDTH, spread, np.float16),
        "encoder.layer.5.output.LayerNorm.bias": centre.astype(np.float16),
    }
    read = np.concatenate([centre, centre])
    weight = tensors["head.hidden.weight"].astype(np.float64)
    weight[:, : 2 * WIDTH] /= spread
    bias = tensors["head.hidden.bias"] - weight[:, : 2 * WIDTH] @ read
    tensors |= {"head.hidden.weight": weight.astype(np.float16), "head.hidden.bias": bias.astype(np.float16)}
    path = write(tmp_path / "head.safetensors", tensors)
    exact, small = (run(session_of(base, path, precision), rows()) for precision in ("fp32", "int8"))
    for name in LABELS:
        differences = exact[name] - exact[name].mean(0)
        error = small[name] - exact[name]
        assert np.sqrt(np.mean((error - error.mean(0)) ** 2)) < 0.25 * float(differences.std())


def test_a_tuned_layer_of_the_head_replaces_the_published_one(
    base: Tensors, sessions: dict[str, Any], tmp_path: Path
) -> None:
    name = "encoder.layer.5.output.dense.weight"
    tuned = head_tensors() | {name: (base[name] * 3).astype(np.float16)}
    changed = run(session_of(base, write(tmp_path / "head", tuned), "fp32"), rows())
    assert np.abs(run(sessions["fp32"], rows())["stages"] - changed["stages"]).max() > 1e-2


def test_missing_and_misshapen_tensors_are_refused(base: Tensors, tmp_path: Path) -> None:
    tensors = head_tensors()
    del tensors["head.llr.bias"]
    with pytest.raises(WeightsError, match=r"head\.llr\.bias is missing"):
        build_intent(base, write(tmp_path / "a", tensors), "fp32", ENCODER)
    wide = head_tensors() | {"head.llr.weight": np.zeros((2, HIDDEN), np.float16)}
    with pytest.raises(WeightsError, match="base and head disagree"):
        build_intent(base, write(tmp_path / "b", wide), "fp32", ENCODER)
    with pytest.raises(WeightsError, match="position_embeddings"):
        build_intent({}, write(tmp_path / "c", head_tensors()), "fp32", ENCODER)


def test_an_utterance_is_encoded_by_itself_and_its_place_counts(base: Tensors, tmp_path: Path) -> None:
    """What comes before matters through attention over whole utterances; their order matters too."""
    first, second, third = UTTERANCES[2]
    made = [[first, second, third], [first, third, second], [first]]
    # Small weights, so that the look back is no hard choice of one.
    acts = run(session_of(base, write(tmp_path / "mild", head_tensors(0.05)), "fp32"), made)["acts"]
    assert min(np.abs(acts[i] - acts[j]).max() for i, j in ((0, 1), (0, 2), (1, 2))) > 1e-4


def test_a_head_of_an_earlier_training_reads_the_window_as_one_text(base: Tensors, tmp_path: Path) -> None:
    old = {name: tensor for name, tensor in head_tensors(0.05).items() if "acts" not in name and "look" not in name}
    old["head.hidden.weight"] = old["head.hidden.weight"][:, : 2 * WIDTH]
    window = ENCODER.model_copy(update={"reading": "window"})
    model = build_intent(base, write(tmp_path / "old", old), "fp32", window)
    session = ort.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    ids, parts = [2, 7, 8, 3, 9, 10, 3], [1, 1, 1, 1, 2, 2, 2]
    together = ask(session, [(ids, parts), ([2, 3, 11, 3], [1, 1, 2, 2])])
    assert set(together) == {"llr", "families", "stages"}
    alone = ask(session, [(ids, parts)])
    np.testing.assert_allclose(together["stages"][0], alone["stages"][0], atol=1e-4)
    turned = ask(session, [([2, 8, 7, 3, 9, 10, 3], parts)])
    assert np.abs(turned["stages"] - alone["stages"]).max() > 1e-4


def test_a_head_of_an_earlier_version_is_refused(base: Tensors, tmp_path: Path) -> None:
    old = {name: tensor for name, tensor in head_tensors().items() if name != "head.look.current.weight"}
    with pytest.raises(WeightsError, match="train it again"):
        build_intent(base, write(tmp_path / "head", old), "int8", ENCODER)


def test_fewer_layers_may_be_used(base: Tensors, head: Path) -> None:
    shallow = ENCODER.model_copy(update={"num_layers": 2})
    small, whole = (build_intent(base, head, "int8", encoder) for encoder in (shallow, ENCODER))
    assert len(small.graph.node) < len(whole.graph.node) - 60


@pytest.mark.slow
@pytest.mark.parametrize("has_distances", [False, True])
def test_torch_and_graph_are_the_same_network(
    has_distances: bool, base: Tensors, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    if has_distances:  # as MPNet has it; large, so that what is not added shows
        bias = np.random.default_rng(3).normal(0, 2, (32, ENCODER.num_heads)).astype(np.float32)
        plain = {name: tensor for name, tensor in base.items() if "token_type" not in name}
        base = {**plain, "encoder.relative_attention_bias.weight": bias}
    torch = pytest.importorskip("torch")
    monkeypatch.setenv("SCAMTAP_FLOAT32", "1")
    from training.intent.layers import LowerLayers, pad_ids
    from training.intent.network import IntentNetwork

    torch.manual_seed(0)
    network = IntentNetwork(base, ENCODER, num_tuned=2).eval()
    with torch.no_grad():  # nothing is left at 0 or 1, where a mistake would not show
        network.look.age.normal_()
        for norm in network.look.norms.values():
            norm.weight.normal_(1, 0.3)
            norm.bias.normal_(0, 0.3)
        network.centre.normal_(0, 0.3)
        network.spread.uniform_(0.5, 2)
    out = run(session_of(base, write(tmp_path / "head", dict(network.shipped())), "fp32"), rows())
    flat = [utterance for window in UTTERANCES for utterance in window]
    ids, lengths = pad_ids(flat)
    members = torch.full((len(UTTERANCES), MAX_UTTERANCES), -1)
    at = 0
    for row, window in enumerate(UTTERANCES):
        members[row, : len(window)] = torch.arange(at, at + len(window))
        at += len(window)
    with torch.no_grad():
        outputs = network(LowerLayers(base, ENCODER, NUM_LAYERS - 2)(ids, lengths), lengths, members)
    for name in ("llr", *LABELS):
        np.testing.assert_allclose(out[name], getattr(outputs, name).numpy(), atol=5e-3)
