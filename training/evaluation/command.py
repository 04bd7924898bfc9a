"""``scamtap-train evaluate``: how a model does on calls it has not seen, and whether traffic still looks like them."""

from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from inference.errors import ConfigError
from inference.intent.install import INTENT_MODEL
from training.evaluation.serving import newest_model
from training.parallel import DEFAULT_CORES, use_cores
from training.scripts import Split

stdout = Console(highlight=False, soft_wrap=True)
stderr = Console(stderr=True, highlight=False, soft_wrap=True)

DRIFTED_EXIT_CODE = 3
SCRIPTS, RECOGNISED = "datasets/scripts", "datasets/recognised"
DEFAULT_LIMIT = 100


ModelOption = Annotated[
    Path | None,
    typer.Option(
        "--model",
        help="Version folder of an intent model, e.g. models/scam_intent_en/1: its languages alone are measured.",
        show_default="all that serve",
    ),
]


def evaluate(
    inputs: Annotated[
        list[Path] | None,
        typer.Argument(
            help="Manifests or labelled texts (JSON Lines), call scripts (YAML); with --drift also recordings.",
            show_default=False,
        ),
    ] = None,
    scripts: Annotated[Path | None, typer.Option(help="Call scripts (YAML).", show_default=SCRIPTS)] = None,
    data: Annotated[
        Path | None, typer.Option(help="Folder with outside call texts, see datasets/README.md.", show_default="none")
    ] = None,
    recognised: Annotated[
        Path | None, typer.Option(help="Voiced scripts as recognised.", show_default=RECOGNISED)
    ] = None,
    model: ModelOption = None,
    limit: Annotated[
        int | None, typer.Option(min=1, help="At most so many calls per outside source and label.", show_default="100")
    ] = None,
    split: Annotated[
        str | None,
        typer.Option(
            help="test, or dev to compare variants: dev chose the thresholds.",
            show_default="test; of a file that was never dealt nor trained on, all",
        ),
    ] = None,
    only: Annotated[list[str] | None, typer.Option(help="Sets to run; all where left out.")] = None,
    errors: Annotated[
        list[int] | None, typer.Option(min=0, max=60, help="Read given texts with so many % of their words wrong, too.")
    ] = None,
    out: Annotated[Path | None, typer.Option(help="Write the figures here as JSON.", show_default="none")] = None,
    report: Annotated[
        Path | None, typer.Option(help="Folder for report.json, index.html and PNG plots.", show_default="none")
    ] = None,
    update: Annotated[bool, typer.Option(help="Put figures and scores beside the model: report.json.")] = False,
    threads: Annotated[int, typer.Option(min=1, max=256, help="Cores to use for texts.")] = DEFAULT_CORES,
    drift: Annotated[
        bool, typer.Option("--drift", help="Compare scores of unlabelled traffic with those the model shipped with.")
    ] = False,
) -> None:
    """Measure the intent model and the verdict on calls kept apart, through the doors that live calls go through.

    \b
    Our test scripts, clean and with 10, 25 and 35 % of their words wrong, and outside texts:
      scamtap-train evaluate --data DIR --report out/
    Labelled recordings, through inference/service/call.py (about .05 CPU-seconds per second of speech):
      scamtap-train evaluate calls.jsonl --report out/
    Labelled texts, clean and with a quarter of their words wrong:
      scamtap-train evaluate texts.jsonl --errors 25
    Call scripts that no model was trained on:
      scamtap-train evaluate new_scripts.yaml
    Has traffic changed? Exit code 3 where calibration no longer holds:
      scamtap-train evaluate --drift traffic.jsonl recordings/*.wav

    \b
    Every figure says what its calls are: written, generated or real text, synthetic voice, real recording.
    An alarm is any alert over the whole call; thresholds are those the model was shipped with. Of a file that
    the model was trained on, its test side alone is measured.
    """  # noqa: D301 -- typer wants its \b as it stands
    use_cores(threads)
    standing = {"--scripts": scripts, "--data": data, "--recognised": recognised, "--limit": limit}
    if drift:
        _refuse(standing | {"--split": split, "--only": only, "--errors": errors, "--report": report}, "with --drift")
        _refuse({"--update": update or None}, "with --drift")
        _drift(model, inputs or [], out)
        return
    if inputs:
        _refuse(standing | {"--update": update or None}, "with files, which are all that is measured then")
    else:
        _refuse({"--errors": errors}, "without files: the standing sets are read with errors anyway")
    if update and (split == "dev" or only):
        raise ConfigError("--update is for all the standing test figures; leave --split and --only out")
    if report is not None and report.exists() and not report.is_dir():
        raise ConfigError(f"--report {report}: is a file; give a folder")
    if model is not None and not model.is_dir():
        raise ConfigError(f"{model}: is no version of the intent model; give e.g. --model models/{INTENT_MODEL}/1")
    # Heavy imports wait, so that --help answers at once.
    from training.evaluation.given import judges_of, read_given
    from training.evaluation.run import judge_all, languages_of, report_of, write_report
    from training.evaluation.sets import narrowed, standing_sets
    from training.intent.data import LANGUAGES
    from training.intent.report import write_report as write_json
    from training.intent.sources import Sources

    side = _side(split)
    languages = LANGUAGES if model is None else languages_of(model)
    sources = Sources(scripts or Path(SCRIPTS), data, recognised or Path(RECOGNISED), languages)
    if inputs:
        sets = read_given(inputs, side, [percent / 100 for percent in errors or () if percent], model)
    else:
        sets = [*standing_sets(sources, limit or DEFAULT_LIMIT, side or "test")]
    sets = narrowed(sets, only or (), ConfigError)
    judges = judges_of(sets, model)
    outcomes = judge_all(judges[0], sets, stderr, lambda text: stdout.print(text, markup=False))
    made = report_of(judges, outcomes)
    if report is not None:
        written = write_report(report, made)
        stdout.print(f"wrote {', '.join(path.name for path in written)} in {report}", markup=False)
    if out is not None:
        write_json(out, made.to_json())
    if update:
        from training.evaluation.beside import write_beside

        for version in judges:
            write_beside(version, sources, sets, made, outcomes)


