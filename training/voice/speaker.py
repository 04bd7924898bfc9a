"""Text to speech: Kokoro-82M on one thread, and a cache so that no sentence is spoken twice.

A second synthesiser is in :mod:`training.voice.espeak`.

Synthesis takes about half a CPU second per second of speech on one core of a plain machine; all else here is small.
By the rewritten graph (:mod:`training.voice.graph`) it takes half of that: the same speech, but not the same samples.
The same text, voice, speed and graph give the same samples: neither graph draws random numbers.
"""

import hashlib
import json
import os
import tempfile
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt
import soundfile as sf

from inference.errors import ScamTapError
from inference.weights import file, load_lock
from training.voice.graph import VERSION, fast_graph
from training.voice.mandarin import phonemes
from training.voice.voices import MANDARIN_CODE, phoneme_language, synthesiser_of

PCM = npt.NDArray[np.int16]

SPEECH_RATE_HZ = 24000
"""What Kokoro makes; kept as it is in the cache, so that other codecs than narrow-band ones can be tried later."""

_MODEL, _VOICES = "model.onnx", "voices.npz"

TRIM_BELOW_DB = -40.0  # against the loudest frame
TRIM_FRAME = SPEECH_RATE_HZ * 10 // 1000  # 10 ms
TRIM_MARGIN_FRAMES = 2  # soft first and last consonants lie below the threshold


class Speaker(Protocol):
    """Says a text."""

    fingerprint: str
    """Changes when the same text may sound different: part of the cache's key."""

    source: str
    """Who speaks, for the labels: a figure measured on it says so."""

    def speak(self, text: str, voice: str, speed: float) -> PCM:
        """``text`` as int16 ``[num_samples]`` at 24 kHz, silence trimmed at both ends."""
        ...


def trim(samples: PCM) -> PCM:
    """Cut the silence off both ends, down to 20 ms, so that a turn's labelled times are when it is heard."""
    num_frames = samples.size // TRIM_FRAME
    if num_frames == 0:
        return samples
    frames = samples[: num_frames * TRIM_FRAME].reshape(num_frames, TRIM_FRAME).astype(np.float64)
    power = np.mean(frames**2, axis=1)
    loud = np.flatnonzero(power > power.max() * 10 ** (TRIM_BELOW_DB / 10))
    if loud.size == 0:
        return samples[:0]
    first = max(int(loud[0]) - TRIM_MARGIN_FRAMES, 0)
    last = min(int(loud[-1]) + 1 + TRIM_MARGIN_FRAMES, num_frames)
    return samples[first * TRIM_FRAME : last * TRIM_FRAME]


class KokoroSpeaker:
    """Kokoro-82M through kokoro-onnx; loads the model on the first sentence.

    Args:
        home: cache folder the weights were pulled into, by default the user's.
        is_fast: by the rewritten graph, which is kept beside the weights, in place of the published one.
    """

    source = "synthetic: Kokoro-82M (int8) reading a written script, over a simulated telephone line"

    def __init__(self, home: Path | None = None, *, is_fast: bool = False) -> None:
        self._home = home
        self._is_fast = is_fast
        self._kokoro: Any = None
        files = load_lock().artefact("kokoro-82m").files
        self.fingerprint = " ".join(files[name].sha256 for name in (_MODEL, _VOICES))
        if is_fast:
            self.fingerprint += f" fast-{VERSION}"

    def speak(self, text: str, voice: str, speed: float) -> PCM:
        """See :class:`Speaker`.

        Raises:
            ConfigError: the voice is reserved or unknown.
            WeightsError: the synthesiser was not pulled.
            ScamTapError: kokoro-onnx (for Mandarin, misaki too) is not installed, nothing in the text can be said, or
                the rewritten graph cannot be kept.
        """
        language = phoneme_language(voice)
        if self._kokoro is None:
            self._kokoro = self._load()
        is_phonemes = language == MANDARIN_CODE
        said = phonemes(text) if is_phonemes else text
        try:
            audio, _ = self._kokoro.create(
                said, voice=voice, speed=speed, lang=language, is_phonemes=is_phonemes, trim=False
            )
        except (ValueError, RuntimeError) as error:  # no phonemes; espeak or the runtime failed
            raise ScamTapError(f"the synthesiser cannot say a turn of {len(text)} characters; reword it") from error
        samples = trim(np.round(np.clip(audio, -1, 1) * 32767).astype(np.int16))
        if samples.size == 0:
            raise ScamTapError(f"the synthesiser made no sound of a turn of {len(text)} characters; reword it")
        return samples

    def _load(self) -> Any:
        try:
            import onnxruntime
            from kokoro_onnx import Kokoro
        except ImportError as error:
            raise ScamTapError("the synthesiser is not installed; run: make install-train") from error
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = options.inter_op_num_threads = 1
        options.add_session_config_entry("session.intra_op.allow_spinning", "0")
        model = file("kokoro-82m", _MODEL, home=self._home)
        if self._is_fast:
            model = fast_graph(model)
        session = onnxruntime.InferenceSession(str(model), options, providers=["CPUExecutionProvider"])
        return Kokoro.from_session(session, str(file("kokoro-82m", _VOICES, home=self._home)))


class CachedSpeaker:
    """Remembers on disk what ``speaker`` said; an interrupted run goes on where it stopped.

    Attributes:
        num_spoken: sentences that ``speaker`` had to say; the others were in the cache.
    """

    def __init__(self, speaker: Speaker, folder: Path) -> None:
        self._speaker = speaker
        self._folder = folder
        self.fingerprint, self.source = speaker.fingerprint, speaker.source
        self.num_spoken = 0

    def speak(self, text: str, voice: str, speed: float) -> PCM:
        """See :class:`Speaker`.

        Raises:
            ScamTapError: the cache cannot be written, or as ``speaker`` raises.
        """
        synthesiser_of(voice)  # a reserved voice is refused even where it lies in the cache
        key = hashlib.sha256(json.dumps([self.fingerprint, text, voice, round(speed, 4)]).encode()).hexdigest()
        path = self._folder / key[:2] / f"{key}.flac"
        if path.is_file():
            try:
                samples: PCM = sf.read(path, dtype="int16")[0]
            except sf.LibsndfileError:
                path.unlink()  # cut short by a full disk, say: say it again
            else:
                return samples
        samples = self._speaker.speak(text, voice, speed)
        self.num_spoken += 1
        write_audio(path, samples, SPEECH_RATE_HZ, "FLAC", "PCM_16")
        return samples


def write_audio(path: Path, samples: PCM, rate_hz: int, container: str, subtype: str) -> None:
    """Write ``samples`` (``[num_samples]`` or ``[num_samples, channels]``) whole or not at all.

    Raises:
        ScamTapError: the folder cannot be written or the disk is full.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        handle, name = tempfile.mkstemp(dir=path.parent, prefix=".", suffix=".tmp")
        os.close(handle)
        part = Path(name)
        try:
            sf.write(part, samples, rate_hz, format=container, subtype=subtype)
            part.chmod(0o644)
            part.replace(path)
        finally:
            part.unlink(missing_ok=True)
    except (OSError, sf.LibsndfileError) as error:
        raise ScamTapError(f"cannot write {path}: {error}; free some space or give another folder") from error
