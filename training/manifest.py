"""Labelled recordings as data: a JSON Lines file, one call a line, read by every command that learns or measures.

    {"id": "c-17", "audio_filepath": "c-17.wav", "sha256": "…", "duration": 66.58, "lang": "en", "channels": {"far": 0,
     "near": 1}, "label": "scam", "family": "parcel", "topic": "parcel", "segments": [{"start": 0.9, "duration": 5.3,
     "leg": "far", "text": "Good afternoon …", "stages": ["contact"]}], "ask_s": 52.6, "consent": "…", …}

Paths are relative to the manifest. Names are NeMo's where NeMo has one (``audio_filepath``, ``duration``); seconds
everywhere. What was said is personal data: messages name file, line and field, never a value of ``text``.
"""

import hashlib
import json
import os
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Annotated, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from inference.audio import LEGS, Leg
from inference.errors import ConfigError
from inference.intent.scores import FAMILIES, STAGES

Split = Literal["train", "dev", "test"]
Sha256 = Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]
Name = Annotated[str, Field(min_length=1, max_length=200)]

MAX_LINE_BYTES = 4 << 20
"""A longer line is no call: an hour's transcript takes 100 kB."""


class Segment(BaseModel):
    """Something one party said.

    Attributes:
        start, duration: seconds from the beginning of the recording.
        leg: who.
        text: what; empty where it was not transcribed.
        stages: what it does (:data:`inference.intent.scores.STAGES`); None where nobody marked it.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    start: float = Field(ge=0, allow_inf_nan=False)
    duration: float = Field(gt=0, allow_inf_nan=False)
    leg: Leg
    text: str = Field(default="", max_length=20_000)
    stages: tuple[str, ...] | None = None

    @model_validator(mode="after")
    def _stages_are_known(self) -> Self:
        if unknown := set(self.stages or ()) - set(STAGES):
            raise ValueError(f"stages: {min(unknown)!r} is none of {', '.join(STAGES)}")
        return self

    @property
    def end(self) -> float:
        """When it is over, seconds."""
        return self.start + self.duration


class LegFacts(BaseModel):
    """What is known of one leg's voice and line: figures are sliced by it. None where nobody knows.

    Attributes:
        codec: of each hop in the order of the way, ``amr>pcma``; names are those of RTP payload formats, in lower case.
        snr_db: speech level above noise level, before any codec.
        loss: share of packets lost.
        concealed: what was lost is filled in; else nothing is heard there.
        gender: of the voice.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    codec: str | None = Field(default=None, pattern=r"^[a-z0-9-]+(>[a-z0-9-]+){0,7}$", max_length=100)
    snr_db: float | None = Field(default=None, ge=-40, le=120)
    loss: float | None = Field(default=None, ge=0, le=1)
    concealed: bool | None = None
    gender: Literal["female", "male"] | None = None