def _side(split: str | None) -> Split | None:
    if split is None:
        return None
    if split in ("test", "dev"):
        return "test" if split == "test" else "dev"
    raise ConfigError(f"--split {split!r} is unknown; give test or dev")


def _refuse(given: Mapping[str, object], why: str) -> None:
    """What would be passed over without a word is refused."""
    for name, value in given.items():
        if value is not None and value != []:
            raise ConfigError(f"{name} means nothing {why}; leave it out")


def _drift(model: Path | None, inputs: list[Path], out: Path | None) -> None:
    from inference.config import load_settings
    from inference.service.models import default_language
    from inference.service.score import read_texts
    from training.evaluation.drift import drift_of
    from training.intent.report import write_report as write_json

    if not inputs:
        raise ConfigError("--drift wants traffic: JSON Lines of call texts, or recordings")
    texts = [path for path in inputs if path.suffix in (".jsonl", ".json")]
    calls = [call for path in texts for call in read_texts(path)]
    spoken = Counter(call.lang for call in calls)
    language = spoken.most_common(1)[0][0] if spoken else default_language(load_settings())
    version = model or newest_model(language or "en")
    found = drift_of(version, calls, [path for path in inputs if path not in texts], stderr)
    stdout.print(found.line(), markup=False)
    if out is not None:
        write_json(out, found.to_json())
    if not found.holds:
        raise typer.Exit(DRIFTED_EXIT_CODE)


def unseen(
    work: Annotated[Path, typer.Option(help="Folder for a model per family; what is there is not done again.")],
    family: Annotated[list[str] | None, typer.Option(help="Families to leave out in turn; all where left out.")] = None,
    together: Annotated[
        int, typer.Option(min=1, max=9, help="Leave so many out at once: fewer trainings, and a harder question.")
    ] = 1,
    scripts: Annotated[Path, typer.Option(help="Call scripts (YAML).")] = Path(SCRIPTS),
    data: Annotated[
        Path | None, typer.Option(help="Folder with outside call texts, see datasets/README.md.", show_default="none")
    ] = None,
    recognised: Annotated[Path, typer.Option(help="Voiced scripts as recognised.")] = Path(RECOGNISED),
    settings: Annotated[
        Path | None,
        typer.Option(help="Encoder and recipe (YAML), as for scamtap-train intent.", show_default="built in"),
    ] = None,
    threads: Annotated[int, typer.Option(min=1, max=256, help="Cores to use.")] = DEFAULT_CORES,
) -> None:
    """Leave one scam family out of training at a time, and see how many of its calls are warned of all the same.

    \b
    As long as a training for each family; Ctrl-C is fine, the same command goes on.
    Six at a time, three trainings instead of eighteen:
      scamtap-train unseen --work unseen/ --data DIR --together 6
    """  # noqa: D301 -- typer wants its \b as it stands
    from training.evaluation.left_out import LeftOut, families_of, grouped, leave_out, total
    from training.intent.encoders import open_encoder
    from training.intent.pipeline import train
    from training.intent.settings import load_training
    from training.intent.sources import Sources

    use_cores(threads, is_training=True)
    chosen = load_training(settings)
    sources = Sources(scripts, data, recognised, chosen.languages, is_marked=chosen.fit.act_weight > 0)
    families = families_of(sources, family or ())

    def fit(without: Sources, out: Path) -> dict[str, object]:
        base = open_encoder(chosen.encoder, chosen.num_layers).read_as(chosen.reading)
        return train(without, out, base, chosen.fit, "int8", stderr, out.parents[2] / "fit.safetensors")

    def say(result: LeftOut) -> None:
        for text in result.lines():
            stdout.print(text, markup=False)

    results = leave_out(grouped(families, together), sources, work, fit, chosen.model_dump_json(), stderr, say)
    for language in sources.languages:
        found = total(results, language)
        stdout.print(
            f"all {len(families)} families unseen [{language}]: {found['recall']['hits']}/{found['recall']['n']} "
            f"warned of, false alarms {found['false_alarms']['hits']}/{found['false_alarms']['n']}",
            markup=False,
        )
        if found["ranking"] is not None:
            stdout.print(f"hard against hard, unseen [{language}]: {found['ranking'].text()}", markup=False)
