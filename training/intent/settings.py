"""``configs/training.yaml``: which encoder is tuned, and how."""

import dataclasses
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator

from inference.errors import ConfigError
from inference.intent.encoder import EncoderShape, Reading
from training.intent.encoders import SCRATCH
from training.intent.fit import FitConfig

SHIPPED_FIT = FitConfig(epochs=2, num_tuned=4, layer_rate=1e-4, pieces_per_batch=96, stage_weight=2.0, act_weight=8.0)
"""The recipe of what is shipped."""


class TrainingSettings(BaseModel):
    """Settings of ``scamtap-train intent``.

    Attributes:
        encoder: what :func:`training.intent.encoders.open_encoder` takes: a locked encoder, a folder, a hub repository.
        num_layers: the lowest so many layers are used; None: all.
        reading: ``utterances``: each by itself, with acts; ``window``: what was said before and now as one text, dearer
            to train, without acts.
        languages: of the calls that are read; MiniLM knows English alone.
        fit: the recipe; what a file leaves out of it is as shipped.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    encoder: str = "multilingual-e5-small"
    num_layers: int | None = Field(default=8, ge=1, le=48)
    reading: Reading = "utterances"
    languages: tuple[str, ...] = Field(default=("en", "zh"), min_length=1)
    fit: FitConfig = SHIPPED_FIT

    @field_validator("fit", mode="before")
    @classmethod
    def _fill(cls, given: Any) -> Any:
        return dataclasses.asdict(SHIPPED_FIT) | given if isinstance(given, dict) else given

    def refuse_other(self, shape: EncoderShape, version: Path) -> None:
        """See that ``version``, of ``shape``, can be gone on from with these settings.

        Raises:
            ConfigError: it was tuned from another encoder, or reads otherwise.
        """
        was = (shape.artefact or self.encoder, shape.num_layers, shape.reading)
        want = (self.encoder, self.num_layers or shape.num_layers, self.reading)
        if was != want:
            raise ConfigError(
                f"{version}: is of {was[0]}, {was[1]} layers, {was[2]}, the settings of {want[0]}, {want[1]} layers, "
                f"{want[2]}; give --settings of the same"
            )

    def changed(
        self,
        encoder: str | None,
        num_layers: int | None,
        languages: Sequence[str] | None,
        fit: Mapping[str, Any],
    ) -> "TrainingSettings":
        """These settings with what is given on the command line.

        Another encoder has all of its layers used, and reads English alone where nothing else is said: nobody here
        knows what it knows. One from nothing learns whatever is there.
        """
        is_another = encoder not in (None, self.encoder)
        layers = None if is_another else self.num_layers
        known = ("en",) if is_another and encoder != SCRATCH else self.languages
        return TrainingSettings(
            encoder=encoder or self.encoder,
            num_layers=num_layers or layers,
            reading="utterances" if (encoder or self.encoder) == SCRATCH else self.reading,
            languages=tuple(languages or known),
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
