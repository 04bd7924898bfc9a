"""What is wrong in a file of call scripts, and in which line of it.

Reading YAML with marks takes as long again as reading alone does, so lines are looked up only where there is a fault.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import yaml
from pydantic import ValidationError

# libyaml's parser reads all scripts in two seconds, Python's own in twenty; some builds of PyYAML come without it.
LOADER: type = getattr(yaml, "CSafeLoader", yaml.SafeLoader)


@dataclass(frozen=True, slots=True)
class CallFault:
    """Something wrong in one call.

    Attributes:
        field: of the call; empty for the call as a whole.
        what: and what to do about it.
        line: in the block of turns, from 0; None for what concerns no single turn.
    """

    field: str
    what: str
    line: int | None = None


class CallError(ValueError):
    """A call is not what it should be, with everything that was found wrong; says the first."""

    def __init__(self, found: Sequence[CallFault]) -> None:
        super().__init__(": ".join(part for part in (found[0].field, found[0].what) if part))
        self.found = tuple(found)


@dataclass(frozen=True, slots=True)
class ScriptFault:
    """Something wrong in a file of scripts; ``line`` from 1, 0 for the file as a whole."""

    path: Path
    line: int
    field: str
    what: str

    @property
    def text(self) -> str:
        """One line: file, line, field, and what to do."""
        where = f"{self.path}:{self.line}" if self.line else f"{self.path}"
        return ": ".join(part for part in (where, self.field, self.what) if part)


@dataclass(frozen=True, slots=True)
class CallLines:
    """Lines of one call, from 1.

    Attributes:
        first: of the call.
        fields: field -> line of its name.
        blocks: of these the value is a block (``|``): its lines follow one by one.
    """

    first: int
    fields: Mapping[str, int]
    blocks: frozenset[str]

    def of(self, field: str, line: int | None = None) -> int:
        """Where a field stands, or the ``line``-th line of its block, from 0; the call's first where it has none."""
        at = self.fields.get(field, self.first)
        return at if line is None or field not in self.blocks else at + 1 + line


@lru_cache(maxsize=16)  # one file may have many faults
def call_lines(text: str) -> tuple[CallLines, ...]:
    """Of every call of a YAML list, in its order; ``text`` is known to be one."""
    calls = yaml.compose(text, Loader=LOADER)
    return tuple(_of_call(node) for node in calls.value) if isinstance(calls, yaml.SequenceNode) else ()


def _of_call(node: yaml.Node) -> CallLines:
    pairs = node.value if isinstance(node, yaml.MappingNode) else []
    return CallLines(
        first=node.start_mark.line + 1,
        fields={str(key.value): key.start_mark.line + 1 for key, _ in pairs},
        blocks=frozenset(str(key.value) for key, value in pairs if getattr(value, "style", None) == "|"),
    )


def fault_line(content: bytes, error: Exception) -> int:
    """Where the parser of YAML, or of UTF-8, gave up on ``content``; 0 where the error does not say."""
    if isinstance(error, UnicodeDecodeError):
        return content.count(b"\n", 0, error.start) + 1
    mark = getattr(error, "problem_mark", None)
    return 0 if mark is None else mark.line + 1


def faults_of(error: ValidationError, known: Iterable[str]) -> list[CallFault]:
    """What pydantic found in a call, whose fields are ``known``."""
    return [f for its in error.errors(include_url=False, include_input=False) for f in _faults_of(its, known)]


def _faults_of(of_pydantic: Any, known: Iterable[str]) -> Sequence[CallFault]:
    raised = of_pydantic.get("ctx", {}).get("error")
    if isinstance(raised, CallError):
        return raised.found
    field = str(of_pydantic["loc"][0])
    match of_pydantic["type"]:
        case "missing":
            return [CallFault(field, "is missing: add it")]
        case "extra_forbidden":
            return [CallFault(field, f"no such field; known are {', '.join(known)}")]
        case "too_short":
            return [CallFault(field, "want two turns or more")]
        case "string_pattern_mismatch":
            return [CallFault(field, "want a language and lower-case words, digits and dashes: en-parcel-lost-deposit")]
    return [CallFault(field, of_pydantic["msg"].replace("Input should be", "want"))]