class RecordedCall(BaseModel):
    """One labelled recording.

    Attributes:
        id: unique in its manifest.
        audio_filepath: WAV or FLAC, relative to the manifest.
        sha256: of that file; None until ``scamtap-train data fix`` has filled it in.
        duration: seconds; None likewise.
        lang: ISO 639-1.
        channels: which channel of the recording is which party.
        label, family, topic: what the call is, how, and what it seems to be about.
        campaign: calls of one scam operation, or of one organisation; None for unknown.
        caller_hash: a keyed hash of the caller's number, never the number.
        script: id of the script that was read; None for a call that nobody scripted.
        script_split: where that script stands for the intent models (``Script.split``: a rewritten call with the one it
            tells, a pair together); None where that is not known. ``scamtap-train data split`` fills it in.
        voices: names of synthetic voices; empty for people.
        legs: per leg, what is known of voice and line.
        segments: in order of time.
        ask_s: when the far party first asks for the payment, code, credential, secrecy or access.
        consent, legal_basis: why it may be used, in words.
        source, licence: where it comes from, on which terms.
        split: where it belongs; None until ``scamtap-train data split``.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    id: Name
    audio_filepath: Annotated[str, Field(min_length=1, max_length=1000)]
    sha256: Sha256 | None = None
    duration: float | None = Field(default=None, gt=0, allow_inf_nan=False)
    lang: Annotated[str, Field(pattern=r"^[a-z]{2}$")]
    channels: dict[Leg, Annotated[int, Field(ge=0, le=7)]]
    label: Literal["scam", "genuine"]
    family: str | None = None
    topic: Name
    campaign: Name | None = None
    caller_hash: Annotated[str, Field(pattern=r"^[0-9a-f]{16,64}$")] | None = None
    script: Name | None = None
    script_split: Split | None = None
    voices: tuple[Name, ...] = ()
    legs: dict[Leg, LegFacts] = Field(default_factory=dict)
    segments: tuple[Segment, ...] = ()
    ask_s: float | None = Field(default=None, ge=0, allow_inf_nan=False)
    consent: Name
    legal_basis: Name
    source: Name
    licence: Name
    split: Split | None = None

    @model_validator(mode="after")
    def _check(self) -> Self:
        if LEGS[0] not in self.channels:
            raise ValueError("channels: say which channel is the far leg, e.g. {'far': 0, 'near': 1}")
        if unknown := set(self.legs) - set(self.channels):
            raise ValueError(f"legs: {min(unknown)} has no channel; name it in channels, or leave it out")
        if len(set(self.channels.values())) < len(self.channels):
            raise ValueError("channels: far and near cannot be the same channel")
        if (self.label == "scam") != (self.family is not None):
            raise ValueError("family: a scam call has one, a genuine call none")
        if self.family is not None and self.family not in FAMILIES:
            raise ValueError(f"family: {self.family!r} is none of {', '.join(FAMILIES)}")
        if self.ask_s is not None and self.label != "scam":
            raise ValueError("ask_s: belongs to scam calls")
        return self

    def path(self, manifest: Path) -> Path:
        """Where the audio lies."""
        return manifest.parent / self.audio_filepath

    def moved(self, manifest: Path, to: Path) -> Self:
        """The same call, standing in ``manifest``, for a manifest at ``to``: its audio stays where it lies."""
        return self.model_copy(update={"audio_filepath": moved_path(self.audio_filepath, manifest, to)})


def moved_path(audio: str, manifest: Path, to: Path) -> str:
    """``audio``, relative to ``manifest``, relative to a manifest at ``to``; an absolute path stays one."""
    here, there = manifest.parent.resolve(), to.parent.resolve()
    if here == there or Path(audio).is_absolute():
        return audio
    return Path(os.path.relpath(here / audio, there)).as_posix()


class ManifestError(ConfigError):
    """A manifest is not what it should be; says file, line, field and remedy."""


def parse_line(line: bytes, where: str) -> RecordedCall:
    """One line of a manifest.

    Args:
        line: JSON.
        where: file and line, for the message.

    Raises:
        ManifestError: it is no call; names the field, not its value.
    """
    if len(line) > MAX_LINE_BYTES:
        raise ManifestError(f"{where}: longer than {MAX_LINE_BYTES >> 20} MiB: one call a line")
    try:
        return RecordedCall.model_validate(json.loads(line))
    except ValidationError as error:
        fault = error.errors(include_url=False, include_input=False)[0]
        field = ".".join(str(part) for part in fault["loc"])
        raise ManifestError(f"{where}: {field + ': ' if field else ''}{_remedy(fault['type'], fault['msg'])}") from None
    except (ValueError, RecursionError):
        raise ManifestError(f"{where}: not JSON: want one call a line") from None


def _remedy(kind: str, message: str) -> str:
    if kind == "extra_forbidden":
        return f"no such field; known are {', '.join(RecordedCall.model_fields)}"
    if kind == "missing":
        return "is missing: add it"
    return message.removeprefix("Value error, ")


def read_lines(path: Path) -> Iterator[tuple[int, bytes]]:
    """Numbered lines that are not empty.

    Raises:
        ManifestError: the file cannot be read.
    """
    try:
        with path.open("rb") as file:
            for number, line in enumerate(file, 1):
                if line.strip():
                    yield number, line
    except OSError as error:
        raise ManifestError(f"{path}: cannot be read ({error.strerror}); give a manifest (JSON Lines)") from error


def load_manifest(path: Path) -> list[RecordedCall]:
    """All calls of a manifest.

    Raises:
        ManifestError: the first line that is no call, an id used twice, or no call at all.
    """
    calls: dict[str, RecordedCall] = {}
    for number, line in read_lines(path):
        call = parse_line(line, f"{path}:{number}")
        if call.id in calls:
            raise ManifestError(f"{path}:{number}: id: is used on an earlier line; give each call its own")
        calls[call.id] = call
    if not calls:
        raise ManifestError(f"{path}: holds no call: want one JSON object a line")
    return list(calls.values())


def dump_line(call: RecordedCall) -> str:
    """One line of a manifest, as it is written: fields in order, those at their default left out."""
    return json.dumps(call.model_dump(mode="json", exclude_defaults=True), ensure_ascii=False)


def save_manifest(path: Path, calls: Iterable[RecordedCall]) -> None:
    """Write a manifest as a whole, or not at all.

    Raises:
        ManifestError: two calls have one id; names both recordings.
        ConfigError: it cannot be written.
    """
    calls = list(calls)
    recording: dict[str, str] = {}
    for call in calls:
        if call.id in recording:
            both = f"{recording[call.id]} and {call.audio_filepath}"
            raise ManifestError(f"{path}: id: {both} would both be {call.id}; rename one of them")
        recording[call.id] = call.audio_filepath
    temporary = path.with_name(path.name + ".tmp")
    try:
        temporary.write_text("".join(f"{dump_line(call)}\n" for call in calls), encoding="utf-8")
        temporary.replace(path)
    except OSError as error:
        temporary.unlink(missing_ok=True)
        raise ConfigError(f"{path}: cannot be written ({error.strerror}); give another file") from error


def manifest_sha256(path: Path) -> str:
    """Digest of a manifest's bytes: what a model records of the data that it learnt from.

    Raises:
        ManifestError: it cannot be read.
    """
    digest = hashlib.sha256()
    for _, line in read_lines(path):
        digest.update(line.rstrip(b"\r\n") + b"\n")
    return digest.hexdigest()
