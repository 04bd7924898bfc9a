"""What a subscriber can hear: a beep for ``suspect``, a beep and a spoken line per scam family for ``danger``.

A call that was labelled before it rang has a line of its own. A folder holds all of it, so that an operator can put
another in its place: ``en.yaml`` and ``zh.yaml`` with the lines, a WAV per line with the whole sound, beep included.
``scamtap-train announce`` speaks the lines; an operator's own recordings bear the same names.
"""

import io
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Literal, TypeAlias, get_args

import numpy as np
import soundfile as sf
import soxr
import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator

from inference.alerts.ear import Announcement
from inference.alerts.tone import warning_tone
from inference.audio import SAMPLE_RATE_HZ
from inference.audio.segment import PCM
from inference.errors import ConfigError
from inference.intent.scores import FAMILIES
from inference.verdict.verdict import Level

Language: TypeAlias = Literal["en", "zh"]
LANGUAGES: tuple[Language, ...] = get_args(Language)

GENERAL = "general"
"""The line for a scam of no known family, and for a family that has none of its own."""

SUSPECT = "suspect"
"""Name of the beep alone; a ``suspect.wav`` in the folder replaces it."""

MAX_SOUND_S = 15.0
"""Longer than this nobody listens to while somebody else talks."""

MAX_FILE_BYTES = 16 * 1024 * 1024
MIN_RATE_HZ, MAX_RATE_HZ, MAX_CHANNELS = 4000, 192_000, 8
_CLONE = Path(__file__).resolve().parents[2] / "configs" / "announcements"


class Lines(BaseModel):
    """The spoken lines of one language.

    Attributes:
        language: ISO 639-1.
        voice, speed: who speaks them at build time; of no use where an operator recorded them.
        lines: text per scam family, and ``general``.
        label: text for a call that is answered although its number was labelled; true of every label. Empty for none.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    language: Language
    voice: str = Field(default="", max_length=64)
    speed: float = Field(default=1.0, ge=0.5, le=2)
    lines: dict[str, str]
    label: str = Field(default="", max_length=200)

    @field_validator("lines")
    @classmethod
    def _families_are_known(cls, lines: dict[str, str]) -> dict[str, str]:
        if unknown := sorted(lines.keys() - {*FAMILIES, GENERAL}):
            raise ValueError(f"{unknown[0]!r} is no scam family; there are {', '.join(FAMILIES)}")
        if GENERAL not in lines:
            raise ValueError(f"a line for {GENERAL!r} is missing")
        if empty := sorted(family for family, text in lines.items() if not text.strip() or len(text) > 200):
            raise ValueError(f"{empty[0]!r} wants a text of at most 200 characters")
        return lines

    @property
    def spoken(self) -> dict[str, tuple[Level, str]]:
        """Every sound there is to be: its name, what it says, and which beep is before it."""
        said: dict[str, tuple[Level, str]] = {
            danger_name(self.language, family): ("danger", text) for family, text in self.lines.items()
        }
        return said | ({label_name(self.language): ("suspect", self.label)} if self.label else {})


def danger_name(language: Language, family: str) -> str:
    """Name of a spoken announcement, and stem of its file."""
    return f"{language}-danger-{family}"


def label_name(language: Language) -> str:
    """Name of what is said of a call that was labelled before it rang, and stem of its file."""
    return f"{language}-label"


def load_lines(path: Path) -> Lines:
    """Read ``en.yaml`` or ``zh.yaml``.

    Raises:
        ConfigError: missing or malformed; one line.
    """
    try:
        lines = Lines.model_validate(yaml.safe_load(path.read_text(encoding="utf-8")))
    except OSError as error:
        raise ConfigError(
            f"{path}: {os.strerror(error.errno or 0)}; give a folder such as configs/announcements"
        ) from (error)
    except (yaml.YAMLError, UnicodeDecodeError, RecursionError) as error:
        raise ConfigError(f"{path}: not valid YAML; fix the file") from error
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
        where = ".".join(str(part) for part in first["loc"]) or "the whole file"
        raise ConfigError(f"{path}: {where}: {first['msg']}; fix the file") from error
    if lines.language != path.stem:
        raise ConfigError(f"{path}: language is {lines.language!r}; a file is named after its language")
    return lines


def read_sound(path: Path) -> PCM:
    """A WAV (or anything libsndfile reads) as int16 ``[num_samples]`` at 8 kHz: channels averaged, rate converted.

    Raises:
        ConfigError: missing, no audio, silent or longer than :data:`MAX_SOUND_S`; one line.
    """
    try:
        if path.stat().st_size > MAX_FILE_BYTES:
            raise ConfigError(f"{path}: more than {MAX_FILE_BYTES} bytes: give at most {MAX_SOUND_S:g} s of sound")
        with sf.SoundFile(path) as file:
            rate_hz, num_frames = file.samplerate, file.frames
            if not 0 < num_frames <= MAX_SOUND_S * rate_hz:
                raise ConfigError(f"{path}: {num_frames / rate_hz:.1f} s long: give 0 to {MAX_SOUND_S:g} s of sound")
            if not (MIN_RATE_HZ <= rate_hz <= MAX_RATE_HZ and file.channels <= MAX_CHANNELS):
                raise ConfigError(f"{path}: {file.channels} channels at {rate_hz} Hz: give an ordinary recording")
            mono = file.read(num_frames, dtype="float64", always_2d=True).mean(axis=1)
    except OSError as error:
        raise ConfigError(
            f"{path}: {os.strerror(error.errno or 0)}; make it with scamtap-train announce, or remove its line"
        ) from error
    except sf.LibsndfileError as error:
        raise ConfigError(f"{path}: cannot be read as audio; give a WAV file") from error
    if not np.isfinite(mono).all():
        raise ConfigError(f"{path}: holds samples that are no numbers; record it again")
    if rate_hz != SAMPLE_RATE_HZ:
        mono = soxr.resample(mono, rate_hz, SAMPLE_RATE_HZ, quality="HQ")
    samples: PCM = np.clip(np.round(mono * 32768), -32768, 32767).astype(np.int16)
    if not samples.any():
        raise ConfigError(f"{path}: silent: give a sound that can be heard")
    return samples


def wav_bytes(samples: PCM) -> bytes:
    """A mono 16-bit WAV at 8 kHz: the form that every gateway plays, Asterisk's strict reader included."""
    buffer = io.BytesIO()
    sf.write(buffer, samples, SAMPLE_RATE_HZ, format="WAV", subtype="PCM_16")
    return buffer.getvalue()


