"""Text to speech by espeak-ng: robotic, quick, and hard to understand, which is what it is for.

Our recogniser makes few errors on Kokoro's speech and many on espeak's, of the kind and number it makes on real
telephone recordings: what it writes down of a voiced script is text with real confusions in it. The program comes from
the system (``apt install espeak-ng``) and is run once a turn, on the turn's text as its standard input.
"""

import shutil
import subprocess

import numpy as np
import soxr

from inference.errors import ScamTapError
from training.voice.speaker import PCM, SPEECH_RATE_HZ, trim
from training.voice.voices import espeak_voice

PROGRAM = "espeak-ng"
WORDS_PER_MINUTE = 175  # at speed 1; espeak's own default
_RATE_HZ = 22050
_TIMEOUT_S = 60.0
_LEVEL = 0.5  # headroom: resampling overshoots


class EspeakSpeaker:
    """espeak-ng as a :class:`~training.voice.speaker.Speaker`.

    Args:
        program: name or path of the program.

    Raises:
        ScamTapError: it is not on PATH or does not run.
    """

    source = "synthetic: espeak-ng reading a written script, over a simulated telephone line"

    def __init__(self, program: str = PROGRAM) -> None:
        found = shutil.which(program)
        if found is None:
            raise ScamTapError(f"{program} is not on PATH; run: apt install espeak-ng")
        self._program = found
        # "eSpeak NG text-to-speech: 1.51  Data at: /usr/..."; where its data lies changes nothing that is heard.
        version = self._run("--version").decode(errors="replace").partition("Data at")[0]
        self.fingerprint = " ".join(version.split())

    def speak(self, text: str, voice: str, speed: float) -> PCM:
        """See :class:`~training.voice.speaker.Speaker`.

        Raises:
            ConfigError: the voice is unknown.
            ScamTapError: the program failed, or nothing in the text can be said.
        """
        name, pitch = espeak_voice(voice)
        pace = str(round(WORDS_PER_MINUTE * speed))
        sound = self._run("-v", name, "-s", pace, "-p", str(pitch), "--stdin", "--stdout", text=text)
        samples = np.frombuffer(_wav_data(sound), "<i2").astype(np.float64)
        wide = soxr.resample(samples * _LEVEL, _RATE_HZ, SPEECH_RATE_HZ, quality="HQ") if samples.size else samples
        out = trim(np.round(np.clip(wide, -32768, 32767)).astype(np.int16))
        if out.size == 0:
            raise ScamTapError(f"{PROGRAM} made no sound of a turn of {len(text)} characters; reword it")
        return out

    def _run(self, *arguments: str, text: str = "") -> bytes:
        try:
            return subprocess.run(  # noqa: S603 -- our own arguments; the text goes in by standard input
                [self._program, *arguments], input=text.encode(), capture_output=True, check=True, timeout=_TIMEOUT_S
            ).stdout
        except (OSError, subprocess.SubprocessError) as error:
            raise ScamTapError(f"{PROGRAM} does not run here; run: apt install --reinstall espeak-ng") from error


def _wav_data(sound: bytes) -> bytes:
    """The samples of a WAV that was streamed: its header, written before the end was known, gives no true length."""
    at = sound.find(b"data")
    if at < 0:
        return b""
    data = sound[at + 8 :]
    return data[: len(data) // 2 * 2]
