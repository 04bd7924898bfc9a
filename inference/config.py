"""All settings, composed from each stage's own: a YAML file, then ``SCAMTAP_...`` environment variables over it."""

import difflib
import os
from pathlib import Path
from typing import Annotated, Any, Literal, Self, get_args, get_origin

import yaml
from pydantic import BaseModel, ConfigDict, StringConstraints, ValidationError, model_validator
from pydantic_settings import BaseSettings, PydanticBaseSettingsSource, SettingsConfigDict, SettingsError

from inference.alerts.config import AlertsConfig
from inference.alerts.ears.open import WarningsConfig
from inference.audio.segmenter import SegmenterConfig
from inference.engine.open import EngineConfig
from inference.errors import ConfigError
from inference.gateway.open import GatewaysConfig
from inference.gateway.spec import CallSpec
from inference.intent.scorer import IntentConfig
from inference.opinion.config import OpinionConfig
from inference.rtp.plane import PlaneConfig
from inference.screening.config import ScreeningConfig
from inference.service.api import ApiConfig
from inference.service.kept import TranscriptsConfig
from inference.service.renewal import RenewalConfig
from inference.service.watch import WatchConfig
from inference.speech.gate import CascadeConfig
from inference.speech.recogniser import MAX_WINDOW_S, RecogniserConfig
from inference.verdict.verdict import VerdictConfig

IN_PROCESS = "onnx"
"""What the command line calls the engine that needs no server."""


class PrivacyConfig(BaseModel):
    """Why this installation may listen.

    Attributes:
        legal_basis: the operator's own words, e.g. 'subscriber opted in, contract 4.2'. Without it nothing is analysed.
        transcripts: whether what was said is kept for labelling; by default it is not.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    legal_basis: Annotated[str, StringConstraints(strip_whitespace=True, min_length=3)] | None = None
    transcripts: TranscriptsConfig = TranscriptsConfig()


class LogConfig(BaseModel):
    """How the service logs; never what was said."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    level: Literal["debug", "info", "warning", "error"] = "info"
    json_lines: bool = False