class Announcements:
    """Everything that can be said, by name; read once, then only looked up.

    Args:
        spoken: the announcements for ``danger``.
        suspect: the beep alone.
        language: spoken where a call's own language is unknown or has no lines.
    """

    def __init__(
        self, spoken: Mapping[str, Announcement], suspect: PCM | None = None, *, language: Language = "en"
    ) -> None:
        self._language = language
        beep = warning_tone("suspect") if suspect is None else suspect
        self._by_name = {SUSPECT: Announcement(SUSPECT, "suspect", language, "", beep), **spoken}

    @property
    def names(self) -> list[str]:
        """What there is."""
        return list(self._by_name)

    def get(self, name: str) -> Announcement | None:
        """The announcement of that name; None where there is none."""
        return self._by_name.get(name)

    def label(self, text: str, language: Language) -> Announcement:
        """What is said of a call that was labelled before it rang.

        Gateways that speak or show text have ``text`` itself; others play ``<language>-label.wav``, which says that
        there is a warning, or the beep where the folder has none.
        """
        spoken = self._by_name.get(label_name(language), self._by_name[SUSPECT])
        return Announcement(spoken.name, "suspect", language, text, spoken.samples)

    def pick(self, level: Level, family: str | None, language: str | None) -> Announcement | None:
        """What a subscriber is to hear; None for ``none``.

        A family without a line gets the general one, a language without lines the configured one, and where nothing
        is spoken at all a beep is left.
        """
        if level == "none":
            return None
        if level == "suspect":
            return self._by_name[SUSPECT]
        for spoken in dict.fromkeys((language, self._language, *LANGUAGES)):
            for about in (family, GENERAL):
                found = self._by_name.get(f"{spoken}-danger-{about}")
                if found is not None:
                    return found
        return Announcement("danger", "danger", self._language, "", warning_tone("danger"))


def load_announcements(folder: Path | None = None, *, language: Language = "en") -> Announcements:
    """The announcements of a folder; of this clone where none is given, and beeps alone where there is no clone.

    Raises:
        ConfigError: the folder has no lines, or a sound is missing or not one; one line.
    """
    chosen = _CLONE if folder is None else folder
    texts = [load_lines(path) for path in (chosen / f"{name}.yaml" for name in LANGUAGES) if path.is_file()]
    if not texts and folder is not None:
        raise ConfigError(f"{folder}: neither {' nor '.join(f'{name}.yaml' for name in LANGUAGES)} is there")
    spoken: dict[str, Announcement] = {}
    for of_language in texts:
        for family, text in of_language.lines.items():
            name = danger_name(of_language.language, family)
            sound = read_sound(chosen / f"{name}.wav")
            about = None if family == GENERAL else family
            spoken[name] = Announcement(name, "danger", of_language.language, text, sound, about)
    for spoken_in in LANGUAGES:
        path = chosen / f"{label_name(spoken_in)}.wav"
        if path.is_file() or any(text.language == spoken_in and text.label for text in texts):
            spoken[path.stem] = Announcement(path.stem, "suspect", spoken_in, "", read_sound(path))
    own_beep = chosen / f"{SUSPECT}.wav"
    return Announcements(spoken, read_sound(own_beep) if own_beep.is_file() else None, language=language)
