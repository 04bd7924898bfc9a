"""MPNet under BERT's names: on a made encoder, in transformers' own arithmetic, and out of a damaged archive."""

import json
import zipfile
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from inference.errors import WeightsError
from inference.weights.mpnet import ARCHIVE, DISTANCE_BIAS, FILES, bert_tensors, buckets_of, open_published
from inference.weights.safetensors import write_safetensors

WIDTH, HEADS, INNER, WORDS = 24, 2, 48, 30


def published() -> dict[str, np.ndarray]:
    """A small MPNet under its published names."""
    rng = np.random.default_rng(0)
    shapes = {
        "embeddings.word_embeddings.weight": (WORDS, WIDTH),
        "embeddings.position_embeddings.weight": (22, WIDTH),
        DISTANCE_BIAS: (32, HEADS),
        "pooler.dense.weight": (WIDTH, WIDTH),
    }
    norms = ["embeddings.LayerNorm"]
    for number in range(2):
        prefix = f"encoder.layer.{number}"
        sizes = {f"attention.attn.{name}": (WIDTH, WIDTH) for name in "qkvo"}
        sizes |= {"intermediate.dense": (INNER, WIDTH), "output.dense": (WIDTH, INNER)}
        for name, size in sizes.items():
            shapes |= {f"{prefix}.{name}.weight": size, f"{prefix}.{name}.bias": size[:1]}
        norms += [f"{prefix}.attention.LayerNorm", f"{prefix}.output.LayerNorm"]
    tensors = {name: rng.normal(0, 0.3, shape).astype(np.float32) for name, shape in shapes.items()}
    for name in norms:
        tensors[f"{name}.weight"] = rng.normal(1, 0.1, WIDTH).astype(np.float32)
        tensors[f"{name}.bias"] = rng.normal(0, 0.1, WIDTH).astype(np.float32)
    return tensors


def test_near_tokens_have_buckets_of_their_own_and_far_ones_share_one():
    row = buckets_of(300)[150]
    assert row[150:158].tolist() == [0, *range(17, 24)]
    assert row[143:151].tolist() == [7, 6, 5, 4, 3, 2, 1, 0]
    assert set(row[: 150 - 128]) == {15}
    assert set(row[150 + 128 :]) == {31}


@settings(deadline=None, max_examples=50)
@given(st.integers(1, 200))
def test_only_the_distance_counts(num_tokens):
    buckets = buckets_of(num_tokens)
    larger = buckets_of(num_tokens + 7)
    np.testing.assert_array_equal(buckets, larger[7:, 7:])
    np.testing.assert_array_equal(buckets, larger[:num_tokens, :num_tokens])


def test_names_are_berts_and_padding_has_no_positions():
    tensors = {name: load() for name, load in bert_tensors(published()).items()}
    assert tensors["embeddings.position_embeddings.weight"].shape == (20, WIDTH)
    assert "encoder.layer.1.attention.self.query.weight" in tensors
    assert "encoder.layer.1.attention.output.LayerNorm.bias" in tensors
    assert not [name for name in tensors if "attn" in name or "pooler" in name]


def test_another_encoder_is_refused():
    with pytest.raises(WeightsError, match="no MPNet"):
        bert_tensors({"embeddings.word_embeddings.weight": np.zeros((2, 2), np.float32)})


def put(folder: Path) -> dict[str, bytes]:
    """The published files, by name."""
    tensors = published()
    with (folder / "model.safetensors").open("wb") as file:
        write_safetensors(file, {name: t.shape for name, t in tensors.items()}, "float32", tensors.__getitem__)
    (folder / "config.json").write_text(json.dumps({"num_attention_heads": HEADS}))
    (folder / "tokenizer.json").write_text("{}")
    return {name: (folder / name).read_bytes() for name in FILES}


def test_the_archive_of_the_packages_and_the_files_of_the_hub_come_to_the_same(tmp_path):
    (hub := tmp_path / "hub").mkdir()
    (packages := tmp_path / "packages").mkdir()
    files = put(hub)
    with zipfile.ZipFile(packages / ARCHIVE, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in files.items():
            archive.writestr(f"all-mpnet-base-v2/{name}", content)
        archive.writestr("all-mpnet-base-v2/../../outside", b"not asked for")
    first, second = open_published(hub), open_published(packages)
    assert first.keys() == second.keys()
    for name, load in first.items():
        np.testing.assert_array_equal(load(), second[name]())
    assert sorted(path.name for path in packages.iterdir()) == sorted([ARCHIVE, *FILES])


@pytest.mark.parametrize("content", [b"", b"PK\x03\x04 no archive", b"x" * 100])
def test_a_damaged_archive_is_one_clear_line(content, tmp_path):
    (tmp_path / ARCHIVE).write_bytes(content)
    with pytest.raises(WeightsError, match="delete it and pull again") as error:
        open_published(tmp_path)
    assert "\n" not in str(error.value)


def test_an_archive_that_lacks_a_file_is_one_clear_line(tmp_path):
    with zipfile.ZipFile(tmp_path / ARCHIVE, "w") as archive:
        archive.writestr("all-mpnet-base-v2/config.json", "{}")
    with pytest.raises(WeightsError, match="not the archive expected"):
        open_published(tmp_path)


@pytest.mark.slow
def test_our_layers_compute_what_transformers_does(monkeypatch):
    torch = pytest.importorskip("torch", reason="torch is not installed")
    transformers = pytest.importorskip("transformers", reason="transformers is not installed")
    monkeypatch.setenv("SCAMTAP_FLOAT32", "1")
    from inference.intent.encoder import EncoderShape
    from training.intent.layers import LowerLayers

    config = transformers.MPNetConfig(
        vocab_size=WORDS,
        hidden_size=WIDTH,
        num_hidden_layers=2,
        num_attention_heads=HEADS,
        intermediate_size=INNER,
        max_position_embeddings=22,
    )
    theirs = transformers.MPNetModel(config, add_pooling_layer=False).eval()
    tensors = published()
    wanted = {name: torch.from_numpy(tensor) for name, tensor in tensors.items() if not name.startswith("pooler")}
    missing, unexpected = theirs.load_state_dict(wanted, strict=False)
    assert not unexpected
    assert all("position_ids" in name for name in missing)
    ours = LowerLayers(
        {name: load() for name, load in bert_tensors(tensors).items()},
        EncoderShape(artefact=None, num_layers=2, num_heads=HEADS, epsilon=config.layer_norm_eps),
        2,
    )
    ids = torch.tensor([[5, 9, 3, 7, 11, 2, 29, 8, 4, 6, 10, 12, 13, 14]])
    with torch.no_grad():
        want = theirs(ids).last_hidden_state
        padded = torch.cat([torch.cat([ids, ids[:, :4]], 1), torch.cat([ids[:, :3], torch.zeros(1, 15).long()], 1)])
        found = ours(padded, torch.tensor([14, 3]))
        short = theirs(ids[:, :3]).last_hidden_state
    np.testing.assert_allclose(found[0, :14], want[0], atol=1e-5)
    np.testing.assert_allclose(found[1, :3], short[0], atol=1e-5)
