"""What a manifest must hold before anything learns from it: every fault, with its line, field and remedy."""

import hashlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import soundfile

from inference.audio import SAMPLE_RATE_HZ, Leg
from training.data.shingles import near_copies
from training.manifest import ManifestError, RecordedCall, parse_line, read_lines

DURATION_SLACK_S = 0.05
OVERLAP_SLACK_S = 0.25
"""Two turns of one mouth may touch by so much: marks are set by hand."""


@dataclass(frozen=True, slots=True)
class Fault:
    """Something wrong in a manifest.

    Attributes:
        line: 1 is the first; 0 for what concerns no single line.
        field: of the call.
        what: and what to do about it.
        is_error: else it is worth a look, and nothing more.
    """

    line: int
    field: str
    what: str
    is_error: bool = True

    def text(self, path: Path) -> str:
        """As it is printed."""
        where = f"{path}:{self.line}" if self.line else f"{path}"
        return f"{where}: {self.field}: {self.what}"


@dataclass(frozen=True, slots=True)
class Checked:
    """A manifest as far as it could be read: calls with their line numbers, and the faults."""

    calls: list[tuple[int, RecordedCall]]
    faults: list[Fault]

    @property
    def num_errors(self) -> int:
        """How many faults must be put right."""
        return sum(fault.is_error for fault in self.faults)


def check(path: Path, *, with_audio: bool = True, advance: Callable[[], None] = lambda: None) -> Checked:
    """Read a manifest and find every fault; ``advance`` is told after each line.

    Raises:
        ManifestError: the file itself cannot be read.
    """
    calls: list[tuple[int, RecordedCall]] = []
    faults: list[Fault] = []
    first_line: dict[str, int] = {}
    for number, line in read_lines(path):
        advance()
        try:
            call = parse_line(line, "")
        except ManifestError as error:
            field, _, what = str(error).removeprefix(": ").partition(": ")
            faults.append(Fault(number, field, what) if what else Fault(number, "line", field))
            continue
        if call.id in first_line:
            faults.append(Fault(number, "id", f"is used on line {first_line[call.id]}; give each call its own"))
            continue
        first_line[call.id] = number
        calls.append((number, call))
        faults += [Fault(number, *rest) for rest in _of_call(call)]
        if with_audio:
            faults += [Fault(number, *rest) for rest in _of_audio(path, call)]
    if not first_line and not faults:
        faults.append(Fault(0, "calls", "there is none: want one JSON object a line"))
    faults += _of_all(calls)
    return Checked(calls, sorted(faults, key=lambda fault: fault.line))


def _of_call(call: RecordedCall) -> Iterator[tuple[str, str, bool]]:
    if call.label == "scam" and call.ask_s is None:
        yield (
            "ask_s",
            "a scam call without its ask tells nothing of earliness; mark when the ask begins",
            False,
        )
    if None not in (call.split, call.script_split) and call.split != call.script_split:
        yield "split", f"its script stands on {call.script_split}; run: scamtap-train data split", True
    if call.ask_s is not None and call.duration is not None and call.ask_s > call.duration:
        yield "ask_s", "lies after the end of the recording; give seconds from its beginning", True
    if not call.segments:
        yield "segments", "there is none: only the label can be learnt; transcribe it or import the turns", False
    ends: dict[Leg, float] = {}
    for index, segment in enumerate(call.segments):
        where = f"segments.{index}"
        if call.duration is not None and segment.end > call.duration + DURATION_SLACK_S:
            yield where, "ends after the recording; run: scamtap-train data fix", True
        if segment.start < ends.get(segment.leg, 0.0) - OVERLAP_SLACK_S:
            yield where, "begins before the same party's last one is over; put the times right", True
        if segment.leg not in call.channels:
            yield where, f"is of the {segment.leg} leg, which has no channel; add it to channels", True
        ends[segment.leg] = max(ends.get(segment.leg, 0.0), segment.end)
    if [s.start for s in call.segments] != sorted(s.start for s in call.segments):
        yield "segments", "are not in order of time; run: scamtap-train data fix", True


def _of_audio(path: Path, call: RecordedCall) -> Iterator[tuple[str, str, bool]]:
    audio = call.path(path)
    try:
        info = soundfile.info(str(audio))
        digest = sha256_of_file(audio)
    except (OSError, soundfile.LibsndfileError):
        yield "audio_filepath", "is not there, or is no recording; paths are relative to the manifest", True
        return
    if call.sha256 is None or call.duration is None:
        yield "sha256" if call.sha256 is None else "duration", "is missing; run: scamtap-train data fix", True
    if call.sha256 is not None and digest != call.sha256:
        yield "sha256", "the recording has changed since; check it, then run: scamtap-train data fix", True
    seconds = info.frames / info.samplerate
    if call.duration is not None and abs(seconds - call.duration) > DURATION_SLACK_S:
        yield "duration", f"the recording is {seconds:.2f} s long; run: scamtap-train data fix", True
    if max(call.channels.values()) >= info.channels:
        yield "channels", f"the recording has {info.channels}; far and near must be among them", True
    if info.samplerate < SAMPLE_RATE_HZ:
        yield "audio_filepath", f"has {info.samplerate} samples a second; {SAMPLE_RATE_HZ} or more are needed", True


def _of_all(calls: list[tuple[int, RecordedCall]]) -> Iterator[Fault]:
    line_of = {call.id: number for number, call in calls}
    by_id = {call.id: call for _, call in calls}
    seen: dict[str, str] = {}
    for call in by_id.values():
        if call.sha256 is not None and call.sha256 in seen:
            yield Fault(line_of[call.id], "sha256", f"is the very recording of line {line_of[seen[call.sha256]]}")
        elif call.sha256 is not None:
            seen[call.sha256] = call.id
    # The same script read twice, over other lines by other voices, is meant; two scripts of the same words are not.
    texts = {call.id: " ".join(segment.text for segment in call.segments) for call in by_id.values()}
    for pair in near_copies(texts):
        first, second = by_id[pair.first], by_id[pair.second]
        if first.script is None or first.script != second.script:
            what = f"{pair.similarity:.0%} the words of line {line_of[pair.first]}; keep one, or give both one campaign"
            same = first.campaign is not None and first.campaign == second.campaign
            if not same:
                yield Fault(line_of[pair.second], "segments", what, False)


def sha256_of_file(path: Path) -> str:
    """Digest of a file's bytes, hex.

    Raises:
        OSError: it cannot be read.
    """
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
