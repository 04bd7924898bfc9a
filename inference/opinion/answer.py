"""What a language model answered: acts of our own list, or nothing at all.

An answer is the work of a model that read a stranger's words. It is read strictly, within bounds, into names that we
know; what is not of this form has no effect, and none of it is kept, logged or shown.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Annotated, Literal, Protocol, TypeAlias

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationError

from inference.intent.acts import ACTS
from inference.opinion.config import MAX_UTTERANCES
from inference.opinion.question import Question

MAX_ANSWER_BYTES = 65_536
"""Of a whole response; beyond it the peer is not what it should be."""

MAX_CONTENT_CHARS = 8192
"""Of the message in it: every utterance of the longest question with ten acts."""

Shown: TypeAlias = Mapping[int, frozenset[str]]
"""Place of an utterance in the question, from 1 -> the acts it shows; one that is not named shows none."""


Outcome: TypeAlias = Literal["answered", "malformed", "timeout", "refused", "unreachable", "paused"]
"""``refused``: a status that is no success; ``paused``: not asked, the endpoint failed too often."""


@dataclass(frozen=True, slots=True)
class Answer:
    """What came of a question.

    Attributes:
        outcome: in a word.
        took_s: how long it took.
        shown: the acts, where it was answered.
    """

    outcome: Outcome
    took_s: float = 0.0
    shown: Shown | None = field(default=None, repr=False)


class Asks(Protocol):
    """Who can be asked and waited for."""

    @property
    def is_paused(self) -> bool:
        """Whether asking is no use now."""
        ...

    def ask(self, question: Question) -> Answer:
        """The answer, however bad; never an exception."""
        ...


def _known(act: object) -> object:
    if act not in ACTS:
        raise ValueError("not an act")
    return act


class _Message(BaseModel):
    content: str = Field(max_length=MAX_CONTENT_CHARS)


class _Choice(BaseModel):
    message: _Message


class _Response(BaseModel):
    """A chat completion; servers add fields of their own."""

    choices: list[_Choice] = Field(min_length=1, max_length=16)


class _Marked(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True)

    utterance: int
    acts: list[Annotated[str, BeforeValidator(_known)]] = Field(max_length=len(ACTS))


class _Answer(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True)

    utterances: list[_Marked] = Field(max_length=MAX_UTTERANCES)


def read_answer(response: bytes, num_asked: int) -> Shown | None:
    """The acts that a chat completion names.

    Args:
        response: body of the HTTP response.
        num_asked: utterances in the question.

    Returns:
        None where it is anything but what was asked for: not JSON, words around it, an unknown act, an utterance that
        was not asked about or is named twice.
    """
    if len(response) > MAX_ANSWER_BYTES:
        return None
    try:
        content = _Response.model_validate_json(response).choices[0].message.content
        marked = _Answer.model_validate_json(content).utterances
    except (ValidationError, UnicodeError):  # the message of either would repeat what was answered
        return None
    shown = {one.utterance: frozenset(one.acts) for one in marked}
    if len(shown) != len(marked) or any(not 1 <= place <= num_asked for place in shown):
        return None
    return shown
