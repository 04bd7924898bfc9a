"""Label Studio's files: tasks with what the model thinks, the labelling page, and finished annotations back.

Its JSON format for import: a list of ``{"data": …, "predictions": […]}``; what it exports adds ``annotations``. The
dialogue is a Paragraphs object: ``[{"author": …, "text": …}]``.
"""

import json
import re
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from inference.engine.repository import write_atomically
from inference.errors import ConfigError
from inference.intent.scores import FAMILIES
from training.evaluation.labelled import PROVENANCE
from training.mine.rank import Ranked

AUTHORS = {"far": "caller", "near": "subscriber"}
MAX_EXPORT_BYTES = 1 << 30
_DIGITS = re.compile(r"\d[\d\s().-]*\d|\d")


def tasks(ranked: Sequence[Ranked], *, mask: bool = True) -> list[dict[str, Any]]:
    """What is imported into Label Studio.

    Args:
        ranked: calls, most telling first.
        mask: put ``#`` in place of every run of digits: card and telephone numbers help nobody to label.
    """
    return [_task(r, mask) for r in ranked]


def _task(ranked: Ranked, mask: bool) -> dict[str, Any]:
    call = ranked.call
    dialogue = [
        {"author": AUTHORS[u.leg], "start_s": u.start_s, "text": _DIGITS.sub("#", u.text) if mask else u.text}
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


def read_export(path: Path) -> list[dict[str, Any]]:
    """Tasks as Label Studio exports them (format JSON).

    Raises:
        ConfigError: it is no such file.
    """
    try:
        if path.stat().st_size > MAX_EXPORT_BYTES:
            raise ConfigError(f"{path}: larger than a gibibyte; export it in parts")
        content = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise ConfigError(f"{path}: cannot be read ({error.strerror}); export the project as JSON") from error
    except (ValueError, RecursionError):
        raise ConfigError(f"{path}: is not JSON; export the project as JSON") from None
    if not isinstance(content, list) or not all(isinstance(task, dict) for task in content):
        raise ConfigError(f"{path}: is no list of tasks; export the project as JSON, not JSON-MIN")
    return content


def labelled_lines(exported: Iterable[Mapping[str, Any]], provenance: Mapping[str, str]) -> list[dict[str, Any]]:
    """Labelled calls for ``scamtap-train retrain``; unclear, unfinished and cancelled ones are passed over.

    Args:
        exported: tasks with annotations.
        provenance: consent, legal_basis, source, licence: the same for all.

    Raises:
        ConfigError: a task is not one that :func:`tasks` made, or a part of the provenance is empty.
    """
    if missing := [name for name in PROVENANCE if not provenance.get(name, "").strip()]:
        raise ConfigError(f"{missing[0]} is missing: say why these calls may be learnt from")
    authors = {author: leg for leg, author in AUTHORS.items()}
    lines = []
    for number, task in enumerate(exported, 1):
        chosen = _chosen(task)
        if chosen.get("label") not in ("scam", "genuine"):
            continue
        try:
            data = task["data"]
            turns = [{"leg": authors[said["author"]], "text": str(said["text"])} for said in data["dialogue"]]
            line = {"id": str(data["id"]), "lang": str(data["language"]), "label": chosen["label"], "turns": turns}
        except (KeyError, TypeError):
            raise ConfigError(f"task {number}: has no dialogue of scamtap-train mine; export what it wrote") from None
        if chosen["label"] == "scam":
            line["family"] = chosen.get("family", "other")
        lines.append({**line, "real": True, **provenance})
    return lines


def _chosen(task: Mapping[str, Any]) -> dict[str, str]:
    """The last finished annotation's choices by name."""
    found: dict[str, str] = {}
    for annotation in task.get("annotations") or ():
        if not isinstance(annotation, dict) or annotation.get("was_cancelled"):
            continue
        for result in annotation.get("result") or ():
            choices = result.get("value", {}).get("choices") if isinstance(result, dict) else None
            if isinstance(choices, list) and choices:
                found[str(result.get("from_name"))] = str(choices[0])
    return found
