"""``scamtap-train mine`` and ``labelled``: which calls to label next, and their labels back."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from inference.errors import ConfigError

stdout = Console(highlight=False, soft_wrap=True)
stderr = Console(stderr=True, highlight=False, soft_wrap=True)

NOT_KEPT = (
    "privacy.transcripts.folder is not set, so nothing that was said was kept, and there is nothing to label: set it "
    "in the workers' config, where your legal basis covers it"
)


def mine(
    out: Annotated[Path, typer.Option(help="Tasks to write, for Label Studio: JSON, with the page beside it as .xml.")],
    config: Annotated[
        Path | None, typer.Option("--config", "-c", help="The workers' settings: they say where transcripts are kept.")
    ] = None,
    limit: Annotated[int, typer.Option(min=1, max=10_000, help="How many calls to label.")] = 50,
    scripts: Annotated[Path, typer.Option(help="What was learnt from.")] = Path("datasets/scripts"),
    data: Annotated[Path | None, typer.Option(help="Outside texts that were learnt from.")] = None,
    mask: Annotated[bool, typer.Option(help="Put the word 'number' in place of numbers, spelt out or not.")] = True,
) -> None:
    """Rank kept calls by what a label would teach, and write them for Label Studio.

    \b
    First: the subscriber said 'not a scam'; the call was warned of after that; its
    risk stood near the threshold; it is unlike everything learnt from.
      scamtap-train mine --config scamtap.yaml --out tasks.json
    Import tasks.json into Label Studio with the labelling page tasks.xml, label, export as JSON, then:
      scamtap-train labelled export.json --out new.jsonl --consent ... --legal-basis ... --source ... --licence ...
      scamtap-train retrain new.jsonl

    \b
    Only what workers kept is read, and they keep nothing unless privacy.transcripts says so.
    The file holds what was said: personal data, readable by you alone.
    """  # noqa: D301 -- typer wants its \b as it stands
    from inference.config import load_settings
    from inference.engine.repository import write_atomically
    from inference.intent.install import joint_calibration
    from inference.service.models import default_models_dir
    from training.intent.sources import Sources, read_sources
    from training.mine.label_studio import page, tasks, write_json
    from training.mine.rank import KeptCall, rank, read_kept
    from training.progress import progress_bar

    settings = load_settings(config)
    folder = settings.privacy.transcripts.folder
    if folder is None:
        raise ConfigError(NOT_KEPT)
    verdict = settings.verdict.calibrated(joint_calibration(settings.models_dir or default_models_dir()))
    known = [" ".join(piece.text for piece in call.pieces) for call in read_sources(Sources(scripts, data))]
    with progress_bar(stderr) as bar:
        task = bar.add_task("reading transcripts", total=None)

        def counted() -> Iterator[KeptCall]:
            for call in read_kept(folder):
                bar.advance(task)
                yield call

        ranked = rank(counted(), known, verdict, limit)
    write_json(out, tasks(ranked, mask=mask))
    write_atomically(out.with_suffix(".xml"), lambda temporary: temporary.write_text(page(), encoding="utf-8"))
    for call in ranked[:10]:
        reasons = ", ".join(f"{name} {value:g}" for name, value in call.reasons.items())
        stdout.print(f"{call.call.id}: {call.worth:g} ({reasons})", markup=False)
    stdout.print(f"wrote {out}: {len(ranked)} calls to label; page {out.with_suffix('.xml')}", markup=False)


def labelled(
    export: Annotated[Path, typer.Argument(help="Label Studio's export (JSON).", show_default=False)],
    out: Annotated[Path, typer.Option(help="Labelled calls to write (JSON Lines).")],
    consent: Annotated[str, typer.Option(help="Whose, and to what.")],
    legal_basis: Annotated[str, typer.Option(help="Why these calls may be learnt from.")],
    source: Annotated[str, typer.Option(help="Where they come from.")],
    licence: Annotated[str, typer.Option(help="On which terms.")],
) -> None:
    """Finished labels as a file for `scamtap-train retrain`; unclear and unfinished calls are left out."""
    from inference.engine.repository import write_atomically
    from training.mine.label_studio import labelled_lines, read_export

    provenance = {"consent": consent, "legal_basis": legal_basis, "source": source, "licence": licence}
    exported = read_export(export)
    lines = labelled_lines(exported, provenance)
    text = "".join(json.dumps(line, ensure_ascii=False) + "\n" for line in lines)

    def write(temporary: Path) -> None:
        temporary.touch(mode=0o600)
        temporary.write_text(text, encoding="utf-8")

    write_atomically(out, write)
    stdout.print(f"wrote {out}: {len(lines)} labelled calls of {len(exported)} tasks", markup=False)
