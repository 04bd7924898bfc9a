"""Our scripts as our own recogniser heard them: voiced, sent over a line, cut and recognised as a live call is.

One call a line in JSON Lines files, made by ``scamtap-train recognise``. A line names script and turns but holds no
marks: stages, family and split are the script's, so a recognised copy is always in its script's split, and marks may
be corrected without voicing again.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from inference.audio import Leg
from inference.errors import ConfigError
from training.intent.data import Call, Piece, script_call
from training.scripts import Script
from training.voice.call import script_hash
from training.voice.voices import Synthesiser

SOURCE = "recognised"
"""Source name of such calls beside ``scripts`` and the outside ones."""


class HeardUtterance(BaseModel):
    """What the recogniser wrote down of one speech segment.

    Attributes:
        turns: indices of the script's turns of that leg which were being said, the one heard longest first; none where
            nobody spoke (noise taken for words).
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    leg: Leg
    turns: tuple[int, ...]
    text: str


class HeardCall(BaseModel):
    """One voiced script as it was recognised.

    Attributes:
        id: of the script.
        synthesiser, preset, seed: how it was voiced.
        key: of the recording (:attr:`training.voice.call.VoicedCall.key`).
        script_sha256: of the words that were voiced.
        num_errors, num_words: word errors over both legs, and words in the script.
        utterances: in the order in which they became known.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    id: str
    synthesiser: Synthesiser
    preset: str
    seed: int
    key: str = Field(pattern=r"^[0-9a-f]{64}$")
    script_sha256: str = Field(pattern=r"^[0-9a-f]{64}$")
    num_errors: int = Field(ge=0)
    num_words: int = Field(ge=0)
    utterances: tuple[HeardUtterance, ...]


def read_heard(path: Path) -> Iterator[HeardCall]:
    """Calls of one file.

    Raises:
        ConfigError: it cannot be read or a line is malformed; names file, line and field.
    """
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path}: cannot be read as text; make it again: scamtap-train recognise") from error
    for number, line in enumerate(lines, 1):
        try:
            yield HeardCall.model_validate_json(line)
        except ValidationError as error:
            first = error.errors(include_url=False, include_input=False)[0]
            where = ".".join(str(part) for part in first["loc"]) or "the whole line"
            raise ConfigError(
                f"{path}: line {number}: {where}: {first['msg']}; make it again: scamtap-train recognise"
            ) from None


def heard_call(heard: HeardCall, script: Script) -> Call:
    """A recognised copy of ``script`` as training and evaluation see it."""
    written = script_call(script)
    has_acts = any(piece.acts is not None for piece in written.pieces)
    pieces: list[Piece] = []
    turn = 0
    for utterance in heard.utterances:
        turns = [index for index in utterance.turns if index < len(script.turns)]
        turn = turns[0] if turns else turn
        stages = tuple(sorted({stage for index in turns for stage in script.turns[index].all_stages}))
        acts = tuple(sorted({act for index in turns for act in script.turns[index].acts})) if has_acts else None
        pieces.append(Piece(utterance.leg, utterance.text, turn, stages, acts))
    return Call(
        id=f"{script.id}-{heard.synthesiser}-{heard.preset}",
        source=SOURCE,
        is_scam=written.is_scam,
        family=written.family,
        topic=written.topic,
        group=written.group,
        split=written.split,
        pieces=tuple(pieces) or written.pieces,
        ask_turn=written.ask_turn,
        language=written.language,
    )


def read_recognised(folder: Path | None, scripts: Mapping[str, Script]) -> tuple[list[Call], int]:
    """Every recognised call under ``folder`` whose script still has the words that were voiced.

    Returns:
        the calls, in path order, and how many were left out because their script is gone or has other words now.

    Raises:
        ConfigError: the folder holds no JSON Lines, or one is malformed.
    """
    if folder is None:
        return [], 0
    paths = sorted(folder.rglob("*.jsonl"))
    if not paths:
        raise ConfigError(f"{folder}: no *.jsonl there; make some: scamtap-train recognise --help")
    hashes = {script.id: script_hash(script) for script in scripts.values()}
    heard = [call for path in paths for call in read_heard(path)]
    fitting = [call for call in heard if hashes.get(call.id) == call.script_sha256]
    return [heard_call(call, scripts[call.id]) for call in fitting], len(heard) - len(fitting)


def word_error_rates(calls: Iterable[HeardCall]) -> dict[str, float]:
    """``<synthesiser> <preset>`` -> word errors per word."""
    errors: dict[str, list[int]] = {}
    for call in calls:
        counted = errors.setdefault(f"{call.synthesiser} {call.preset}", [0, 0])
        counted[0] += call.num_errors
        counted[1] += call.num_words
    return {name: round(wrong / max(1, words), 4) for name, (wrong, words) in sorted(errors.items())}


def overlapping(start_s: float, end_s: float, turns: Sequence[tuple[float, float]], least: float = 0.25) -> list[int]:
    """Which of ``turns`` (start and end, seconds) are heard between ``start_s`` and ``end_s``, the longest heard first.

    A turn counts if it fills the share ``least`` of the segment, or if that share of the turn lies in it: segments
    begin before the speech and end after it, so a neighbour may touch.
    """
    shared = [(min(end_s, end) - max(start_s, start), index) for index, (start, end) in enumerate(turns)]
    counted = [
        (seconds, index)
        for seconds, index in shared
        if seconds > 0 and seconds >= least * min(end_s - start_s, turns[index][1] - turns[index][0])
    ]
    return [index for _, index in sorted(counted, key=lambda item: (-item[0], item[1]))]
