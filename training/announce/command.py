"""``scamtap-train announce``: the lines in, a WAV each out, beside them."""

import hashlib
import json
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console

from inference.alerts.announcements import LANGUAGES, MAX_SOUND_S, SUSPECT, load_lines
from inference.audio import SAMPLE_RATE_HZ
from inference.errors import ConfigError
from training.announce.sound import PAUSE_S, beep, line_key, speak
from training.voice.command import default_cache
from training.voice.speaker import PCM, CachedSpeaker, KokoroSpeaker, Speaker, write_audio

LIST_FILE = "sounds.json"
SOURCE = "synthetic: Kokoro-82M (int8, Apache-2.0) reading the lines of this folder"


def _digest(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def _listed(folder: Path) -> dict[str, Any]:
    try:
        sounds = json.loads((folder / LIST_FILE).read_text(encoding="utf-8"))["sounds"]
    except (OSError, ValueError, KeyError, TypeError):
        return {}
    return sounds if isinstance(sounds, dict) else {}


def _write(path: Path, samples: PCM) -> dict[str, Any]:
    write_audio(path, samples, SAMPLE_RATE_HZ, "WAV", "ULAW")
    return {"seconds": round(samples.size / SAMPLE_RATE_HZ, 2), "sha256": _digest(path)}


def _is_recorded(path: Path, listed: Any) -> bool:
    """Whether a sound is there that this command did not make."""
    return path.is_file() and (not isinstance(listed, dict) or listed.get("sha256") != _digest(path))


def announce_all(folder: Path, speaker: Speaker, console: Console) -> tuple[int, int]:
    """Make the sounds of a folder that its lines have no longer, or not yet; returns how many were made and kept.

    What this command made is listed with its digest. A sound that is not that file any more was recorded by somebody:
    it is left alone and no longer listed.

    Raises:
        ConfigError: no lines, a voice that is reserved or unknown, or a line too long to be listened to.
        ScamTapError: the synthesiser is missing, or the disk is full.
    """
    texts = [load_lines(path) for path in (folder / f"{language}.yaml" for language in LANGUAGES) if path.is_file()]
    if not texts:
        raise ConfigError(f"{folder}: no lines there; give a folder with en.yaml or zh.yaml, see configs/announcements")
    before, sounds, num_made, num_kept = _listed(folder), dict[str, Any](), 0, 0
    if not _is_recorded(folder / f"{SUSPECT}.wav", before.get(SUSPECT)):
        sounds[SUSPECT] = _write(folder / f"{SUSPECT}.wav", beep())
    for lines in texts:
        for name, (_, text) in lines.spoken.items():
            path, key = folder / f"{name}.wav", line_key(lines, name, speaker.fingerprint)
            old: dict[str, Any] | None = before.get(name)
            if _is_recorded(path, old):
                num_kept += 1
                continue
            if old is not None and path.is_file() and old.get("key") == key:
                sounds[name] = old
                num_kept += 1
                continue
            samples = speak(lines, name, speaker)
            if samples.size > MAX_SOUND_S * SAMPLE_RATE_HZ:
                raise ConfigError(f"{path}: longer than {MAX_SOUND_S - PAUSE_S:g} s; shorten its text")
            said = hashlib.sha256(text.encode()).hexdigest()
            sounds[name] = {"text_sha256": said, "voice": lines.voice, "key": key} | _write(path, samples)
            num_made += 1
            console.print(f"{name}: {samples.size / SAMPLE_RATE_HZ:.1f} s", markup=False, highlight=False)
    listing = {"source": SOURCE, "command": "scamtap-train announce", "sounds": sounds}
    try:
        (folder / LIST_FILE).write_text(json.dumps(listing, indent=1) + "\n", encoding="utf-8")
    except OSError as error:
        raise ConfigError(f"{folder / LIST_FILE}: cannot be written ({error.strerror})") from error
    return num_made, num_kept


def announce(
    texts: Annotated[
        Path, typer.Option(help="Folder with en.yaml and zh.yaml; the sounds are written beside them.")
    ] = Path("configs/announcements"),
) -> None:
    """Speak the lines that subscribers hear in a dangerous or labelled call: a WAV per line, beep in front.

    \b
    To have your own words:
      cp -r configs/announcements my-announcements     and edit its en.yaml
      scamtap-train announce --texts my-announcements
      warnings: {announcements_dir: my-announcements}  in scamtap.yaml
    To have your own recordings, put them in place of the WAVs, whole: with
    a beep if you want one. They are left alone from then on.

    \b
    Speech is synthetic: Kokoro-82M, fetched by `scamtap models pull kokoro-82m`.
    Only lines that changed are spoken again.
    """  # noqa: D301 -- typer wants its \b as it stands
    console = Console(stderr=True)
    num_made, num_kept = announce_all(texts, CachedSpeaker(KokoroSpeaker(), default_cache()), console)
    console.print(f"{num_made} sounds made, {num_kept} left as they were, in {texts}", markup=False, highlight=False)