class Settings(BaseSettings):
    """The whole configuration. Every field has a default but ``privacy.legal_basis``."""

    model_config = SettingsConfigDict(
        extra="forbid",
        frozen=True,
        env_prefix="SCAMTAP__",
        env_nested_delimiter="__",
        nested_model_default_partial_update=True,
    )

    privacy: PrivacyConfig = PrivacyConfig()
    models_dir: Path | None = None
    media: PlaneConfig = PlaneConfig()
    segmenter: SegmenterConfig = SegmenterConfig()
    engine: EngineConfig = EngineConfig()
    speech: RecogniserConfig = RecogniserConfig()
    cascade: CascadeConfig = CascadeConfig()
    intent: IntentConfig = IntentConfig()
    opinion: OpinionConfig = OpinionConfig()
    verdict: VerdictConfig = VerdictConfig()
    alerts: AlertsConfig = AlertsConfig()
    warnings: WarningsConfig = WarningsConfig()
    watch: WatchConfig = WatchConfig()
    renewal: RenewalConfig = RenewalConfig()
    api: ApiConfig = ApiConfig()
    log: LogConfig = LogConfig()
    gateways: GatewaysConfig = GatewaysConfig()
    screening: ScreeningConfig = ScreeningConfig()
    calls: tuple[CallSpec, ...] = ()

    @model_validator(mode="after")
    def _segments_fit_the_recogniser(self) -> Self:
        lengths_s = {
            "segmenter.max_segment_s": self.segmenter.max_segment_s,
            "watch.scheduler.due.max_joined_s": self.watch.scheduler.due.max_joined_s,
        }
        for name, length_s in lengths_s.items():
            longest_s = length_s + self.speech.silence_s + self.speech.window_step_s
            if longest_s > MAX_WINDOW_S:
                raise ValueError(
                    f"{name} + speech.silence_s + speech.window_step_s is {longest_s:g} s, "
                    f"and must not exceed {MAX_WINDOW_S:g}"
                )
        return self

    @model_validator(mode="after")
    def _calls_find_legs(self) -> Self:
        if "max_calls" in self.watch.model_fields_set and 2 * self.watch.max_calls > self.media.max_legs:
            raise ValueError(
                f"watch.max_calls {self.watch.max_calls} needs media.max_legs {2 * self.watch.max_calls}, two a call; "
                f"it is {self.media.max_legs}"
            )
        return self

    @model_validator(mode="after")
    def _latched_streams_find_ports(self) -> Self:
        siprec = self.gateways.siprec
        if siprec is not None and siprec.latch and not self.media.exclusive_ports:
            raise ValueError("gateways.siprec.latch needs media.exclusive_ports: each stream gets a port of its own")
        return self

    @classmethod
    def settings_customise_sources(  # the names are the library's
        cls,
        settings_cls: type[BaseSettings],  # noqa: ARG003
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,  # noqa: ARG003
        file_secret_settings: PydanticBaseSettingsSource,  # noqa: ARG003
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        """The environment wins over the file, so that secrets need not stand in it."""
        return env_settings, init_settings


def with_engine(settings: Settings, engine: str | None) -> Settings:
    """``settings`` with the engine that the command line asks for, if it does.

    Raises:
        ConfigError: it is not an engine's URL.
    """
    if engine is None:
        return settings
    values = {**settings.engine.model_dump(), "url": None if engine == IN_PROCESS else engine}
    try:
        return settings.model_copy(update={"engine": EngineConfig.model_validate(values)})
    except ValidationError as error:
        why = error.errors(include_url=False, include_input=False)[0]["msg"].removeprefix("Value error, ")
        raise ConfigError(f"--engine {IN_PROCESS} or a URL: {why}") from None


def _known_names(location: tuple[int | str, ...]) -> list[str]:
    model: Any = Settings
    for part in location[:-1]:
        if isinstance(part, int):
            continue  # an item of a list of settings
        field = getattr(model, "model_fields", {}).get(part)
        model = field.annotation if field is not None else None
        if get_origin(model) is tuple:
            model = get_args(model)[0]
    return list(getattr(model, "model_fields", {}))


def _one_line(error: ValidationError, source: str) -> str:
    errors = error.errors(include_url=False, include_input=False)
    first = next((fault for fault in errors if fault["type"] == "extra_forbidden"), errors[0])  # a typo explains more
    location = tuple(first["loc"])
    where = ".".join(str(part) for part in location)
    more = f" (and {error.error_count() - 1} more)" if error.error_count() > 1 else ""
    if first["type"] == "extra_forbidden":
        near = difflib.get_close_matches(str(location[-1]), _known_names(location), n=1)
        hint = f"; did you mean '{near[0]}'?" if near else ""
        return f"{source}: unknown setting '{where}'{hint}{more}"
    place = f"{source}: {where}" if where else source
    return f"{place}: {first['msg'].removeprefix('Value error, ')}{more}"


def load_settings(path: Path | None = None, *, engine: str | None = None) -> Settings:
    """Read ``path`` (YAML), or take the defaults; the environment is laid over it.

    Args:
        path: the file.
        engine: ``engine.url`` from the command line, over both; :data:`IN_PROCESS` for none.

    Raises:
        ConfigError: no such file, not YAML, an unknown or invalid setting; one line, naming file and setting.
    """
    values: Any = {}
    source = "environment"
    if path is not None:
        source = str(path)
        try:
            values = yaml.safe_load(path.read_text(encoding="utf-8")) or {}
        except OSError as error:
            raise ConfigError(f"{path}: {os.strerror(error.errno or 0)}; give --config a readable YAML file") from error
        except (yaml.YAMLError, UnicodeDecodeError, RecursionError) as error:
            mark = getattr(error, "problem_mark", None)
            line = f" at line {mark.line + 1}" if mark is not None else ""
            raise ConfigError(f"{path}: not valid YAML{line}") from error
        if not isinstance(values, dict):
            raise ConfigError(f"{path}: want a mapping of settings")
        for name in values:
            if not isinstance(name, str) or name.startswith("_"):  # the settings library takes _names for itself
                raise ConfigError(f"{path}: unknown setting '{name}'")
    known = {f"SCAMTAP__{name}".upper() for name in Settings.model_fields}
    for variable in os.environ:
        if variable.startswith("SCAMTAP__") and "__".join(variable.split("__")[:2]).upper() not in known:
            raise ConfigError(f"environment: unknown setting '{variable}'")
    try:
        return with_engine(Settings(**values), engine)
    except ValidationError as error:
        raise ConfigError(_one_line(error, source)) from error
    except SettingsError as error:
        raise ConfigError(f"environment: {error}: give it as JSON, e.g. [40000]") from None
