"""``scamtap-train data``: recordings and scripts checked, repaired, counted, split and exchanged."""

import json
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any

import typer
import yaml
from rich.console import Console
from rich.progress import Progress
from rich.table import Table

from inference.errors import ConfigError, ScamTapError
from training.data.agreement import Agreement, agreements, read_second
from training.data.checks import Checked, Fault, check
from training.data.exchange import export_lhotse, export_nemo, import_lhotse, import_nemo, lhotse_audio
from training.data.repair import repair_all
from training.data.script_checks import check_scripts
from training.data.splits import KEYS, deal, with_script_sides
from training.data.stats import COLUMNS, stats
from training.data.voiced import voiced_calls
from training.manifest import load_manifest, manifest_sha256, save_manifest
from training.scripts import load_scripts

app = typer.Typer(
    no_args_is_help=True,
    add_completion=False,
    help="Labelled recordings as data. Begin with: scamtap-train data from-voiced DIR, or data import.",
)
stdout = Console(highlight=False, soft_wrap=True)
stderr = Console(stderr=True, highlight=False, soft_wrap=True)

MAX_FAULTS_SHOWN = 50

ManifestArgument = Annotated[Path, typer.Argument(help="Manifest: JSON Lines, one call a line.", show_default=False)]
OutOption = Annotated[Path, typer.Option("--out", help="Manifest to write.", show_default=False)]


class FaultyDataError(ScamTapError):
    """A manifest has faults; they were printed."""


@app.command()
def validate(
    path: Annotated[Path, typer.Argument(help="Manifest, or a folder of call scripts.", show_default=False)],
    audio: Annotated[bool, typer.Option(help="Open the recordings, too.")] = True,
    alike: Annotated[float, typer.Option(min=0.05, max=1, help="Scripts that share so much are reported.")] = 0.4,
) -> None:
    """Find every fault: file, line, field, remedy; near copies, too. Exit 1 where something must be put right."""
    if path.is_dir():
        _validate_scripts(path, alike)
        return
    if path.suffix in (".yaml", ".yml"):
        raise ConfigError(
            f"{path}: is YAML; give the folder of call scripts, or a manifest of recordings (JSON Lines): "
            "scamtap-train data from-voiced DIR --out calls.jsonl"
        )
    with Progress(console=stderr, transient=True) as progress:
        task = progress.add_task("checking", total=None)
        checked = check(path, with_audio=audio, advance=lambda: progress.advance(task))
    _print_faults(path, checked)
    _refuse(checked)
    stdout.print(f"{path}: {len(checked.calls)} calls, no error; sha256 {manifest_sha256(path)}", markup=False)


def _refuse(checked: Checked) -> None:
    if checked.num_errors:
        raise FaultyDataError(
            f"{checked.num_errors} errors: put them right, or run scamtap-train data fix where it says so"
        )


def _print_faults(path: Path, checked: Checked) -> None:
    def rank(fault: Fault) -> bool:
        return not fault.is_error

    ranked = sorted(checked.faults, key=rank)
    _print_some([f"{'error' if fault.is_error else 'note'}: {fault.text(path)}" for fault in ranked])


def _print_some(lines: Sequence[str]) -> None:
    for line in lines[:MAX_FAULTS_SHOWN]:
        stdout.print(line, markup=False)
    if len(lines) > MAX_FAULTS_SHOWN:
        stdout.print(f"... and {len(lines) - MAX_FAULTS_SHOWN} more")


def _validate_scripts(folder: Path, alike: float) -> None:
    checked = check_scripts(folder, alike)
    if not checked.scripts and not checked.errors:
        raise ConfigError(f"{folder}: no call scripts there (*.yaml)")
    _print_some([f"error: {fault.text}" for fault in checked.errors])
    copies = [f"{copy.second}: {copy.similarity:.0%} the words of {copy.first}: rewrite one" for copy in checked.copies]
    _print_some([f"note: {note}" for note in (*(fault.text for fault in checked.odd_pairs), *copies)])
    if checked.errors:
        raise FaultyDataError(f"{len(checked.errors)} errors: put them right")
    counted = Counter(f"{script.lang} {script.label}" for script in checked.scripts)
    by = ", ".join(f"{number} {what}" for what, number in sorted(counted.items()))
    stdout.print(
        f"{folder}: {len(checked.scripts)} scripts ({by}), no error, {len(copies)} pairs of near copies", markup=False
    )


@app.command()
def agreement(
    second: Annotated[Path, typer.Argument(help="Marks of a second hand (JSON Lines).")] = Path(
        "datasets/marks/second.jsonl"
    ),
    scripts: Annotated[Path, typer.Option(help="Folder of call scripts.")] = Path("datasets/scripts"),
) -> None:
    """How far a second hand, who saw neither marks nor labels, agrees with the marks of the scripts: Cohen's kappa."""
    of_hand = read_second(second)
    found, num_scripts = agreements(load_scripts(scripts), of_hand)
    if not num_scripts:
        raise ConfigError(f"{second}: none of its scripts is in {scripts} as it was when they were marked")
    table = Table("mark", "turns", "first", "second", "both", "kappa")
    total = sum(found.values(), Agreement(0, 0, 0, 0))
    for mark, of_mark in [*found.items(), ("all", total)]:
        kappa = "" if of_mark.kappa is None else f"{of_mark.kappa:.2f}"
        table.add_row(mark, *map(str, (of_mark.turns, of_mark.first, of_mark.second, of_mark.both)), kappa)
    stdout.print(table)
    changed = (
        f"; {len(of_hand) - num_scripts} left out: their words are others now" if num_scripts < len(of_hand) else ""
    )
    stdout.print(f"{num_scripts} scripts{changed}", markup=False)


