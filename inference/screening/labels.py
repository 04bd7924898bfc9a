"""The words a callee is shown before answering: what, and who says so. Never more than a few a day, never unwanted."""

import os
from collections.abc import Mapping
from importlib import resources
from pathlib import Path
from string import Formatter
from typing import Annotated, Literal, get_args

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from inference.errors import ConfigError
from inference.intent.scores import FAMILIES
from inference.screening.attempt import Label
from inference.screening.rules import Known

Language = Literal["en", "zh"]
SOURCES = ("subscribers", "listening", "numbering", "behaviour", "list")
CATEGORIES = (*FAMILIES, "spoofed", "suspected_fraud", "harassment", "sales")
MAX_LABEL_CHARACTERS = 120
"""What a phone's screen shows in two lines."""

Template = Annotated[str, Field(min_length=1, max_length=200)]


class LabelTexts(BaseModel):
    """Words of one language.

    Attributes:
        categories: category -> what it is called, e.g. ``parcel: parcel-refund fraud``.
        sources: source -> sentence with ``{category}``, ``{number}`` (of subscribers) and ``{centre}``.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    categories: dict[str, Template]
    sources: dict[str, Template]


class LabelsConfig(BaseModel):
    """How labels are worded.

    Attributes:
        centre: who stands behind them, as subscribers know it.
        language: for subscribers who did not choose one.
        texts_dir: folder with ``en.yaml`` and ``zh.yaml`` in place of ours.
        max_per_day: labels that one subscriber is shown a day; more teach people to look away.
        max_messages_per_day: messages after calls that one reader is sent a day, and as many of shields.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    centre: str = Field(default="operator security centre", min_length=1, max_length=60)
    language: Language = "en"
    texts_dir: Path | None = None
    max_per_day: int = Field(default=10, ge=0, le=1000)
    max_messages_per_day: int = Field(default=3, ge=0, le=1000)


class Labels:
    """Makes labels; implements :class:`inference.screening.screener.LabelMaker`.

    Raises:
        ConfigError: a file of words is missing, malformed, or lacks a category or source.
    """

    def __init__(self, config: LabelsConfig) -> None:
        self._config = config
        self._texts = {language: load_texts(config.texts_dir, language) for language in get_args(Language)}

    def label(self, category: str, source: str, known: Known) -> Label | None:
        """The label for a callee; None where the callee does not want any, or was shown enough today."""
        wants = known.wants
        if not wants.prompts or wants.prompts_today >= self._config.max_per_day:
            return None
        language = wants.language or self._config.language
        complaints = known.caller_window.complaints if known.caller_window is not None else 0.0
        return Label(self.text(category, source, language, round(complaints)), category, source, language)

    @property
    def language(self) -> Language:
        """For subscribers who did not choose one."""
        return self._config.language

    @property
    def max_messages_per_day(self) -> int:
        """Messages that one reader is sent a day."""
        return self._config.max_messages_per_day

    @property
    def centre(self) -> str:
        """Who stands behind labels and messages."""
        return self._config.centre

    def category(self, category: str, language: Language) -> str:
        """What a category is called."""
        categories = self._texts[language].categories
        return categories.get(category, categories["suspected_fraud"])

    def text(self, category: str, source: str, language: Language, num_subscribers: int = 0) -> str:
        """The sentence itself, at most :data:`MAX_LABEL_CHARACTERS` long."""
        texts, named = self._texts[language], self.category(category, language)
        kind = source.partition(":")[0]
        template = texts.sources.get(kind, texts.sources["behaviour"])
        filled = template.format(category=named, number=max(1, num_subscribers), centre=self._config.centre)
        return filled[:MAX_LABEL_CHARACTERS]


def load_texts(folder: Path | None, language: Language) -> LabelTexts:
    """Words of a language, from the operator's folder or from ours.

    Raises:
        ConfigError: as above.
    """
    where = f"{folder / f'{language}.yaml'}" if folder is not None else f"label texts {language}"
    try:
        if folder is not None:
            content = (folder / f"{language}.yaml").read_text(encoding="utf-8")
        else:
            content = (resources.files("inference.screening") / "texts" / f"{language}.yaml").read_text("utf-8")
        texts = LabelTexts.model_validate(yaml.safe_load(content))
    except OSError as error:
        raise ConfigError(f"{where}: {os.strerror(error.errno or 0)}; give it, or unset labels.texts_dir") from error
    except (yaml.YAMLError, UnicodeDecodeError, ValidationError) as error:
        raise ConfigError(f"{where}: is not 'categories:' and 'sources:' of texts; fix the file") from error
    _check(where, "categories", texts.categories, CATEGORIES)
    _check(where, "sources", texts.sources, SOURCES)
    for name, template in texts.sources.items():
        if not _is_plain(template):
            raise ConfigError(f"{where}: sources.{name}: only {{category}}, {{number}}, {{centre}} are known")
    return texts


def _is_plain(template: str) -> bool:
    """Whether it names what we fill in, and nothing of it: no attributes, no widths."""
    try:
        parts = list(Formatter().parse(template))
    except ValueError:
        return False
    return all(
        name is None or (name in ("category", "number", "centre") and not spec and conversion is None)
        for _, name, spec, conversion in parts
    )


def _check(where: str, part: str, given: Mapping[str, str], wanted: tuple[str, ...]) -> None:
    if missing := set(wanted) - set(given):
        raise ConfigError(f"{where}: {part} lacks {min(missing)}")
