"""Label Studio's files: tasks with what the model thinks, the labelling page, and finished annotations back.

Its JSON format for import: a list of ``{"data": …, "predictions": […]}``; what it exports adds ``annotations``. The
dialogue is a Paragraphs object: ``[{"author": …, "text": …}]``.
"""

import json
import re
import unicodedata
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, Field, ValidationError

from inference.engine.repository import write_atomically
from inference.errors import ConfigError
from inference.intent.scores import FAMILIES
from inference.intent.text import mask_spoken
from training.evaluation.labelled import PROVENANCE
from training.mine.rank import Ranked

AUTHORS = {"far": "caller", "near": "subscriber"}
MAX_EXPORT_BYTES = 1 << 30
MASK = "number"
"""What :func:`inference.intent.text.normalise` makes of digits: labelled calls teach what live ones are read as."""

_NUMBER = re.compile(r"\d[\d,.:/-]*\d")  # as normalise finds them; a single digit ("press 1") it leaves, so it stays


def tasks(ranked: Sequence[Ranked], *, mask: bool = True) -> list[dict[str, Any]]:
    """What is imported into Label Studio.

    Args:
        ranked: calls, most telling first.
        mask: put ``number`` in place of numbers (:func:`masked`): card and telephone numbers help nobody to label.
    """
    return [_task(r, mask) for r in ranked]


def masked(text: str) -> str:
    """``text`` with numbers of two digits or more, written or spelt out, and codes read digit by digit as the word.

    Normalised it is what the text is normalised, but for such codes of three digits or more: they belong to somebody,
    so they go, though the model is shown their digits one by one.
    """
    text = _NUMBER.sub(f" {MASK} ", unicodedata.normalize("NFKC", text))
    text = " ".join(mask_spoken(text).split())
    return re.sub(rf"\b{MASK}(?: {MASK})+\b", MASK, text)


def _task(ranked: Ranked, mask: bool) -> dict[str, Any]:
    call = ranked.call
    dialogue = [
        {"author": AUTHORS[u.leg], "start_s": u.start_s, "text": masked(u.text) if mask else u.text}
        for u in call.utterances
    ]
    guess = [_choice("label", "genuine" if call.level == "none" else "scam")]
    if call.family is not None:
        guess.append(_choice("family", call.family))
    return {
        "data": {
            "id": call.id,
            "language": call.language,
            "dialogue": dialogue,
            "worth": ranked.worth,
            "reasons": ", ".join(f"{name} {value:g}" for name, value in ranked.reasons.items()),
        },
        "predictions": [{"model_version": call.model or "unknown", "score": round(call.peak_risk, 4), "result": guess}],
    }


def _choice(name: str, value: str) -> dict[str, Any]:
    return {"from_name": name, "to_name": "dialogue", "type": "choices", "value": {"choices": [value]}}


def page() -> str:
    """The labelling page (Label Studio's configuration XML) that belongs to :func:`tasks`."""
    families = "".join(f'<Choice value="{family}"/>' for family in FAMILIES)
    return (
        "<View>\n"
        '  <Header value="$reasons"/>\n'
        '  <Paragraphs name="dialogue" value="$dialogue" layout="dialogue" nameKey="author" textKey="text"/>\n'
        '  <Choices name="label" toName="dialogue" choice="single" required="true">'
        '<Choice value="scam"/><Choice value="genuine"/><Choice value="unclear"/></Choices>\n'
        '  <Choices name="family" toName="dialogue" choice="single" visibleWhen="choice-selected" '
        f'whenTagName="label" whenChoiceValue="scam">{families}</Choices>\n'
        "</View>\n"
    )


def write_json(path: Path, content: Any) -> None:
    """Write a JSON file readable by its owner alone: it holds what was said."""

    def write(temporary: Path) -> None:
        temporary.touch(mode=0o600)
        temporary.write_text(json.dumps(content, ensure_ascii=False, indent=1) + "\n", encoding="utf-8")

    write_atomically(path, write)


class _Said(BaseModel):
    author: Literal["caller", "subscriber"]
    text: str


class _Data(BaseModel):
    id: str
    language: str
    dialogue: tuple[_Said, ...] = Field(min_length=1)


class _Value(BaseModel):
    choices: tuple[str, ...] = ()


class _Result(BaseModel):
    from_name: str = ""
    value: _Value = _Value()


class _Annotation(BaseModel):
    was_cancelled: bool = False
    result: tuple[_Result, ...] = ()


class ExportedTask(BaseModel):
    """A task with its annotations, as far as we read it; Label Studio's other fields are passed over."""

    data: _Data
    annotations: tuple[_Annotation, ...] = ()

    @property
    def chosen(self) -> dict[str, str]:
        """The last finished annotation's choices by name: it stands in place of earlier ones, empty ones too."""
        done = [annotation for annotation in self.annotations if not annotation.was_cancelled]
        last = done[-1].result if done else ()
        return {result.from_name: result.value.choices[0] for result in last if result.value.choices}


def read_export(path: Path) -> list[ExportedTask]:
    """Tasks as Label Studio exports them (format JSON).

    Raises:
        ConfigError: it is no such file, or a task is not one that :func:`tasks` made; names task and field.
    """
    try:
        if path.stat().st_size > MAX_EXPORT_BYTES:
            raise ConfigError(f"{path}: larger than a gibibyte; export it in parts")
        content = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise ConfigError(f"{path}: cannot be read ({error.strerror}); export the project as JSON") from error
    except (ValueError, RecursionError):
        raise ConfigError(f"{path}: is not JSON; export the project as JSON") from None
    if not isinstance(content, list):
        raise ConfigError(f"{path}: is no list of tasks; export the project as JSON, not JSON-MIN")
    exported = []
    for number, task in enumerate(content, 1):
        try:
            exported.append(ExportedTask.model_validate(task))
        except ValidationError as error:
            where = ".".join(str(part) for part in error.errors(include_url=False, include_input=False)[0]["loc"])
            raise ConfigError(
                f"{path}: task {number}: {where or 'the whole task'}: is not of scamtap-train mine; "
                "export the project as JSON, not JSON-MIN"
            ) from None
    return exported


def labelled_lines(exported: Iterable[ExportedTask], provenance: Mapping[str, str]) -> list[dict[str, Any]]:
    """Labelled calls for ``scamtap-train retrain``; unclear, unfinished and cancelled ones are passed over.

    Args:
        exported: tasks with annotations.
        provenance: consent, legal_basis, source, licence: the same for all.

    Raises:
        ConfigError: a part of the provenance is empty.
    """
    if missing := [name for name in PROVENANCE if not provenance.get(name, "").strip()]:
        raise ConfigError(f"{missing[0]} is missing: say why these calls may be learnt from")
    legs = {author: leg for leg, author in AUTHORS.items()}
    lines = []
    for task in exported:
        chosen = task.chosen
        if chosen.get("label") not in ("scam", "genuine"):
            continue
        turns = [{"leg": legs[said.author], "text": said.text} for said in task.data.dialogue]
        line: dict[str, Any] = {"id": task.data.id, "lang": task.data.language, "label": chosen["label"]}
        if chosen["label"] == "scam":
            line["family"] = chosen.get("family", "other")
        lines.append({**line, "turns": turns, "real": True, **provenance})
    return lines
