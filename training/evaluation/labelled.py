"""Labelled call texts: what `scamtap score` reads, with labels; one call a line.

    {"id": "n-1", "lang": "en", "label": "scam", "family": "refund", "topic": "refund", "campaign": "june-refund",
     "turns": [{"leg": "far", "text": "…", "stages": ["contact"], "acts": []}, …], "consent": "…", "legal_basis": "…",
     "source": "…", "licence": "…", "real": true}

A message names file, line and field, never what was said.
"""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator, model_validator

from inference.audio import Leg
from inference.errors import ConfigError
from inference.intent.acts import FAR_ACTS, SUBSCRIBER_ACTS
from inference.intent.scores import FAMILIES, STAGES
from inference.intent.text import split_utterances
from training.intent.data import Call, Piece, split_of
from training.manifest import MAX_LINE_BYTES, Name, RecordedCall, read_lines
from training.scripts import Script, Split, with_implied

PROVENANCE = ("consent", "legal_basis", "source", "licence")
"""Why a call may be learnt from: retraining refuses a call that lacks one of them."""

CallerHash = Annotated[str, Field(pattern=r"^[0-9a-f]{16,64}$")]


class LabelledTurn(BaseModel):
    """One turn; ``stages`` or ``acts`` None: nobody marked them."""

    model_config = ConfigDict(extra="ignore", frozen=True)

    leg: Leg
    text: Annotated[str, Field(max_length=20_000)]
    stages: tuple[str, ...] | None = None
    acts: tuple[str, ...] | None = None

    @field_validator("stages")
    @classmethod
    def _stages_are_known(cls, stages: tuple[str, ...] | None) -> tuple[str, ...] | None:
        if unknown := set(stages or ()) - set(STAGES):
            raise ValueError(f"{min(unknown)!r} is none of {', '.join(STAGES)}")
        return stages

    @model_validator(mode="after")
    def _acts_are_of_the_leg(self) -> Self:
        known = FAR_ACTS if self.leg == "far" else SUBSCRIBER_ACTS
        if not set(self.acts or ()) <= set(known):
            raise ValueError(f"acts: hold what is none of {', '.join(known)}")
        return self

    @property
    def all_stages(self) -> tuple[str, ...] | None:
        """Stages that were marked, and those that the acts imply."""
        return None if self.stages is None else with_implied(self.stages, self.acts or ())


class LabelledText(BaseModel):
    """One labelled call.

    Attributes:
        label, family, topic: as in a manifest; ``benign`` is taken for ``genuine``; a scam of no known family is
            ``other``.
        campaign: calls of one operation or organisation stay on one side of a split, unless they are too much of a
            delivery for that (:mod:`training.retrain.sides`).
        pair: what calls of the same situation have in common, or the id of the call that this one tells anew: they stay
            on one side.
        caller_hash: a keyed hash of the caller's number, never the number; calls of one caller stay on one side.
        turns, text: what was said; a bare text is the far party's.
        real: whether real people said it.
        consent, legal_basis, source, licence: why it may be used.
    """

    model_config = ConfigDict(extra="ignore", frozen=True)

    id: Annotated[Name, Field(coerce_numbers_to_str=True)]
    lang: Annotated[str, Field(pattern=r"^[a-z]{2}$")] = "en"
    label: Literal["scam", "genuine"]
    family: str | None = None
    topic: str = Field(default="", max_length=200)
    campaign: Name | None = None
    pair: Name | None = None
    caller_hash: CallerHash | None = None
    turns: tuple[LabelledTurn, ...] = Field(min_length=1, max_length=2000)
    real: bool = False
    consent: Name | None = None
    legal_basis: Name | None = None
    source: Name | None = None
    licence: Name | None = None

    @model_validator(mode="before")
    @classmethod
    def _one_shape(cls, value: Any) -> Any:
        if not isinstance(value, dict):
            return value
        shaped = dict(value)
        if shaped.get("label") == "benign":
            shaped["label"] = "genuine"
        if "turns" not in shaped and isinstance(shaped.get("text"), str):
            shaped["turns"] = [{"leg": "far", "text": shaped["text"]}]
        if shaped.get("label") == "scam" and shaped.get("family") is None:
            shaped["family"] = "other"
        return shaped

    @model_validator(mode="after")
    def _check(self) -> Self:
        if (self.label == "scam") != (self.family is not None):
            raise ValueError("family: a scam call has one, a genuine call none")
        if self.family is not None and self.family not in FAMILIES:
            raise ValueError(f"family: is none of {', '.join(FAMILIES)}")
        if not any(turn.text.strip() for turn in self.turns):
            raise ValueError("turns: nothing is said")
        return self

    @property
    def group(self) -> str:
        """What must stay on one side of a split."""
        return self.campaign or self.pair or self.id

    @property
    def words(self) -> str:
        """All of its text, to tell near copies by."""
        return " ".join(turn.text for turn in self.turns)

    @property
    def lacks(self) -> list[str]:
        """Which parts of its provenance are missing."""
        return [name for name in PROVENANCE if not (getattr(self, name) or "").strip()]

    def to_call(self, split: Split | None = None) -> Call:
        """As training and evaluation see it."""
        pieces = tuple(
            Piece(turn.leg, piece, number, turn.all_stages, turn.acts)
            for number, turn in enumerate(self.turns)
            for piece in split_utterances(turn.text)
        )
        asks = (i for i, turn in enumerate(self.turns) if turn.leg == "far" and "ask" in (turn.stages or ()))
        return Call(
            id=self.id,
            source=self.source or "given",
            is_scam=self.label == "scam",
            family=self.family,
            topic=self.topic or self.family or self.source or "given",
            group=self.group,
            split=split or split_of(self.group),
            pieces=pieces,
            ask_turn=next(asks, None) if self.label == "scam" else None,
            language=self.lang,
        )


