"""``scamtap-train voice``: call scripts in, telephone recordings out."""

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from inference.errors import ConfigError
from inference.weights import cache_dir
from training.intent.data import HELD_OUT_PREFIX
from training.scripts import Script, Split, load_scripts
from training.voice.batch import Job, voice_all
from training.voice.call import script_hash
from training.voice.espeak import EspeakSpeaker
from training.voice.manifest import ManifestCall, load_manifest, manifest_call, save_manifest
from training.voice.presets import PRESETS, Preset
from training.voice.recipe import draw_preset, draw_recipe
from training.voice.speaker import CachedSpeaker, KokoroSpeaker, Speaker
from training.voice.voices import Synthesiser, the_synthesiser

INTERRUPTED_EXIT_CODE = 130
_SPLITS: dict[str, Split] = {"train": "train", "dev": "dev", "test": "test"}
_SYNTHESISERS: dict[str, Synthesiser] = {"kokoro": "kokoro", "espeak": "espeak"}


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


def the_speaker(calls: Sequence[ManifestCall], *, is_fast: bool = False) -> Speaker:
    """The synthesiser whose voices ``calls`` name; ``is_fast`` is Kokoro's own, espeak is fast anyway.

    Raises:
        ConfigError: a voice is reserved or unknown, or two synthesisers are mixed.
        ScamTapError: it is not on this machine.
    """
    synthesisers = {the_synthesiser(call.voices) for call in calls}
    if len(synthesisers) > 1:
        raise ConfigError("one manifest, one synthesiser: put the calls of espeak and kokoro voices into two files")
    return EspeakSpeaker() if "espeak" in synthesisers else KokoroSpeaker(is_fast=is_fast)


def preset_of(name: str, script: Script, seed: int) -> Preset:
    """The preset called ``name``; ``mixed`` is another for each script.

    Raises:
        ConfigError: there is none of that name.
    """
    if name == "mixed":
        return draw_preset(script, seed)
    for preset in PRESETS:
        if name == preset:
            return preset
    raise ConfigError(f"--preset {name!r} is unknown; give {', '.join(PRESETS)} or mixed")


def listed_jobs(manifest: Path, preset: str, limit: int | None, console: Console) -> list[Job]:
    """The calls of a manifest with their scripts, over the manifest's own lines or over those of ``preset``.

    Raises:
        ConfigError: the manifest, a script or the preset is not there, or is malformed.
    """
    listed = load_manifest(manifest)
    by_id = {s.id: s for s in choose_scripts(listed.scripts, ids=frozenset(call.id for call in listed.calls))}
    jobs = []
    for call in listed.calls[:limit]:
        script = by_id[call.id]
        if script_hash(script) != call.script_sha256:
            console.print(f"{call.stem}: its script has changed since, so the recording will differ", markup=False)
        other = {"preset": preset_of(preset, script, call.seed)} if preset else {}
        jobs.append((call.model_copy(update=other), script))
    return jobs


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
        typer.Option(
            help="telephone (the default): lines drawn by seed. bad: worse ones. clean: good ones. mobile: AMR, "
            "transcoding. voip: Opus, G.722, loss. noisy: 0 to 15 dB, other people talking. hold: music, ringing. "
            "plain, loss5, noise10: one line for all; that with 5 % lost; that at 10 dB. mixed: another for each call. "
            "Voices stay the same. With --manifest: other lines for its calls."
        ),
    ] = "",
    speaker: Annotated[
        str, typer.Option(help="kokoro: fluent, dear. espeak: a robot, cheap, with many recognition errors.")
    ] = "kokoro",
    manifest: Annotated[
        Path | None,
        typer.Option(help="Recreate the recordings of this manifest; --scripts, --ids, --split, --seed are not used."),
    ] = None,
    write_manifest: Annotated[
        Path | None, typer.Option(help="Write the manifest that recreates what is voiced now.")
    ] = None,
    fast: Annotated[
        bool,
        typer.Option(
            "--fast", help="Kokoro at half the CPU time: it sounds the same, but recordings differ in every sample."
        ),
    ] = False,
    workers: Annotated[int, typer.Option(min=1, max=256, help="Processes; one keeps one core busy.")] = 1,
) -> None:
    """Turn written call scripts into two-leg 8 kHz telephone recordings with labels.

    \b
    Try one call (about a minute):
      scamtap-train voice --ids en-demo-scam --preset clean --out voiced
    The development recordings, as evaluated in the README (15 CPU minutes):
      scamtap-train voice --manifest datasets/dev.yaml --out DIR
    The same calls over mobile lines, without new speech:
      scamtap-train voice --manifest datasets/dev.yaml --preset mobile --out DIR
    All training scripts, resumable, with another seed, on eight cores:
      scamtap-train voice --split train --seed 7 --preset mixed --workers 8 --out DIR
    What each preset does to one call, as a page of spectrograms:
      scamtap-train voice-sheet --out sheet.html

    \b
    Speech is synthetic: Kokoro-82M, fetched by `scamtap models pull kokoro-82m`,
    or espeak-ng, from `apt install espeak-ng`.
    Spoken sentences are kept in the cache folder, so a run that was stopped
    (Ctrl-C is fine) goes on where it was, and another line costs no speech.
    Voices reserved for the final test are refused.
    """  # noqa: D301 -- typer wants its \b as it stands
    console = Console(stderr=True)
    if manifest is not None:
        jobs = listed_jobs(manifest, preset, limit, console)
    else:
        if split and split not in _SPLITS:
            raise ConfigError(f"--split {split!r} is unknown; give {', '.join(_SPLITS)}")
        if speaker not in _SYNTHESISERS:
            raise ConfigError(f"--speaker {speaker!r} is unknown; give {', '.join(_SYNTHESISERS)}")
        wanted = frozenset(part.strip() for part in ids.split(",") if part.strip())
        chosen = choose_scripts(scripts, ids=wanted, split=_SPLITS.get(split), limit=limit)
        presets = [preset_of(preset or "telephone", script, seed) for script in chosen]
        recipes = [
            draw_recipe(script, seed, each, synthesiser=_SYNTHESISERS[speaker])
            for script, each in zip(chosen, presets, strict=True)
        ]
        jobs = [(manifest_call(s, recipe), s) for s, recipe in zip(chosen, recipes, strict=True)]
    if write_manifest is not None:
        folder = load_manifest(manifest).scripts if manifest is not None else scripts
        save_manifest(write_manifest, folder, tuple(call for call, _ in jobs))
    cached = CachedSpeaker(the_speaker([call for call, _ in jobs], is_fast=fast), default_cache())
    try:
        done = voice_all(jobs, out, cached, console, num_workers=workers)
    except KeyboardInterrupt:
        console.print("stopped; what was spoken is kept: run the same command again to go on")
        raise typer.Exit(INTERRUPTED_EXIT_CODE) from None
    console.print(
        f"{done.num_made} recordings made ({done.made_s:.0f} s), {done.num_kept} were there, "
        f"{done.num_spoken} sentences spoken, in {out}",
        markup=False,
        highlight=False,
    )
