"""Encoders of the user's own: a folder whose files are not what they should be is said in a line."""

import json

import numpy as np
import pytest

from inference.errors import ConfigError
from inference.weights.safetensors import write_safetensors
from training.intent.encoders import open_encoder

POINTER = "version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 1\n"


@pytest.mark.parametrize("name", ["config.json", "tokenizer.json"])
@pytest.mark.parametrize("content", [POINTER, "[]", "", "[" * 100_000, b"\xff\xfe"])
def test_a_file_that_is_no_json_is_named_with_the_remedy(tmp_path, name, content):
    for file in ("config.json", "tokenizer.json", "model.safetensors"):
        (tmp_path / file).write_text("{}")
    (tmp_path / name).write_bytes(content if isinstance(content, bytes) else content.encode())
    with pytest.raises(ConfigError) as error:
        open_encoder(str(tmp_path))
    assert str(error.value).startswith(f"{tmp_path / name}: is no JSON object; ")
    assert str(error.value).endswith("git lfs pull")


@pytest.mark.parametrize("heads", [None, "12", True])
def test_a_config_without_heads_is_none_of_bert(tmp_path, heads):
    shapes = dict.fromkeys(("embeddings.position_embeddings.weight", "encoder.layer.0.output.dense.weight"), (2, 2))
    with (tmp_path / "model.safetensors").open("wb") as file:
        write_safetensors(file, shapes, "float32", lambda name: np.zeros(shapes[name], np.float32))
    (tmp_path / "tokenizer.json").write_text("{}")
    (tmp_path / "config.json").write_text(json.dumps({"num_attention_heads": heads}))
    with pytest.raises(ConfigError, match="num_attention_heads: want a number"):
        open_encoder(str(tmp_path))