def read_labelled(path: Path) -> list[LabelledText]:
    """All calls of a file.

    Raises:
        ConfigError: the first line that is no labelled call, an id used twice, or none at all.
    """
    calls: dict[str, LabelledText] = {}
    for number, line in read_lines(path):
        where = f"{path}:{number}"
        if len(line) > MAX_LINE_BYTES:
            raise ConfigError(f"{where}: longer than {MAX_LINE_BYTES >> 20} MiB: one call a line")
        try:
            call = LabelledText.model_validate(json.loads(line))
        except ValidationError as error:
            fault = error.errors(include_url=False, include_input=False)[0]
            field = ".".join(str(part) for part in fault["loc"])
            raise ConfigError(f"{where}: {field + ': ' if field else ''}{_plain(fault['msg'])}") from None
        except (ValueError, RecursionError):
            raise ConfigError(f"{where}: not JSON: want one labelled call a line") from None
        if call.id in calls:
            raise ConfigError(f"{where}: id: is used on an earlier line; give each call its own")
        calls[call.id] = call
    if not calls:
        raise ConfigError(f"{path}: holds no call: want one JSON object a line")
    return list(calls.values())


def _plain(message: str) -> str:
    return message.removeprefix("Value error, ")


def from_recording(call: RecordedCall) -> LabelledText:
    """The transcript of a recording.

    Raises:
        ConfigError: it was not transcribed.
    """
    turns = [s for s in call.segments if s.text.strip()]
    if not turns:
        raise ConfigError(f"{call.id}: has no transcript to learn from; transcribe it into its segments")
    kept = {"id", "lang", "label", "family", "topic", "campaign", "caller_hash", *PROVENANCE}
    said = tuple(LabelledTurn(leg=s.leg, text=s.text, stages=s.stages) for s in turns)
    return LabelledText(**call.model_dump(include=kept), pair=call.script, turns=said, real=not call.voices)


def from_scripts(scripts: Sequence[Script], source: str) -> list[LabelledText]:
    """Call scripts, which nobody said: no personal data in them. Marks are learnt as they are of known scripts."""
    return [
        LabelledText(
            id=script.id,
            lang=script.lang,
            label=script.label,
            family=script.family,
            topic=script.topic,
            pair=script.of or script.pair,
            turns=_turns_of(script),
            consent="nobody was recorded: a written script",
            legal_basis="no personal data",
            source=source,
            licence="as its author says",
        )
        for script in scripts
    ]


def _turns_of(script: Script) -> tuple[LabelledTurn, ...]:
    """Acts count as marked where the script marks any, as in :func:`training.intent.data.script_call`."""
    has_acts = any(turn.acts for turn in script.turns)
    return tuple(
        LabelledTurn(leg=t.leg, text=t.text, stages=t.stages, acts=t.acts if has_acts else None) for t in script.turns
    )
