"""What an opinion can do to our own written calls, for good and ill: the test scripts, judged as `scamtap score` does.

    python benchmarks/opinion.py [--calls 40] [--added 1.5] [--taken 0.5]

No language model is asked. Four stand-ins bound what one could do within those nats: one that answers with the acts
that whoever wrote the script marked; one that sees no act in anything; and two that a caller has talked round entirely,
who see every act of a genuine call in all that is said, or every act of a scam. ``--calls`` of each label and language
are taken, in the order of their ids. Told apart are the highest level that a call reached and the one it ended with.
"""

import argparse
import os
from collections import Counter, defaultdict
from collections.abc import Callable, Collection, Iterable, Sequence
from pathlib import Path

from inference.config import Settings
from inference.intent.acts import GENUINE_ACTS, SCAM_ACTS
from inference.intent.context import ContextWindow
from inference.intent.scorer import IntentScorer
from inference.intent.scores import IntentScores
from inference.intent.text import split_utterances
from inference.opinion.answer import Answer
from inference.opinion.config import OpinionConfig
from inference.opinion.inquiry import Inquiry
from inference.opinion.question import Line, Question
from inference.service.models import build_scorer
from inference.verdict.offline import CallScore, score_call
from inference.verdict.verdict import LEVELS
from training.scripts import Script, load_scripts

ROOT = Path(__file__).resolve().parents[1]
Sees = Callable[[Line], Collection[str]]


class StandIn:
    """Answers at once."""

    is_paused = False

    def __init__(self, sees: Sees) -> None:
        self._sees = sees
        self.num_asked = 0

    def ask(self, question: Question) -> Answer:
        self.num_asked += 1
        return Answer("answered", 0.0, {n: frozenset(self._sees(line)) for n, line in enumerate(question.lines, 1)})


class Remembering:
    """A scorer that reads every window once, however often its call is judged."""

    def __init__(self, scorer: IntentScorer) -> None:
        self._scorer = scorer
        self._scores: dict[ContextWindow, IntentScores] = {}

    def score(self, items: Sequence[ContextWindow]) -> list[IntentScores]:
        new = [item for item in items if item not in self._scores]
        self._scores |= zip(new, self._scorer.score(new), strict=True)
        return [self._scores[item] for item in items]


def chosen(num_calls: int) -> list[Script]:
    """The test scripts, ``num_calls`` of each label and language."""
    groups: dict[tuple[str, str], list[Script]] = defaultdict(list)
    for script in sorted(load_scripts(ROOT / "datasets" / "scripts"), key=lambda script: script.id):
        if script.split == "test":
            groups[script.label, script.lang].append(script)
    return [script for group in groups.values() for script in group[:num_calls]]


def marked(script: Script) -> Sees:
    """Sees what was marked when the call was written; only what is said word for word twice is seen twice."""
    acts: dict[str, set[str]] = defaultdict(set)
    for turn in script.turns:
        for text in split_utterances(turn.text):
            acts[text].update(turn.acts)
    return lambda line: acts[line.text]


def levels(found: Iterable[str]) -> str:
    counts = Counter(found)
    return "  ".join(f"{level} {counts[level]:>3}" for level in LEVELS)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--calls", type=int, default=40)
    parser.add_argument("--added", type=float, default=OpinionConfig().max_added_nats)
    parser.add_argument("--taken", type=float, default=OpinionConfig().max_taken_nats)
    arguments = parser.parse_args()
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    bounds = {"max_added_nats": arguments.added, "max_taken_nats": arguments.taken}
    asks = OpinionConfig(url="http://127.0.0.1/v1", model="stand-in", **bounds)
    settings = Settings()
    scorer = build_scorer(settings)
    calibration, verdict = scorer.calibration, settings.verdict.calibrated(scorer.calibration)
    remembering = Remembering(scorer)
    judged: dict[tuple[str, str], list[CallScore]] = defaultdict(list)
    asked: Counter[str] = Counter()
    for script in chosen(arguments.calls):
        about = (remembering, verdict, script.turns, script.lang)
        judged[script.label, "nobody asked"].append(score_call(*about))
        stand_ins: dict[str, Sees] = {
            "marks of the script": marked(script),
            "sees no act": lambda _line: (),
            "sees all genuine": lambda _line: GENUINE_ACTS,
            "sees all of a scam": lambda _line: SCAM_ACTS,
        }
        for name, sees in stand_ins.items():
            stand_in = StandIn(sees)
            judged[script.label, name].append(score_call(*about, Inquiry(asks, calibration), stand_in))
            asked[name] += stand_in.num_asked
    print(f"an opinion may add {arguments.added:g} nats to a call and take {arguments.taken:g}")
    for (label, name), scores in sorted(judged.items(), key=lambda item: item[0][0]):
        highest, last = levels(s.level for s in scores), levels(s.levels[-1] for s in scores)
        print(f"{label:>7} {len(scores):>4} {name:<20} highest: {highest}   at the end: {last}")
    print("questions:", ", ".join(f"{name} {count}" for name, count in asked.items()))


if __name__ == "__main__":
    main()
