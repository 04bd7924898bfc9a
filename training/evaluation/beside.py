"""What is shipped beside a model of an evaluation: its figures, and the scores that traffic is compared with."""

from collections.abc import Mapping, Sequence
from pathlib import Path

from training.evaluation.drift import reference_of, write_reference
from training.evaluation.given import Measured, languages_in
from training.evaluation.outcome import Outcome
from training.evaluation.run import Report, languages_of
from training.intent.report import REPORT_FILE, read_report, write_report
from training.intent.sources import Sources, digests

OF_REFERENCE = ("scripts", "scripts-zh")
"""Sets whose scores traffic is compared with."""


def write_beside(
    version: Path, sources: Sources, sets: Sequence[Measured], made: Report, outcomes: Mapping[str, Sequence[Outcome]]
) -> None:
    """Put down what ``version`` judged, of all that was: report.json, reference.json.

    Args:
        version: its folder.
        sources: where the sets come from.
        sets: what was measured.
        made: the figures.
        outcomes: what they are of.
    """
    judged = set(languages_of(version))
    names = [measured.name for measured in sets if languages_in(measured) <= judged]
    path = version / REPORT_FILE
    tested = {name: made.sets[name] for name in names}
    write_report(path, read_report(path) | {"test": tested, "tested_on": digests(sources)})
    scored = [outcome for name in names if name in OF_REFERENCE for outcome in outcomes[name]]
    if (reference := reference_of(scored, made.models[0]["prior"])) is not None:
        write_reference(version, reference)