@app.command()
def fix(manifest: ManifestArgument, out: OutOption) -> None:
    """Measure anew what a machine can: sha256, duration, order and ends of segments. Never labels, roles or consent."""
    calls = load_manifest(manifest)
    if out.parent.resolve() != manifest.parent.resolve():
        raise ConfigError(f"--out {out}: recordings are found relative to the manifest: write it beside {manifest}")
    with Progress(console=stderr, transient=True) as progress:
        task = progress.add_task("measuring", total=len(calls))
        repaired, changes = repair_all(manifest, calls, lambda: progress.advance(task))
    save_manifest(out, repaired)
    for what, number in sorted(changes.items()):
        stdout.print(f"{what}: {number}")
    stdout.print(f"wrote {out}: {len(repaired)} calls", markup=False)


@app.command(name="stats")
def show_stats(
    manifest: ManifestArgument,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object.")] = False,
) -> None:
    """Count: calls, hours, asks, voices; by language, family, topic, split and source."""
    figures = stats(load_manifest(manifest))
    if as_json:
        stdout.print(json.dumps({"sha256": manifest_sha256(manifest), **figures}, ensure_ascii=False), markup=False)
        return
    for by, rows in figures.items():
        table = Table("" if by == "all" else by, *COLUMNS, title=None, title_justify="left")
        for name, of_row in rows.items():
            table.add_row(name, *(f"{of_row[column]:g}" for column in COLUMNS))
        stdout.print(table)


@app.command()
def split(
    manifest: ManifestArgument,
    out: OutOption,
    cut: Annotated[
        list[str] | None,
        typer.Option(
            help=f"Deal this key's values out first ({', '.join(KEYS)}); calls between two sides are left out."
        ),
    ] = None,
    scripts: Annotated[Path, typer.Option(help="Folder of the call scripts that were read.")] = Path(
        "datasets/scripts"
    ),
) -> None:
    """Give every call its side: train, dev or test. No caller, campaign, script or voice stands on two of them.

    A recording of a script stands where the intent models have that script, or is left out.
    """
    calls = with_script_sides(load_manifest(manifest), scripts)
    dealt = deal(calls, cut or ())
    save_manifest(out, [call.moved(manifest, out) for call in dealt.calls])
    _print_some([f"left out {call_id}: {why}" for call_id, why in dealt.left_out.items()])
    if unknown := sum(call.script is not None and call.script_split is None for call in calls):
        stdout.print(
            f"note: {unknown} calls name scripts that are not in {scripts}: dealt by their names, and never counted as "
            "unseen; give the folder with --scripts",
            markup=False,
        )
    by = ", ".join(f"{name} {row['calls']:g}" for name, row in stats(dealt.calls)["split"].items())
    stdout.print(f"wrote {out}: {by}; left out {len(dealt.left_out)}", markup=False)


@app.command(name="from-voiced")
def from_voiced(
    folder: Annotated[Path, typer.Argument(help="Recordings made by scamtap-train voice.", show_default=False)],
    out: OutOption,
) -> None:
    """A manifest of synthetic recordings, their scripts, voices and times."""
    with Progress(console=stderr, transient=True) as progress:
        calls = voiced_calls(folder, out)
        task = progress.add_task("measuring", total=len(calls))
        repaired, _ = repair_all(out, calls, lambda: progress.advance(task))
    save_manifest(out, repaired)
    stdout.print(f"wrote {out}: {len(repaired)} calls", markup=False)


@app.command(name="import")
def import_(
    source: Annotated[Path, typer.Argument(help="NeMo manifest, or Lhotse supervisions (JSON Lines).")],
    out: OutOption,
    recordings: Annotated[
        Path | None, typer.Option(help="Lhotse recordings (JSON Lines); makes it a Lhotse import.", show_default=False)
    ] = None,
    given: Annotated[
        list[str] | None, typer.Option("--set", help="FIELD=VALUE for all calls (YAML value), e.g. label=scam.")
    ] = None,
) -> None:
    """Calls from NeMo or Lhotse. What they lack is said for all of them: --set channels='{far: 0}' --set consent=..."""
    common = dict(_field(text) for text in given or ())
    if recordings is None:
        calls = [call.moved(source, out) for call in import_nemo(source, common)]
    else:
        calls = [call.moved(recordings, out) for call in import_lhotse(source, lhotse_audio(recordings), common)]
    save_manifest(out, calls)
    stdout.print(f"wrote {out}: {len(calls)} calls; next: scamtap-train data fix", markup=False)


def _field(text: str) -> tuple[str, Any]:
    name, equals, value = text.partition("=")
    if not equals:
        raise ConfigError(f"--set {text}: want FIELD=VALUE")
    try:
        return name, yaml.safe_load(value)
    except yaml.YAMLError as error:
        raise ConfigError(f"--set {name}: the value is not YAML") from error


@app.command()
def export(
    manifest: ManifestArgument,
    out: Annotated[Path, typer.Option("--out", help="File to write (JSON Lines).", show_default=False)],
    form: Annotated[str, typer.Option("--format", help="nemo or lhotse.")] = "nemo",
) -> None:
    """The same calls for NeMo or Lhotse, a row per segment."""
    writers = {"nemo": export_nemo, "lhotse": export_lhotse}
    if form not in writers:
        raise ConfigError(f"--format {form}: want {' or '.join(writers)}")
    rows = list(writers[form]([call.moved(manifest, out) for call in load_manifest(manifest)]))
    try:
        out.write_text("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows), encoding="utf-8")
    except OSError as error:
        raise ConfigError(f"{out}: cannot be written ({error.strerror}); give another file") from error
    stdout.print(f"wrote {out}: {len(rows)} segments", markup=False)
