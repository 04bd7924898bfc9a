"""The real weights, where they have been pulled: do transformers' models take them? Needs torch."""

import json

import numpy as np
import pytest

from inference.weights import file, open_tensors, status

pytestmark = pytest.mark.slow


def pulled(*names):
    """Skip where one of ``names`` is not here."""
    missing = [s.detail for s in status() if s.state != "ok" and s.name in names]
    if missing:
        pytest.skip(missing[0])


@pytest.fixture(autouse=True)
def whisper_pulled():
    pulled("whisper-base")


def expected_shapes(model):
    return {name: tuple(tensor.shape) for name, tensor in model.state_dict().items() if name != "proj_out.weight"}


def test_whisper_tensors_are_exactly_those_of_transformers():
    torch = pytest.importorskip("torch", reason="torch is not installed")
    transformers = pytest.importorskip("transformers", reason="transformers is not installed")
    sizes = dict.fromkeys(["encoder_layers", "decoder_layers"], 6) | dict.fromkeys(
        ["encoder_attention_heads", "decoder_attention_heads"], 8
    )
    config = transformers.WhisperConfig(
        vocab_size=51865, d_model=512, encoder_ffn_dim=2048, decoder_ffn_dim=2048, num_mel_bins=80, **sizes
    )
    with torch.device("meta"):
        model = transformers.WhisperForConditionalGeneration(config)
    assert {name: t.shape for name, t in open_tensors("whisper-base").items()} == expected_shapes(model)


def test_minilm_tensors_are_exactly_those_of_transformers():
    torch = pytest.importorskip("torch", reason="torch is not installed")
    transformers = pytest.importorskip("transformers", reason="transformers is not installed")
    pulled("all-minilm-l6-v2")
    text = file("all-minilm-l6-v2", "config.json").read_text()
    config = {k: v for k, v in json.loads(text).items() if k != "model_type"}
    with torch.device("meta"):
        model = transformers.BertModel(transformers.BertConfig(**config))
    assert {name: t.shape for name, t in open_tensors("all-minilm-l6-v2").items()} == expected_shapes(model)


def test_whisper_positions_are_the_sinusoids_of_its_paper():
    """openai/whisper ``model.py``, ``sinusoids``: computed here, so the tensor was neither permuted nor rescaled."""
    positions = open_tensors("whisper-base")["model.encoder.embed_positions.weight"]
    step = np.log(10_000) / (256 - 1)
    angles = np.arange(1500)[:, None] * np.exp(-step * np.arange(256))[None]
    want = np.concatenate([np.sin(angles), np.cos(angles)], axis=1).astype(np.float16)
    np.testing.assert_allclose(positions.astype(np.float32), want.astype(np.float32), atol=1e-3)
