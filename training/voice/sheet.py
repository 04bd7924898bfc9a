"""What each preset does to one call, to look at and listen to: one HTML page, nothing beside it."""

import base64
import html
import io
import struct
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Annotated

import numpy as np
import numpy.typing as npt
import soundfile as sf
import typer
from rich.console import Console

from inference.audio import LEGS, SAMPLE_RATE_HZ
from inference.errors import ConfigError
from training.scripts import Script
from training.voice.call import VoicedCall, voice_call
from training.voice.command import choose_scripts, default_cache
from training.voice.presets import PRESETS
from training.voice.recipe import draw_recipe
from training.voice.speaker import CachedSpeaker, KokoroSpeaker, Speaker

PCM = npt.NDArray[np.int16]

SHOWN_S = 20.0
"""How much of each leg is shown."""

_WINDOW, _HOP = 256, 128  # 32 ms, 16 ms at 8 kHz
_RANGE_DB = 70.0
_STYLE = "body{font:15px sans-serif;margin:2em;max-width:90em}img{width:100%;height:9em;image-rendering:pixelated}"


def spectrogram(samples: PCM) -> npt.NDArray[np.uint8]:
    """Grey levels ``[129, num_windows]``, 4 kHz at the top; black is 70 dB below full scale and less."""
    signal = np.pad(samples.astype(np.float64) / 32768, (0, max(0, _WINDOW - samples.size)))
    windows = np.lib.stride_tricks.sliding_window_view(signal, _WINDOW)[::_HOP] * np.hanning(_WINDOW)
    power_db = 20 * np.log10(np.abs(np.fft.rfft(windows, axis=1)) / (_WINDOW / 4) + 1e-12)
    return np.asarray(np.clip(power_db / _RANGE_DB + 1, 0, 1) * 255, np.uint8).T[::-1]


def png(grey: npt.NDArray[np.uint8]) -> bytes:
    """``grey`` (``[height, width]``) as an 8-bit PNG (ISO/IEC 15948), which needs no drawing library."""
    height, width = grey.shape
    rows = np.concatenate([np.zeros((height, 1), np.uint8), grey], axis=1).tobytes()  # filter 0 before each row
    header = struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0)
    chunks = ((b"IHDR", header), (b"IDAT", zlib.compress(rows)), (b"IEND", b""))
    parts = (
        struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data)) for kind, data in chunks
    )
    return b"\x89PNG\r\n\x1a\n" + b"".join(parts)


def _wav(samples: PCM) -> bytes:
    file = io.BytesIO()
    sf.write(file, samples, SAMPLE_RATE_HZ, format="WAV", subtype="PCM_16")
    return file.getvalue()


def _uri(kind: str, data: bytes) -> str:
    return f"data:{kind};base64,{base64.b64encode(data).decode()}"


def section(call: VoicedCall) -> str:
    """One preset: what was drawn, and both legs to see and hear."""
    parts = [f"<h2>{html.escape(call.recipe.preset)}</h2>"]
    lines = call.recipe.as_labels()["channels"]
    for leg, samples in zip(LEGS, call.samples[: round(SHOWN_S * SAMPLE_RATE_HZ)].T, strict=True):
        drawn = ", ".join(f"{name} {value}" for name, value in lines[leg].items() if value not in (None, (), 0))
        shown = np.ascontiguousarray(samples)
        picture, sound = _uri("image/png", png(spectrogram(shown))), _uri("audio/wav", _wav(shown))
        parts.append(f"<p><b>{leg}</b>: {html.escape(drawn)}</p>")
        parts.append(
            f'<img alt="spectrogram of the {leg} leg" src="{picture}"><br><audio controls src="{sound}"></audio>'
        )
    return "\n".join(parts)


def page(script: Script, seed: int, speaker: Speaker, on_preset: Callable[[str], None] = lambda _preset: None) -> str:
    """``script`` through every preset under one seed, voices the same.

    Raises:
        ScamTapError: as :func:`training.voice.call.voice_call` raises.
    """
    sections = []
    for preset in PRESETS:
        on_preset(preset)
        sections.append(section(voice_call(script, draw_recipe(script, seed, preset), speaker)))
    title = f"{script.id}, seed {seed}: the first {SHOWN_S:.0f} s of each leg"
    note = f"{speaker.source}. Frequency goes up to 4 kHz, black is {_RANGE_DB:.0f} dB below full scale."
    return (
        f'<!doctype html><html lang="en"><meta charset="utf-8"><title>{html.escape(title)}</title>'
        f"<style>{_STYLE}</style><h1>{html.escape(title)}</h1><p>{html.escape(note)}</p>\n"
        + "\n".join(sections)
        + "</html>\n"
    )


def voice_sheet(
    out: Annotated[Path, typer.Option(help="The page to write.")] = Path("sheet.html"),
    scripts: Annotated[Path, typer.Option(help="Folder of call scripts.")] = Path("datasets/scripts/en"),
    call: Annotated[str, typer.Option("--id", help="The script.")] = "en-demo-scam",
    seed: Annotated[int, typer.Option(min=0, help="Another seed draws other lines.")] = 0,
) -> None:
    """Write a page that shows and plays one call over the lines of every preset of `scamtap-train voice`."""
    console = Console(stderr=True)
    (script,) = choose_scripts(scripts, ids=frozenset({call}))
    speaker = CachedSpeaker(KokoroSpeaker(), default_cache())
    with console.status("voicing") as status:
        text = page(script, seed, speaker, lambda preset: status.update(f"voicing {preset}"))
    try:
        out.write_text(text, encoding="utf-8")
    except OSError as error:
        raise ConfigError(f"{out}: cannot be written ({error.strerror}); give another file with --out") from error
    console.print(f"{out}: {len(PRESETS)} presets", markup=False, highlight=False)
