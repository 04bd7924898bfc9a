"""``configs/training.yaml``: which encoder is tuned, and how."""

import dataclasses
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from inference.errors import ConfigError
from training.intent.fit import FitConfig


class TrainingSettings(BaseModel):
    """Settings of ``scamtap-train intent``.

    Attributes:
        encoder: what :func:`training.intent.encoders.open_encoder` takes: a locked encoder, a folder, a hub repository.
        num_layers: the lowest so many layers are used; None: all.
        fit: the recipe.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    encoder: str = "multilingual-e5-small"
    num_layers: int | None = Field(default=8, ge=1, le=48)
    fit: FitConfig = FitConfig()

    def changed(self, encoder: str | None, num_layers: int | None, fit: Mapping[str, Any]) -> "TrainingSettings":
        """These settings with what is given on the command line; another encoder has all of its layers used."""
        layers = self.num_layers if encoder in (None, self.encoder) else None
        return TrainingSettings(
            encoder=encoder or self.encoder,
            num_layers=num_layers or layers,
            fit=dataclasses.replace(self.fit, **fit),
        )


def load_training(path: Path | None) -> TrainingSettings:
    """Read the settings; the built-in ones for None.

    Raises:
        ConfigError: the file cannot be read or is malformed; names the field.
    """
    if path is None:
        return TrainingSettings()
    try:
        return TrainingSettings.model_validate(yaml.safe_load(path.read_text(encoding="utf-8")) or {})
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise ConfigError(f"{path}: cannot be read as YAML; see configs/training.yaml") from error
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
        where = ".".join(str(part) for part in first["loc"])
        raise ConfigError(f"{path}: {where}: {first['msg']}; see configs/training.yaml") from None
