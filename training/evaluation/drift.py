"""Whether traffic still looks as it did when the model was calibrated: scores against those it shipped with.

Labels come late or never; scores come with every call. Where their distribution has moved, thresholds set on the old
one promise nothing, whatever the reason: other callers, another codec, a recogniser that hears less, a new script.
"""

import itertools
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from pydantic import BaseModel, ConfigDict, Field, ValidationError
from rich.console import Console

from inference.config import Settings
from inference.engine.repository import write_atomically
from inference.errors import ConfigError
from inference.service.call import CallParts
from inference.service.events import AlertEvent, UtteranceEvent
from inference.service.models import build_parts, build_scorer, build_stages
from inference.service.replay import replay
from inference.service.score import CallText, score_text
from inference.service.stages import Stages
from training.evaluation.outcome import Outcome
from training.evaluation.run import settings_of
from training.metrics import Shift, per_thousand, shift
from training.progress import progress_bar

REFERENCE_FILE = "reference.json"
MAX_SCORES = 1000
MIN_TRAFFIC = 30
"""With fewer calls even a broken microphone passes for chance."""


class Reference(BaseModel):
    """Scores the model shipped with.

    Attributes:
        prior: share of scams that traffic is taken to have.
        genuine, scam: highest risk of each call; at most :data:`MAX_SCORES`, evenly by rank.
        alarm_rate: share of calls with an alert, at that prior.
        what: what the calls were.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    prior: float = Field(gt=0, lt=1)
    genuine: tuple[float, ...] = Field(min_length=1)
    scam: tuple[float, ...] = Field(min_length=1)
    alarm_rate: float = Field(ge=0, le=1)
    what: tuple[str, ...]


def reference_of(outcomes: Sequence[Outcome], prior: float) -> Reference | None:
    """What to ship of an evaluation; None where it lacks one kind of call."""
    sides = {kind: [o for o in outcomes if o.is_scam == kind] for kind in (True, False)}
    if not all(sides.values()):
        return None
    rates = {kind: sum(bool(o.alarms) for o in its) / len(its) for kind, its in sides.items()}
    return Reference(
        prior=prior,
        genuine=_thinned([o.risk for o in sides[False]]),
        scam=_thinned([o.risk for o in sides[True]]),
        alarm_rate=round(prior * rates[True] + (1 - prior) * rates[False], 5),
        what=tuple(sorted({o.what for o in outcomes})),
    )


def _thinned(values: Sequence[float]) -> tuple[float, ...]:
    ranks = np.linspace(0, 1, min(MAX_SCORES, len(values)))
    return tuple(round(float(v), 5) for v in np.quantile(values, ranks))


def write_reference(folder: Path, reference: Reference) -> None:
    """Put it beside the model."""
    text = reference.model_dump_json() + "\n"
    write_atomically(folder / REFERENCE_FILE, lambda temporary: temporary.write_text(text, encoding="utf-8"))


def read_reference(folder: Path) -> Reference:
    """The scores that the version in ``folder`` shipped with.

    Raises:
        ConfigError: there are none, or they are malformed.
    """
    path = folder / REFERENCE_FILE
    try:
        return Reference.model_validate_json(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise ConfigError(
            f"{path}: cannot be read ({error.strerror}); measure the model: scamtap-train evaluate --update"
        ) from error
    except (ValidationError, ValueError) as error:
        raise ConfigError(f"{path}: is malformed; write it anew: scamtap-train evaluate --update") from error


@dataclass(frozen=True, slots=True)
class Heard:
    """What is known of one call of the traffic: its highest risk, and whether there was an alert."""

    risk: float
    is_alarmed: bool


def heard_recordings(paths: Iterable[Path], parts: CallParts, stages: Stages) -> Iterator[Heard]:
    """Recordings and captures through the call path; mono is the far party, as for ``scamtap replay``.

    Raises:
        MediaError: one cannot be read.
    """
    from inference.gateway.recording import open_recording

    for path in paths:
        for recorded in open_recording(path):
            risk, is_alarmed = 0.0, False
            for event in replay(recorded, parts, stages, language=None):
                if isinstance(event, UtteranceEvent):
                    risk = max(risk, event.risk)
                is_alarmed |= isinstance(event, AlertEvent)
            yield Heard(risk, is_alarmed)


@dataclass(frozen=True, slots=True)
class Drift:
    """Traffic against reference."""

    num_calls: int
    shift: Shift
    alarms: dict[str, Any]
    expected_alarm_rate: float

    @property
    def holds(self) -> bool:
        """Whether the calibration still holds, as far as scores can tell."""
        return not self.shift.is_drift

    def to_json(self) -> dict[str, Any]:
        """For report.json."""
        return {
            "calls": self.num_calls,
            "psi": self.shift.psi,
            "psi_limit": self.shift.psi_limit,
            "ks": self.shift.ks,
            "p_value": self.shift.p_value,
            "alarms": self.alarms,
            "expected_alarms_per_1000": round(1000 * self.expected_alarm_rate, 2),
            "calibration_holds": self.holds,
        }

    def line(self) -> str:
        """For the terminal."""
        says = "calibration holds" if self.holds else "calibration no longer holds"
        return (
            f"{says}: PSI {self.shift.psi:.3f} (limit {self.shift.psi_limit:.3f}), "
            f"KS {self.shift.ks:.3f} (p = {self.shift.p_value:.4f}) over {self.num_calls} calls; alarms per 1,000: "
            f"{self.alarms['per_1000']:.1f}, expected {1000 * self.expected_alarm_rate:.1f}"
        )


def heard_texts(calls: Iterable[CallText], settings: Settings) -> Iterator[Heard]:
    """Call texts through the door of ``scamtap score``.

    Raises:
        ScamTapError: no model judges the language of a call.
    """
    scorer = build_scorer(settings)
    verdict = settings.verdict.calibrated(scorer.calibration)
    for call in calls:
        scored = score_text(scorer, verdict, call)
        yield Heard(max(scored["risk"], default=0.0), scored["level"] != "none")


def drift_of(version: Path, calls: Sequence[CallText], audio: Sequence[Path], console: Console) -> "Drift":
    """Judge unlabelled traffic by ``version`` and hold it against what that shipped with.

    Args:
        version: whose calibration is asked about.
        calls: traffic as text.
        audio: recordings and captures.
        console: where the progress bar goes.

    Raises:
        ConfigError: the version has no reference, or there are too few calls to tell.
        ScamTapError: a model is missing, a recording cannot be read.
    """
    reference, heard = read_reference(version), list[Heard]()
    with settings_of(version) as settings, progress_bar(console) as bar:
        task = bar.add_task("scoring", total=None)
        stages = build_stages(settings) if audio else None
        try:
            spoken = heard_recordings(audio, build_parts(settings, stages), stages) if stages is not None else ()
            for one in itertools.chain(heard_texts(calls, settings) if calls else (), spoken):
                heard.append(one)
                bar.advance(task)
        finally:
            if stages is not None:
                stages.close()
    return drift(reference, heard)


def drift(reference: Reference, traffic: Sequence[Heard]) -> Drift:
    """Hold the scores of unlabelled traffic against the reference, mixed at its prior.

    Raises:
        ConfigError: too few calls to tell.
    """
    if len(traffic) < MIN_TRAFFIC:
        raise ConfigError(f"{len(traffic)} calls tell nothing of drift: give {MIN_TRAFFIC} or more")
    scores = [*reference.genuine, *reference.scam]
    weights = [
        *([(1 - reference.prior) / len(reference.genuine)] * len(reference.genuine)),
        *([reference.prior / len(reference.scam)] * len(reference.scam)),
    ]
    found = shift(scores, weights, [call.risk for call in traffic])
    alarms = per_thousand(sum(call.is_alarmed for call in traffic), len(traffic))
    return Drift(len(traffic), found, alarms, reference.alarm_rate)
