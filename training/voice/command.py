"""``scamtap-train voice``: call scripts in, telephone recordings out."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from inference.errors import ConfigError
from inference.weights import cache_dir
from training.intent.data import HELD_OUT_PREFIX
from training.scripts import Script, Split, load_scripts
from training.voice.call import call_key, is_voiced, save_call, script_hash, voice_call
from training.voice.espeak import EspeakSpeaker
from training.voice.manifest import ManifestCall, load_manifest, manifest_call, save_manifest
from training.voice.recipe import Preset, draw_recipe
from training.voice.speaker import CachedSpeaker, KokoroSpeaker, Speaker
from training.voice.voices import Synthesiser, the_synthesiser

INTERRUPTED_EXIT_CODE = 130
_SPLITS: dict[str, Split] = {"train": "train", "dev": "dev", "test": "test"}
_SYNTHESISERS: dict[str, Synthesiser] = {"kokoro": "kokoro", "espeak": "espeak"}
_PRESETS: dict[str, Preset] = {"telephone": "telephone", "bad": "bad", "clean": "clean"}


@dataclass(frozen=True, slots=True)
class VoicedSummary:
    """What a run did: recordings made, found already made, and seconds of sound made."""

    num_made: int
    num_kept: int
    made_s: float


def default_cache() -> Path:
    """Where spoken sentences are remembered."""
    return cache_dir() / "voiced"


def choose_scripts(
    folder: Path, *, ids: frozenset[str] = frozenset(), split: Split | None = None, limit: int | None = None
) -> list[Script]:
    """The scripts under ``folder`` that are asked for, in path order; the demo calls are in no split.

    Raises:
        ConfigError: the folder or an id is not there, a script is malformed, or nothing is left.
    """
    if not folder.is_dir():
        raise ConfigError(f"{folder}: no such folder of scripts; give --scripts datasets/scripts/en")
    scripts = list(load_scripts(folder))
    if missing := ids - {script.id for script in scripts}:
        raise ConfigError(f"{folder}: no script has the id {', '.join(sorted(missing))}; look the ids up in its files")
    chosen = [s for s in scripts if not ids or s.id in ids]
    if split is not None:
        chosen = [s for s in chosen if s.split == split and not s.id.startswith(HELD_OUT_PREFIX)]
    if not chosen:
        raise ConfigError(f"{folder}: no script fits what was asked for; give fewer of --ids and --split")
    return chosen[:limit]


def the_speaker(calls: Sequence[ManifestCall]) -> Speaker:
    """The synthesiser whose voices ``calls`` name.

    Raises:
        ConfigError: a voice is reserved or unknown, or two synthesisers are mixed.
        ScamTapError: it is not on this machine.
    """
    synthesisers = {the_synthesiser(call.voices) for call in calls}
    if len(synthesisers) > 1:
        raise ConfigError("one manifest, one synthesiser: put the calls of espeak and kokoro voices into two files")
    return EspeakSpeaker() if "espeak" in synthesisers else KokoroSpeaker()


def voice_all(jobs: list[tuple[ManifestCall, Script]], out: Path, speaker: Speaker, console: Console) -> VoicedSummary:
    """Voice every job into ``out``, leaving alone what is there already.

    Raises:
        ScamTapError: a voice is reserved, the synthesiser is missing, or the disk is full.
    """
    planned = [(job, script, job.recipe(script)) for job, script in jobs]  # refuses before the first minute is spent
    try:
        out.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise ConfigError(f"{out}: cannot be made ({error.strerror}); give another folder with --out") from error
    made_s, num_made, num_kept = 0.0, 0, 0
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("turns"),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=console, transient=True) as progress:
        task = progress.add_task("voicing", total=sum(len(script.turns) for _, script in jobs))
        for job, script, recipe in planned:
            progress.update(task, description=job.stem)
            if is_voiced(out, job.stem, call_key(script, recipe, speaker)):
                progress.advance(task, len(script.turns))
                num_kept += 1
                continue
            call = voice_call(script, recipe, speaker, lambda: progress.advance(task))
            save_call(call, out, job.stem)
            num_made += 1
            made_s += call.duration_s
            ask = "genuine" if call.ask_s is None else f"scam, ask at {call.ask_s:.1f} s"
            progress.console.print(f"{job.stem}: {call.duration_s:.1f} s, {ask}", markup=False, highlight=False)
    return VoicedSummary(num_made, num_kept, made_s)


def voice(
    out: Annotated[
        Path,
        typer.Option(help="Folder for the recordings: NAME.wav (far leg left, near leg right) and NAME.json (labels)."),
    ],
    scripts: Annotated[Path, typer.Option(help="Folder of call scripts.")] = Path("datasets/scripts/en"),
    ids: Annotated[str, typer.Option(help="Only these calls: ids, separated by commas.")] = "",
    split: Annotated[str, typer.Option(help="Only calls of this split: train, dev or test.")] = "",
    limit: Annotated[int | None, typer.Option(min=1, help="Stop after so many calls.")] = None,
    seed: Annotated[int, typer.Option(min=0, help="Another seed gives other voices, pauses and lines.")] = 0,
    preset: Annotated[
        str,
        typer.Option(help="telephone: lines drawn by seed. bad: worse ones, same voices. clean: good ones."),
    ] = "telephone",
    speaker: Annotated[
        str, typer.Option(help="kokoro: fluent, dear. espeak: a robot, cheap, with many recognition errors.")
    ] = "kokoro",
    manifest: Annotated[
        Path | None,
        typer.Option(help="Recreate the recordings of this manifest; --scripts and what follows it are then not used."),
    ] = None,
    write_manifest: Annotated[
        Path | None, typer.Option(help="Write the manifest that recreates what is voiced now.")
    ] = None,
) -> None:
    """Turn written call scripts into two-leg 8 kHz telephone recordings with labels.

    \b
    Try one call (about a minute):
      scamtap-train voice --ids en-demo-scam --preset clean --out voiced
    The development recordings, as evaluated in the README (15 CPU minutes):
      scamtap-train voice --manifest datasets/dev.yaml --out DIR
    All training scripts, resumable, with another seed:
      scamtap-train voice --split train --seed 7 --out DIR

    \b
    Speech is synthetic: Kokoro-82M, fetched by `scamtap models pull kokoro-82m`,
    or espeak-ng, from `apt install espeak-ng`.
    Spoken sentences are kept in the cache folder, so a run that was stopped
    (Ctrl-C is fine) goes on where it was, and another line costs no speech.
    Voices reserved for the final test are refused.
    """  # noqa: D301 -- typer wants its \b as it stands
    console = Console(stderr=True)
    if manifest is not None:
        listed = load_manifest(manifest)
        by_id = {s.id: s for s in choose_scripts(listed.scripts, ids=frozenset(call.id for call in listed.calls))}
        jobs = [(call, by_id[call.id]) for call in listed.calls][:limit]
        for call, script in jobs:
            if script_hash(script) != call.script_sha256:
                console.print(f"{call.stem}: its script has changed since, so the recording will differ", markup=False)
    else:
        if split and split not in _SPLITS:
            raise ConfigError(f"--split {split!r} is unknown; give {', '.join(_SPLITS)}")
        if preset not in _PRESETS:
            raise ConfigError(f"--preset {preset!r} is unknown; give {', '.join(_PRESETS)}")
        if speaker not in _SYNTHESISERS:
            raise ConfigError(f"--speaker {speaker!r} is unknown; give {', '.join(_SYNTHESISERS)}")
        wanted = frozenset(part.strip() for part in ids.split(",") if part.strip())
        chosen = choose_scripts(scripts, ids=wanted, split=_SPLITS.get(split), limit=limit)
        recipes = [draw_recipe(s, seed, _PRESETS[preset], synthesiser=_SYNTHESISERS[speaker]) for s in chosen]
        jobs = [(manifest_call(s, recipe), s) for s, recipe in zip(chosen, recipes, strict=True)]
        if write_manifest is not None:
            save_manifest(write_manifest, scripts, tuple(call for call, _ in jobs))
    cached = CachedSpeaker(the_speaker([call for call, _ in jobs]), default_cache())
    try:
        done = voice_all(jobs, out, cached, console)
    except KeyboardInterrupt:
        console.print("stopped; what was spoken is kept: run the same command again to go on")
        raise typer.Exit(INTERRUPTED_EXIT_CODE) from None
    console.print(
        f"{done.num_made} recordings made ({done.made_s:.0f} s), {done.num_kept} were there, "
        f"{cached.num_spoken} sentences spoken, in {out}",
        markup=False,
        highlight=False,
    )
