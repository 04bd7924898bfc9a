"""A new script without recordings: voiced, sent over a telephone line, heard by our own recogniser."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from rich.console import Console

from inference.config import load_settings
from inference.errors import ConfigError
from inference.service.models import build_parts, build_stages
from training.intent.data import Call
from training.intent.heard import heard_call
from training.progress import progress_bar
from training.recognise import recognise_all
from training.retrain.incoming import SOURCE, Incoming
from training.scripts import Script, load_scripts
from training.voice.batch import voice_all
from training.voice.command import default_cache, the_speaker
from training.voice.manifest import manifest_call
from training.voice.recipe import draw_recipe, generator
from training.voice.speaker import CachedSpeaker
from training.voice.voices import Synthesiser, draw_voices

VOICED_LANGUAGES = ("en",)
"""Scripts in others are learnt from as they are written."""


def read_new_scripts(path: Path) -> list[Script]:
    """Scripts of one YAML file, or of a folder of them.

    Raises:
        ConfigError: there is none, or one is malformed.
    """
    if not path.exists() or not (scripts := list(load_scripts(path))):
        raise ConfigError(f"{path}: no call scripts there; see datasets/scripts/README.md")
    return scripts


@dataclass(frozen=True, slots=True)
class Hearing:
    """Makes recognised copies of scripts that were admitted.

    Attributes:
        scripts: the new ones.
        work: folder for recordings and texts; what is there is not made again.
        synthesiser: who speaks.
        seed: of voices, pauses and lines.
        console: where progress goes.
    """

    scripts: Sequence[Script]
    work: Path
    synthesiser: Synthesiser
    seed: int
    console: Console

    def __call__(self, incoming: Incoming) -> list[Call]:
        """Copies, each with the side of its script and spoken by voices of that side.

        Raises:
            ScamTapError: the synthesiser or the speech model is missing, the disk is full.
        """
        sides = {call.id: call.split for call in incoming.calls}
        by_id = {s.id: s for s in self.scripts if s.id in sides and s.lang in VOICED_LANGUAGES}
        if not by_id:
            return []
        jobs = []
        for script in by_id.values():
            far, near = draw_voices(self.synthesiser, sides[script.id], generator(script.id, self.seed, "side"))
            recipe = draw_recipe(script, self.seed, voices={"far": far, "near": near})
            jobs.append((manifest_call(script, recipe), script))
        recordings = self.work / "recordings"
        speaker = CachedSpeaker(the_speaker([job for job, _ in jobs], is_fast=True), default_cache())
        voice_all(jobs, recordings, speaker, self.console)
        settings = load_settings()
        stages = build_stages(settings)
        try:
            with progress_bar(self.console) as bar:
                task = bar.add_task("recognising", total=len(jobs))
                heard = recognise_all(
                    [recordings],
                    self.work / "recognised.jsonl",
                    build_parts(settings, stages),
                    stages,
                    lambda _call, _total: bar.advance(task),
                )
        finally:
            stages.close()
        known = [(h, by_id[h.id]) for h in heard if h.id in by_id]
        return [replace(heard_call(h, script), split=sides[script.id], source=SOURCE) for h, script in known]
