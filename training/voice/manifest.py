"""Which calls were voiced, and how: a small YAML file in git that recreates recordings kept out of it.

scripts: scripts/en          # folder of call scripts, beside the manifest
calls:
  - {id: en-..., seed: 1, preset: telephone, voices: {far: am_eric, near: bf_alice}, speeds: {far: 1.0, near: 0.95},
     script_sha256: ...}
"""

import os
from pathlib import Path

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from inference.audio import LEGS, Leg
from inference.errors import ConfigError
from training.scripts import Script
from training.voice.call import script_hash
from training.voice.presets import Preset
from training.voice.recipe import Recipe, draw_recipe

_HEADER = """\
# Recreate with: scamtap-train voice --manifest THIS_FILE --out DIR
# Written by scamtap-train voice. Pauses and lines follow from the seed; voices and speeds are pinned here.
"""


class ManifestCall(BaseModel):
    """One recording.

    Attributes:
        name: file stem; the script's id if empty.
        script_sha256: of the words as they were voiced; other words make another recording.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    id: str
    name: str = Field(default="", pattern=r"^[a-z0-9-]*$")
    seed: int = Field(ge=0)
    preset: Preset = "telephone"
    voices: dict[Leg, str]
    speeds: dict[Leg, float]
    script_sha256: str = Field(pattern=r"^[0-9a-f]{64}$")

    @model_validator(mode="after")
    def _check(self) -> "ManifestCall":
        if set(self.voices) != set(LEGS) or set(self.speeds) != set(LEGS):
            raise ValueError("voices and speeds want one entry for each of far, near")
        if not all(0.5 <= speed <= 2 for speed in self.speeds.values()):
            raise ValueError("speeds lie between 0.5 and 2")
        return self

    @property
    def stem(self) -> str:
        """File name without its ending."""
        return self.name or self.id

    def recipe(self, script: Script) -> Recipe:
        """The recipe of this recording.

        Raises:
            ConfigError: a voice is reserved or unknown.
        """
        return draw_recipe(script, self.seed, self.preset, voices=self.voices, speeds=self.speeds)


class Manifest(BaseModel):
    """Recordings and the scripts they were read from."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    scripts: Path
    calls: tuple[ManifestCall, ...]

    @model_validator(mode="after")
    def _check(self) -> "Manifest":
        stems = [call.stem for call in self.calls]
        if twice := sorted({stem for stem in stems if stems.count(stem) > 1}):
            raise ValueError(f"{', '.join(twice)} would be written twice; give one of them a name")
        return self


def manifest_call(script: Script, recipe: Recipe) -> ManifestCall:
    """The entry that recreates ``recipe``."""
    return ManifestCall(
        id=script.id,
        seed=recipe.seed,
        preset=recipe.preset,
        voices=dict(recipe.voices),
        speeds=dict(recipe.speeds),
        script_sha256=script_hash(script),
    )


def load_manifest(path: Path) -> Manifest:
    """Read a manifest; its ``scripts`` folder is resolved against the manifest's own.

    Raises:
        ConfigError: missing or malformed; names file and field.
    """
    try:
        manifest = Manifest.model_validate(yaml.safe_load(path.read_text(encoding="utf-8")))
    except OSError as error:
        raise ConfigError(
            f"{path}: cannot be read ({error.strerror}); give a manifest such as datasets/dev.yaml"
        ) from error
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path}: not valid YAML; fix the file") from error
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(str(part) for part in first["loc"]) or "the whole file"
        raise ConfigError(f"{path}: {where}: {first['msg']}; fix the file") from error
    return manifest.model_copy(update={"scripts": path.parent / manifest.scripts})


def save_manifest(path: Path, scripts: Path, calls: tuple[ManifestCall, ...]) -> None:
    """Write a manifest beside which ``scripts`` is found again.

    Raises:
        ConfigError: it cannot be written.
    """
    relative = Path(os.path.relpath(scripts.resolve(), path.parent.resolve()))
    lines = [_HEADER, f"scripts: {relative.as_posix()}\n", "calls:\n"]
    for call in calls:
        entry = call.model_dump(exclude={"name"} if not call.name else None)
        flow = yaml.safe_dump(entry, default_flow_style=True, sort_keys=False, width=10_000).strip()
        lines.append(f"- {flow}\n")
    try:
        path.write_text("".join(lines), encoding="utf-8")
    except OSError as error:
        raise ConfigError(f"{path}: cannot be written ({error.strerror}); give another file") from error
