"""A sequential test over one call: calibrated log-likelihood ratios in, risk and level out.

The evidence is a sum with a floor, as in Page's CUSUM (Biometrika 41, 1954): a long harmless opening, or a caller who
reassures, cannot put so much to his credit that the ask at the end goes unnoticed. A second such sum leaves out what
utterances add that show no act of a scam, and the first stays within a bound of it. Thresholds are those of the model's
operating point, chosen on development calls for a stated false-alarm rate; without one, Wald's bound (Sequential
Analysis, 1947) is used: evidence above ln(1/a) is reached with probability at most a when nothing is wrong.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, TypeAlias

from pydantic import BaseModel, ConfigDict, Field, NonNegativeFloat, ValidationError, model_validator

from inference.errors import WeightsError
from inference.intent.acts import SCAM_ACTS
from inference.intent.calibration import CALIBRATION_FILE, Calibration, OperatingPoint, load_calibration
from inference.intent.scores import FAMILIES, STAGES, IntentScores
from inference.opinion.answer import Shown
from inference.opinion.inquiry import Inquiry
from inference.opinion.question import Question
from inference.speech.utterance import Utterance

Level: TypeAlias = Literal["none", "suspect", "danger"]
LEVELS: tuple[Level, ...] = ("none", "suspect", "danger")
"""From harmless to worst; compare by index."""

SUSPECT_FALSE_ALARMS = 0.03
DANGER_FALSE_ALARMS = 0.01
"""Share of genuine calls that may reach a level, where no operating point says else (Wald's bound)."""

ACTS = tuple(stage for stage in STAGES if stage != "reassure")
TELLING = tuple(stage for stage in ACTS if stage != "contact")
"""Stages that are more than a greeting."""


class VerdictConfig(BaseModel):
    """Settings of the verdict.

    Attributes:
        prior: probability that a call is a scam before a word is said. Risk is a probability at this prior.
        suspect_llr, danger_llr: nats of evidence at which the levels begin; None: the model's operating point, or
            Wald's bound.
        language_llr: both of them in a language that has its own; filled from the model where none is set by hand.
        stage_probability: probability from which a stage counts, per language and stage; "" is every other language.
            Filled from the model where none is set by hand.
        hysteresis_llr: a level is left only this far below where it began.
        floor_llr: nats below the start that harmless talk can bring the evidence to.
        ceiling_llr: nats that the evidence is held to, so that a mistaken alarm can still be taken back.
        min_far_utterances: far utterances that must speak for a scam before ``danger``; one alone never does.
        min_far_llr: what an utterance must add to be counted among those.
        min_acts: different acts (stages but ``reassure``) that these must show before ``danger``.
        act_probability: an act counts from this probability, where the model has no threshold of its own.
        act_repeat: share that an act counts for which the call has shown before; None: the model's own, or 1.
        bare_budget: nats that utterances which show no act of a scam can raise the evidence by, all together, in any
            language; None: the model's own, or no bound.
        language_budget: the same in a language that has its own, "" is every other; filled from the model.
        needs_act: whether an act of a scam must have been shown (``act_probability``) before any alarm: of real chats
            fewer are alarmed of, and scams later (models/README.md).
        max_evidence: utterances named with an alert.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    prior: float = Field(default=0.05, gt=0, lt=1)
    suspect_llr: float | None = Field(default=None, gt=0)
    danger_llr: float | None = Field(default=None, gt=0)
    language_llr: dict[str, tuple[float, float]] = Field(default_factory=dict)
    stage_probability: dict[str, dict[str, float]] = Field(default_factory=dict)
    hysteresis_llr: float = Field(default=1.0, ge=0)
    floor_llr: float = Field(default=3.0, ge=0)
    ceiling_llr: float = Field(default=12.0, gt=0)
    min_far_utterances: int = Field(default=2, ge=2)
    min_far_llr: float = Field(default=0.2, gt=0)
    min_acts: int = Field(default=2, ge=1, le=len(ACTS))
    act_probability: float = Field(default=0.5, gt=0, lt=1)
    act_repeat: float | None = Field(default=None, ge=0, le=1)
    bare_budget: float | None = Field(default=None, ge=0)
    language_budget: dict[str, NonNegativeFloat | None] = Field(default_factory=dict)
    needs_act: bool = False
    max_evidence: int = Field(default=3, ge=1, le=20)

    @model_validator(mode="after")
    def _check(self) -> "VerdictConfig":
        for suspect, danger in (self.thresholds(), *self.language_llr.values()):
            if not 0 < suspect <= danger <= self.ceiling_llr:
                raise ValueError("want suspect_llr <= danger_llr <= ceiling_llr")
        return self

    def thresholds(self, language: str | None = None) -> tuple[float, float]:
        """Evidence at which ``suspect`` and ``danger`` begin, nats, in a call of ``language`` (ISO 639-1)."""
        if language in self.language_llr:
            return self.language_llr[language]
        suspect = -math.log(SUSPECT_FALSE_ALARMS) if self.suspect_llr is None else self.suspect_llr
        danger = -math.log(DANGER_FALSE_ALARMS) if self.danger_llr is None else self.danger_llr
        return suspect, danger

    def calibrated(self, calibration: Calibration | Path) -> "VerdictConfig":
        """These settings with the model's operating point where none is set by hand.

        Raises:
            WeightsError: calibration.json is missing or malformed, or does not go with what is set by hand.
        """
        if isinstance(calibration, Path):
            calibration = load_calibration(calibration)
        suspect, danger = self._merged(calibration.operating_point)
        own = {code: self._merged(weights.operating_point) for code, weights in calibration.by_language.items()}
        repeat = calibration.act_repeat if self.act_repeat is None else self.act_repeat
        budgets = {"": calibration.bare_budget} | {
            code: weights.bare_budget for code, weights in calibration.by_language.items()
        }
        by_language = {"": calibration.stage_thresholds} | {
            code: weights.stage_thresholds for code, weights in calibration.by_language.items()
        }
        stages = {code: stages for code, stages in by_language.items() if stages}
        changed = {
            "suspect_llr": suspect,
            "danger_llr": danger,
            "act_repeat": repeat,
            "language_budget": budgets | self.language_budget,
            "language_llr": own | self.language_llr,
            "stage_probability": stages | self.stage_probability,
        }
        try:
            return VerdictConfig.model_validate(self.model_dump() | changed)
        except ValidationError as error:
            why = error.errors(include_url=False, include_input=False)[0]["msg"]
            raise WeightsError(f"{CALIBRATION_FILE} does not go with the settings of verdict: {why}") from None

    def shows(self, stage: str, language: str | None = None) -> float:
        """Probability from which ``stage`` counts as shown in ``language`` (ISO 639-1)."""
        known = self.stage_probability.get(language or "", self.stage_probability.get("", {}))
        return known.get(stage, self.act_probability)

    def budget(self, language: str | None = None) -> float | None:
        """Nats that utterances without an act can add together in a call of ``language``; None: no bound."""
        if self.bare_budget is not None:
            return self.bare_budget
        return self.language_budget.get(language or "", self.language_budget.get(""))

    def _merged(self, point: OperatingPoint) -> tuple[float, float]:
        """A model's thresholds, where none is set by hand."""
        suspect = point.suspect_llr if self.suspect_llr is None else self.suspect_llr
        danger = point.danger_llr if self.danger_llr is None else self.danger_llr
        return min(suspect, danger), max(suspect, danger)


@dataclass(frozen=True, slots=True)
class Assessment:
    """What is thought of the call after an utterance.

    Attributes:
        risk: probability that the call is a scam, given what was said so far, at the configured prior.
        level: ``none``, ``suspect`` or ``danger``.
        family: most likely scam family; None while the level is ``none``.
        stage: what the far party was doing last, by the evidence; None while the level is ``none``.
        evidence: the utterances that spoke most for a scam, in order of time; at most ``max_evidence``.
        acts: nats per act that the call has shown (:mod:`inference.intent.acts`), those that weigh most first:
            positive ones speak for a scam, negative ones for a genuine call. This is why.
    """

    risk: float
    level: Level
    family: str | None
    stage: str | None
    evidence: tuple[Utterance, ...]
    acts: tuple[tuple[str, float], ...] = ()


@dataclass(frozen=True, slots=True)
class _Mover:
    llr: float
    number: int
    utterance: Utterance


class Verdict:
    """Judges ONE call; bounded memory however long it lasts."""

    def __init__(
        self,
        config: VerdictConfig | None = None,
        inquiry: Inquiry | None = None,
    ) -> None:
        """Begin a call.

        Args:
            config: settings.
            inquiry: what may be asked about this call; None: nobody is asked for an opinion.
        """
        self.config = config or VerdictConfig()
        self._inquiry = inquiry
        self._repeat = 1.0 if self.config.act_repeat is None else self.config.act_repeat
        self._prior_logit = math.log(self.config.prior / (1 - self.config.prior))
        self._evidence_llr = 0.0
        self._unbare_llr = 0.0  # the same without what bare utterances added
        self._language: str | None = None
        self._level: Level = "none"
        self._number = 0
        self._far_utterances = 0
        self._acts: set[str] = set()
        self._held: dict[str, float] = {}  # per stage and act, the most shown so far
        self._has_act = False
        self._stage: str | None = None
        self._family_logs = dict.fromkeys(FAMILIES, 0.0)
        self._movers: list[_Mover] = []
        self._assessment = self._assess()

    @property
    def assessment(self) -> Assessment:
        """What is thought of the call now."""
        return self._assessment

    @property
    def evidence_llr(self) -> float:
        """Accumulated evidence, nats."""
        return self._evidence_llr

    @property
    def thresholds(self) -> tuple[float, float]:
        """Evidence at which ``suspect`` and ``danger`` begin in the language that was spoken last, nats."""
        return self.config.thresholds(self._language)

    def update(self, utterance: Utterance, scores: IntentScores) -> Assessment:
        """Weigh the next utterance of the call; returns the new :attr:`assessment`."""
        self._number += 1
        self._language = utterance.language
        llr = self._added(scores)
        if self.config.needs_act and utterance.leg == "far":
            self._has_act |= _shows_act(scores, self.config.act_probability)
        if self._inquiry is not None:
            self._inquiry.add(utterance, scores.weighed)
        if llr > 0:
            self._note(utterance, scores, llr)
        is_bare = scores.weighed is not None and scores.weighed.is_bare
        return self._add(llr, is_bare=is_bare)

    def is_in_doubt(self, now_s: float) -> bool:
        """Whether an opinion of the call is to be asked for: it is at ``suspect``, and something new was said.

        Args:
            now_s: call time.
        """
        return self._inquiry is not None and self._level == "suspect" and self._inquiry.is_due(now_s)

    def question(self, now_s: float) -> Question | None:
        """What to ask about the call; None where it is not :meth:`in doubt <is_in_doubt>` (any more)."""
        return self._inquiry.question(now_s) if self._inquiry is not None and self.is_in_doubt(now_s) else None

    def reconsider(self, question: Question, shown: Shown) -> Assessment:
        """Weigh an opinion (:mod:`inference.opinion.inquiry`); returns the new :attr:`assessment`.

        The level may rise or fall by it, but not out of ``danger``; and it rises to ``danger`` only where the
        classifier itself has found utterances and acts enough, as without it.

        Args:
            question: one that :meth:`question` gave.
            shown: the acts that were seen in it.
        """
        if self._inquiry is None:
            return self._assessment
        revision = self._inquiry.revise(question, shown, self._repeat, may_take=self._level != "danger")
        if revision is None:
            return self._assessment
        self._held = revision.held
        return self._add(revision.llr)

    def _add(self, llr: float, *, is_bare: bool = False) -> Assessment:
        before, total = self._evidence_llr, self._evidence_llr + llr
        if is_bare and llr > 0:
            if (budget := self.config.budget(self._language)) is not None:
                total = min(total, max(before, self._unbare_llr + budget))
        else:
            self._unbare_llr = self._held_in(self._unbare_llr + llr)
        self._evidence_llr = self._held_in(total)
        self._level = self._next_level()
        self._assessment = self._assess()
        return self._assessment

    def _held_in(self, llr: float) -> float:
        return min(self.config.ceiling_llr, max(-self.config.floor_llr, llr))

    def _added(self, scores: IntentScores) -> float:
        """Nats that the utterance adds, what was shown before counting for less; remembers what it shows."""
        if scores.weighed is None:
            return scores.llr
        llr = scores.weighed.total(self._held, self._repeat)
        scores.weighed.note(self._held)
        return llr

    def _note(self, utterance: Utterance, scores: IntentScores, llr: float) -> None:
        """Remember an utterance that speaks for a scam: its act, its family, itself."""
        if utterance.leg == "far" and llr >= self.config.min_far_llr:
            self._far_utterances += 1
            beyond = {act: scores.stages[act] - self.config.shows(act, self._language) for act in ACTS}
            acts = [act for act, excess in beyond.items() if excess >= 0]
            self._acts.update(acts)
            if acts:
                self._stage = max(acts, key=beyond.__getitem__)
        for family, probability in scores.families.items():
            self._family_logs[family] += llr * math.log(max(probability, 1e-4))
        self._movers.append(_Mover(llr, self._number, utterance))
        self._movers.sort(key=lambda mover: -mover.llr)
        del self._movers[self.config.max_evidence :]

    def _next_level(self) -> Level:
        suspect, danger = self.thresholds
        held = LEVELS.index(self._level)
        slack = self.config.hysteresis_llr
        if self.config.needs_act and not self._has_act:
            return "none"  # nothing was done yet; it only sounds like a scam
        is_proven = self._far_utterances >= self.config.min_far_utterances and len(self._acts) >= self.config.min_acts
        if is_proven and self._evidence_llr >= danger - (slack if held >= 2 else 0.0):
            return "danger"
        if self._evidence_llr >= suspect - (slack if held >= 1 else 0.0):
            return "suspect"
        return "none"

    def _assess(self) -> Assessment:
        is_named = self._level != "none"
        family = max(self._family_logs, key=lambda name: self._family_logs[name]) if is_named else None
        movers = sorted(self._movers, key=lambda mover: mover.number)
        return Assessment(
            risk=1 / (1 + math.exp(-(self._prior_logit + self._evidence_llr))),
            level=self._level,
            family=family,
            stage=self._stage if is_named else None,
            evidence=tuple(mover.utterance for mover in movers),
            acts=tuple(
                (act, round(part, 2))
                for act, part in sorted(self._held.items(), key=lambda item: -abs(item[1]))
                if act not in STAGES and part
            ),
        )


def _shows_act(scores: IntentScores, probability: float) -> bool:
    """Whether an utterance of the far leg shows an act of a scam, or a stage that only such acts are of."""
    done = [scores.acts.get(act, 0.0) for act in SCAM_ACTS] + [scores.stages[stage] for stage in TELLING]
    return max(done) >= probability


def highest(levels: Sequence[Level]) -> Level:
    """The worst of ``levels``; ``none`` for none."""
    return max(levels, key=LEVELS.index, default="none")
