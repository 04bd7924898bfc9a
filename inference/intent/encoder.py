"""Which published encoder an intent model was tuned from; lies beside the model as encoder.json."""

from pathlib import Path
from typing import Literal, TypeAlias

from pydantic import BaseModel, ConfigDict, Field

from inference.engine.repository import read_beside

ENCODER_FILE = "encoder.json"

Reading: TypeAlias = Literal["utterances", "window"]
"""How a window is read: each utterance by itself, or all of it as one text (as the shipped model does)."""


class EncoderShape(BaseModel):
    """A BERT-like encoder (Devlin et al. 2019), as many of its layers as are used.

    Attributes:
        artefact: name in ``inference/weights/lock.json``; None where head.safetensors holds the whole encoder and
            tokenizer.json lies beside it (one of the user's own).
        num_layers: the lowest so many; those above are left out.
        num_heads: attention heads per layer.
        epsilon: of layer norm.
        reading: how windows are read.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    artefact: str | None
    num_layers: int = Field(ge=1, le=48)
    num_heads: int = Field(default=12, ge=1, le=64)
    epsilon: float = Field(default=1e-12, gt=0, lt=1e-3)
    reading: Reading = "utterances"


def load_encoder(path: Path) -> EncoderShape:
    """Read encoder.json.

    Raises:
        WeightsError: it is missing or malformed.
    """
    return read_beside(path, EncoderShape)
