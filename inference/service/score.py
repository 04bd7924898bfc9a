"""Call texts through intent and verdict, as they would be heard: ``scamtap score``."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationError, model_validator
from rich.text import Text

from inference.audio import Leg
from inference.errors import MediaError
from inference.intent.scorer import IntentScorer
from inference.opinion.inquiry import Inquiry
from inference.service.asked import Asked
from inference.service.terminal import STYLE, meter, printable
from inference.verdict.offline import score_call
from inference.verdict.verdict import VerdictConfig

MAX_LINE_CHARS = 1_000_000
LANGUAGE_LETTERS = 2  # ISO 639-1


def _is_text(value: str) -> str:
    if any("\ud800" <= character <= "\udfff" for character in value):
        raise ValueError("holds half a surrogate pair")
    return value


Words = Annotated[str, AfterValidator(_is_text)]


def _language(tag: str) -> str:
    """ISO 639-1 code of a language tag (BCP 47): ``en`` of ``en-GB``."""
    code = tag.partition("-")[0].lower()
    if len(code) != LANGUAGE_LETTERS or not (code.isascii() and code.isalpha()):
        raise ValueError("is no language; give a code, e.g. en or zh")
    return code


class TextTurn(BaseModel):
    """One turn of a call text."""

    model_config = ConfigDict(extra="ignore", frozen=True)

    leg: Leg
    text: Words


class CallText(BaseModel):
    """One call as text: either ``turns``, or ``text`` that the far party says."""

    model_config = ConfigDict(extra="ignore", frozen=True)

    id: Annotated[str, Field(coerce_numbers_to_str=True), AfterValidator(_is_text)]
    lang: Annotated[str, AfterValidator(_language)] = "en"
    text: Words | None = None
    turns: tuple[TextTurn, ...] | None = None

    @model_validator(mode="after")
    def _one_of_them(self) -> "CallText":
        if (self.text is None) == (self.turns is None):
            raise ValueError("give either 'text' or 'turns'")
        return self

    def all_turns(self) -> tuple[TextTurn, ...]:
        """Its turns; a bare text is one turn of the far party."""
        return self.turns if self.turns is not None else (TextTurn(leg="far", text=self.text or ""),)


def read_texts(path: Path) -> Iterator[CallText]:
    """The calls of a JSON Lines file.

    Raises:
        MediaError: unreadable, empty, or a line that is not a call; names file, line and field, never the text.
    """
    is_empty = True
    try:
        with path.open(encoding="utf-8") as file:
            for number, line in enumerate(file, 1):
                if line.strip():
                    is_empty = False
                    yield _parse(line, f"{path}: line {number}")
    except OSError as error:
        raise MediaError(f"{path}: cannot be read ({error.strerror}): check the path and its permissions") from error
    except UnicodeDecodeError as error:
        raise MediaError(f"{path}: is not UTF-8: give JSON Lines of call texts") from error
    if is_empty:
        raise MediaError(f"{path}: the file is empty: give JSON Lines of call texts")


def _parse(line: str, where: str) -> CallText:
    if len(line) > MAX_LINE_CHARS:
        raise MediaError(f"{where}: is longer than {MAX_LINE_CHARS} characters: one call a line")
    try:
        return CallText.model_validate(json.loads(line))
    except (json.JSONDecodeError, RecursionError):
        raise MediaError(f"{where}: is not JSON: give one object a line") from None
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
        field = ".".join(str(part) for part in first["loc"])
        raise MediaError(f"{where}: {field + ': ' if field else ''}{first['msg']}") from None
    except ValueError:
        raise MediaError(f"{where}: holds a number too long to read") from None


def score_text(
    scorer: IntentScorer, verdict: VerdictConfig, call: CallText, opinions: Asked | None = None
) -> dict[str, Any]:
    """Score one call; the line ``scamtap score --json`` prints.

    Args:
        scorer: the intent model.
        verdict: settings with the model's operating point.
        call: what was said.
        opinions: who is asked while it is in doubt, and waited for; None: nobody.

    Raises:
        MediaError: no model here judges its language: that nothing was found would mean nothing.
    """
    if call.lang not in (judged := scorer.calibration.languages):
        raise MediaError(f"call {call.id}: no intent model here judges {call.lang}: they judge {', '.join(judged)}")
    inquiry = None if opinions is None else Inquiry(opinions.config, scorer.calibration)
    result = score_call(scorer, verdict, call.all_turns(), call.lang, inquiry, opinions)
    return {
        "id": call.id,
        "level": result.level,
        "risk": [round(risk, 4) for risk in result.risk],
        "first_alert_turn": result.first_alert_turn,
        "family": result.family,
        "stage": result.stage,
        "acts": dict(result.acts),
    }


def score_line(scored: dict[str, Any]) -> Text:
    """One call for a person: its highest risk, level, and when."""
    level = scored["level"]
    when = (
        "" if scored["first_alert_turn"] is None else f" at turn {scored['first_alert_turn'] + 1}, {scored['family']}"
    )
    return Text.assemble(
        meter(max(scored["risk"], default=0.0), level), (f" {level}{when} ", STYLE[level]), printable(scored["id"])
    )
