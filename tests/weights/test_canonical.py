"""What every source must come to: the same tensors, tokenizer and voices, byte for byte."""

import io
import json
import struct

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tokenizers import Tokenizer

from inference.errors import WeightsError
from inference.weights import load_lock
from inference.weights.canonical import VOICE_SHAPE, cast, prepare
from inference.weights.safetensors import read_safetensors
from inference.weights.tokenizer import read_json, whisper_tokenizer


@settings(deadline=None, max_examples=300)
@given(st.floats(width=32, allow_nan=False, min_value=-65504, max_value=65504))
def test_float32_rounds_to_nearest_even_as_ieee_754_says(value):
    want = struct.pack("<e", value)  # the interpreter's own rounding, independent of NumPy's
    assert cast(np.array(value, np.float32), "float16").tobytes() == want


def test_halves_round_to_even_and_every_float16_survives_being_widened():
    assert cast(np.float32([2049, 2051, 65519]), "float16").tolist() == [2048, 2052, 65504]
    every = np.arange(1 << 16, dtype=np.uint16).view(np.float16)
    every = every[np.isfinite(every)]
    assert cast(every.astype(np.float32), "float16").tobytes() == every.tobytes()


def test_tensors_that_are_not_floats_are_refused():
    with pytest.raises(WeightsError, match="holds int8, not floats"):
        cast(np.zeros(2, np.int8), "float16")


def test_two_spellings_of_a_tokenizer_come_to_the_same_bytes(made):
    first, added = whisper_tokenizer(json.loads(made.tokenizer(spelling="hub")))
    second, _ = whisper_tokenizer(json.loads(made.tokenizer(spelling="wheel")))
    assert made.tokenizer(spelling="hub") != made.tokenizer(spelling="wheel")
    assert first == second
    assert added["<|en|>"] == 7
    again, _ = whisper_tokenizer(json.loads(first))
    assert again == first


def test_the_canonical_tokenizer_encodes_and_decodes(made):
    text, _ = whisper_tokenizer(json.loads(made.tokenizer(spelling="wheel")))
    tokenizer = Tokenizer.from_str(text.decode())
    assert tokenizer.encode("ab ab", add_special_tokens=False).ids == [3, 4]
    assert tokenizer.encode("ab").tokens == ["<|startoftranscript|>", "<|notimestamps|>", "ab", "<|endoftext|>"]
    assert tokenizer.decode([6, 7, 3, 4, 5]) == "ab ab"


@pytest.mark.parametrize(
    "broken",
    [
        {},
        {"model": {"vocab": [], "merges": []}, "added_tokens": []},
        {"model": {"vocab": {}, "merges": []}, "added_tokens": []},
        {"model": {"vocab": {"a": None}, "merges": []}, "added_tokens": []},
        {"model": {"vocab": {}, "merges": ["a b c"]}, "added_tokens": []},
        {"model": {"vocab": {}, "merges": [7]}, "added_tokens": []},
        {"model": None, "added_tokens": 3},
    ],
)
def test_another_tokenizer_is_refused(broken):
    with pytest.raises(WeightsError, match=r"tokenizer.json is not a Whisper tokenizer"):
        whisper_tokenizer(broken)


@pytest.mark.parametrize("content", [b"", b"[]", b"\xff", b"[" * 100_000])
def test_json_that_is_no_object_is_refused(tmp_path, content):
    (tmp_path / "x.json").write_bytes(content)
    with pytest.raises(WeightsError, match=r"x.json is not"):
        read_json(tmp_path / "x.json")


@pytest.mark.parametrize("key", ["alignment_heads", "lang_ids", "suppress_ids", "suppress_ids_begin"])
def test_a_ct2_configuration_that_lacks_a_list_is_refused(tiny, tmp_path, key):
    config = json.loads(tiny.ct2["config.json"])
    del config[key]
    folder = tiny.write(tiny.ct2 | {"config.json": json.dumps(config).encode()}, tmp_path)
    with pytest.raises(WeightsError, match=f"lacks or garbles '{key}'"):
        prepare(load_lock().artefact("whisper-base"), folder)


@pytest.mark.parametrize("value", [None, 3, {}, {"lang_to_id": [], "alignment_heads": []}])
def test_a_hub_configuration_that_lacks_a_list_is_refused(tiny, tmp_path, value):
    folder = tiny.write(tiny.hub | {"generation_config.json": json.dumps(value).encode()}, tmp_path)
    with pytest.raises(WeightsError, match=r"generation_config.json"):
        prepare(load_lock().artefact("whisper-base"), folder)


def test_buffers_that_are_no_weights_are_left_out_of_minilm(made, tmp_path):
    model = made.safetensors_bytes(
        {"embeddings.position_ids": np.zeros((1, 3), np.float32), "w": np.ones(2, np.float32)}
    )
    for name, data in {"model.safetensors": model, "tokenizer.json": b"{}", "config.json": b"{}"}.items():
        (tmp_path / name).write_bytes(data)
    material = prepare(load_lock().artefact("all-minilm-l6-v2"), tmp_path)
    assert list(material.tensors) == ["w"]
    np.testing.assert_array_equal(material.tensors["w"](), read_safetensors(tmp_path / "model.safetensors")["w"])
    (tmp_path / "config.json").unlink()
    with pytest.raises(WeightsError, match=r"config.json is missing beside the weights"):
        prepare(load_lock().artefact("all-minilm-l6-v2"), tmp_path)


def test_kokoro_voices_become_one_npz_that_numpy_reads(tmp_path):
    rng = np.random.default_rng(1)
    voices = {name: rng.standard_normal(VOICE_SHAPE).astype("<f4") for name in ("bf_emma", "af_heart")}
    (tmp_path / "model.onnx").write_bytes(b"onnx")
    for name, voice in voices.items():
        (tmp_path / f"{name}.voice").write_bytes(voice.tobytes())
    content = prepare(load_lock().artefact("kokoro-82m"), tmp_path).files["voices.npz"]
    loaded = np.load(io.BytesIO(content))
    assert loaded.files == ["af_heart", "bf_emma"]
    for name, voice in voices.items():
        np.testing.assert_array_equal(loaded[name], voice, strict=True)
    assert prepare(load_lock().artefact("kokoro-82m"), tmp_path).files["voices.npz"] == content
    (tmp_path / "af_heart.voice").write_bytes(b"short")
    with pytest.raises(WeightsError, match="voice af_heart has 5 bytes, expected 522240"):
        prepare(load_lock().artefact("kokoro-82m"), tmp_path)
