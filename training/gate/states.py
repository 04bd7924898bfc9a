"""Labelled recordings -> the encoder states that the gate sees in service, kept on disk.

The recordings go through the segmenter, the windows and the encoder of live calls, in the precision that is served:
int8 states are about a tenth away from fp32 ones, and a gate trained on one must not judge the other. Only the far leg
is read: it is what decides.
"""

import hashlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from inference.audio.segment import SpeechSegment
from inference.engine.base import Engine
from inference.engine.repository import write_atomically
from inference.errors import MediaError, WeightsError
from inference.gate.graph import BLOCK_FRAMES, block_means, num_frames_of
from inference.gateway.recording import open_recording
from inference.service.call import Call, CallParts
from inference.speech.graph import ENCODER
from inference.weights.safetensors import read_safetensors, write_safetensors
from training.intent.data import split_of
from training.intent.heard import overlapping
from training.recordings import labelled

States = npt.NDArray[np.float16]
BORN_WITH = ("weights_sha256", "precision")
"""The encoder's metadata that states are only good together with."""


@dataclass(frozen=True, slots=True)
class GateCall:
    """The far leg of one recording as the gate hears it.

    Attributes:
        path: of the recording.
        id, is_scam, topic, family: of its script.
        voice: of the far leg, without its pitch: what must not be the signal.
        synthesiser: ``espeak`` or ``kokoro``.
        split: ``train``, ``dev`` or ``test``, from the script's id.
        ask_s: when the far party first asks; None in genuine calls that never do.
        start_s, end_s, known_s: of each segment, call time in seconds.
        marks: stages of the script's turns that are being said in each segment; for training alone.
        states: per segment float16 ``[blocks, width]``: means over :data:`BLOCK_FRAMES` encoder frames.
    """

    path: Path
    id: str
    is_scam: bool
    topic: str
    family: str | None
    voice: str
    synthesiser: str
    split: str
    ask_s: float | None
    start_s: tuple[float, ...]
    end_s: tuple[float, ...]
    known_s: tuple[float, ...]
    marks: tuple[tuple[str, ...], ...]
    states: tuple[States, ...]

    @property
    def speech_s(self) -> float:
        """Speech of the far leg, seconds."""
        return float(sum(self.end_s) - sum(self.start_s))


def born_with(engine: Engine) -> dict[str, str]:
    """Which states the encoder of ``engine`` gives."""
    metadata = engine.spec(ENCODER).metadata
    return {f"states_{what}": metadata.get(what, "unknown") for what in BORN_WITH}


def far_segments(path: Path, parts: CallParts) -> list[SpeechSegment]:
    """The far leg's segments of one recording, as a live call would cut them."""
    (recorded,) = open_recording(path)
    call = Call(path.stem, parts)
    segments = [
        segment
        for block in recorded.blocks()
        if block.leg == "far"
        for segment in call.hear("far", block.samples, block.start_sample, block.present)
    ]
    return segments + [segment for segment in call.hang_up() if segment.leg == "far"]


def encode(engine: Engine, window_samples: Callable[[int], int], segments: Sequence[SpeechSegment]) -> list[States]:
    """Block means of the served encoder's states of each segment, in the window that the recogniser gives it."""
    out = []
    for segment in segments:
        audio = np.zeros((1, window_samples(len(segment.samples))), np.int16)
        audio[0, : len(segment.samples)] = segment.samples
        states = np.asarray(engine.infer(ENCODER, {"audio": audio})["states"][0], np.float32)
        out.append(block_means(states, num_frames_of(len(segment.samples))).astype(np.float16))
    return out


def _key(path: Path, born: dict[str, str], policy: str) -> str:
    digest = hashlib.sha256(f"{sorted(born.items())} {policy} {BLOCK_FRAMES}".encode())
    digest.update(path.read_bytes())
    return digest.hexdigest()


def _write(path: Path, segments: Sequence[SpeechSegment], states: Sequence[States]) -> None:
    times = np.array([(s.start_s, s.end_s, s.known_s) for s in segments], np.float32).reshape(-1, 3)
    tensors = {"times": times, **{f"states.{i:05}": np.asarray(one, np.float32) for i, one in enumerate(states)}}

    def fill(temporary: Path) -> None:
        with temporary.open("wb") as file:
            # float32 for the times: half precision would move the end of a long call by a second.
            write_safetensors(file, {n: t.shape for n, t in tensors.items()}, "float32", lambda name: tensors[name])

    write_atomically(path, fill)


def _read(path: Path) -> tuple[npt.NDArray[np.float32], tuple[States, ...]]:
    tensors = read_safetensors(path)
    names = sorted(name for name in tensors if name.startswith("states."))
    if "times" not in tensors or len(tensors["times"]) != len(names):
        raise WeightsError(f"{path}: not states that we keep; remove it")
    return np.array(tensors["times"]), tuple(np.asarray(tensors[name], np.float16) for name in names)


def read_calls(
    folders: Sequence[Path],
    cache: Path,
    engine: Engine,
    parts: CallParts,
    window_samples: Callable[[int], int],
    policy: str,
    on_call: Callable[[int], None] = lambda _total: None,
) -> Iterator[GateCall]:
    """States of every recording of ``folders``; what is in ``cache`` already is not computed again.

    Args:
        folders: of recordings with labels.
        cache: folder of safetensors files, one a recording, named by what they depend on.
        engine: serves the encoder.
        parts: how a live call cuts its speech.
        window_samples: the recogniser's.
        policy: what else the segments depend on (settings of the segmenter and the recogniser).
        on_call: told the number of all after each.

    Raises:
        MediaError: a recording or its labels cannot be read, or a script stands on the wrong side of a split.
        EngineError: the encoder failed.
    """
    recordings = list(labelled(folders))
    born = born_with(engine)
    for path, labels in recordings:
        kept = cache / f"{_key(path, born, policy)}.safetensors"
        if not kept.is_file():
            segments = far_segments(path, parts)
            _write(kept, segments, encode(engine, window_samples, segments))
        times, states = _read(kept)
        yield _call(path, labels, times, states)
        on_call(len(recordings))


def _call(path: Path, labels: dict[str, Any], times: npt.NDArray[np.float32], states: tuple[States, ...]) -> GateCall:
    try:
        voice = str(labels["voices"]["far"])
        start_s, end_s, known_s = (tuple(map(float, column)) for column in times.T)
        return GateCall(
            path=path,
            id=labels["id"],
            is_scam=labels["label"] == "scam",
            topic=labels["topic"],
            family=labels["family"],
            voice=voice.partition("@")[0],
            synthesiser="espeak" if "espeak" in labels["source"] else "kokoro",
            split=split_of(labels["id"]),
            ask_s=labels["ask_s"],
            start_s=start_s,
            end_s=end_s,
            known_s=known_s,
            marks=tuple(_marks(labels["turns"], *one) for one in zip(start_s, end_s, strict=True)),
            states=states,
        )
    except (KeyError, TypeError) as error:
        raise MediaError(
            f"{path.with_suffix('.json')}: not labels of scamtap-train voice; voice the call again"
        ) from error


def _marks(turns: Sequence[dict[str, Any]], start_s: float, end_s: float) -> tuple[str, ...]:
    times = [(turn["start_s"], turn["end_s"]) if turn["leg"] == "far" else (0.0, 0.0) for turn in turns]
    return tuple(sorted({stage for index in overlapping(start_s, end_s, times) for stage in turns[index]["stages"]}))
