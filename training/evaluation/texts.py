"""Call texts through the door that ``scamtap score`` uses: intent, verdict, and when."""

from collections.abc import Callable, Iterable, Sequence

from inference.intent.scorer import IntentScorer
from inference.intent.text import atoms, weight
from inference.verdict.offline import WORDS_PER_S, score_call
from inference.verdict.verdict import VerdictConfig
from training.evaluation.outcome import Alarm, AlarmLevel, Outcome, What, alarm_levels
from training.intent.data import Call, Piece
from training.parallel import in_order
from training.scripts import Turn

OPENING = frozenset(("contact", "reassure"))
"""Stages that a call may show before anything is done to the subscriber."""


REWRITTEN = "-rewritten"
"""In the id of a call that tells another one anew, after that one's id."""


def spoken_s(text: str) -> float:
    """How long a text takes to say on the telephone, seconds."""
    return sum(map(weight, atoms(text))) / WORDS_PER_S


def judge_text(
    scorer: IntentScorer, verdict: VerdictConfig, call: Call, what: What, slices: dict[str, str] | None = None
) -> Outcome:
    """Score one call as it would be heard.

    Args:
        scorer: the intent model.
        verdict: settings with the model's operating point.
        call: labelled; its pieces are cut as they were or would be heard, so each is scored as a turn of its own.
        what: what its words are.
        slices: further names to count it under.
    """
    turns = [Turn(leg=piece.leg, text=piece.text) for piece in call.pieces]
    score = score_call(scorer, verdict, turns, call.language)
    ends = _ends(call.pieces)
    alarms: dict[AlarmLevel, Alarm] = {}
    first: dict[AlarmLevel, int | None] = {"suspect": score.first_alert_turn, "danger": score.first_danger_turn}
    for level in alarm_levels(score.level):
        if (piece := first[level]) is not None:
            alarms[level] = ends[piece]
    ask = next((i for i, piece in enumerate(call.pieces) if piece.turn == call.ask_turn), None)
    marked = [i for i, p in enumerate(call.pieces) if p.leg == "far" and set(p.stages or ()) - OPENING]
    last = ends[-1] if ends else Alarm(0.0, 0.0)
    return Outcome(
        id=call.id,
        is_scam=call.is_scam,
        family=call.family,
        topic=call.topic,
        lang=call.language,
        source=call.source,
        what=what,
        risk=max(score.risk, default=0.0),
        alarms=alarms,
        far_s=last.far_s,
        talk_s=last.at_s,
        ask_s=None if ask is None else ends[ask].at_s - spoken_s(call.pieces[ask].text),
        act_far_s=ends[marked[0]].far_s - spoken_s(call.pieces[marked[0]].text) if marked else None,
        family_named=score.family,
        slices=slices or {},
    )


def _ends(pieces: Sequence[Piece]) -> list[Alarm]:
    """When each piece has been said: call time, and far-leg speech by then."""
    at_s = far_s = 0.0
    ends = []
    for piece in pieces:
        length_s = spoken_s(piece.text)
        at_s += length_s
        far_s += length_s if piece.leg == "far" else 0.0
        ends.append(Alarm(at_s, far_s))
    return ends


def judge_texts(
    scorers: Sequence[IntentScorer],
    verdict: VerdictConfig,
    calls: Iterable[Call],
    what: What,
    advance: Callable[[], None],
) -> list[Outcome]:
    """:func:`judge_text` for many, a thread per scorer; ``advance`` is told after each."""

    def judge(scorer: IntentScorer, call: Call) -> Outcome:
        return judge_text(scorer, verdict, call, what, rewriting(call.id))

    return in_order(judge, scorers, calls, advance)


def rewriting(call_id: str) -> dict[str, str]:
    """Which side of the comparison a call stands on: ``<id>-rewritten-polite`` tells ``<id>`` politely."""
    _, mark, how = call_id.partition(REWRITTEN)
    return {"rewritten": how.removeprefix("-") or "otherwise"} if mark else {}
