"""A recording through the very stages live calls go through, as fast as the machine goes or in real time."""

import time
from collections.abc import Callable, Iterator

from inference.audio import SAMPLE_RATE_HZ
from inference.audio.segment import SpeechSegment
from inference.gateway.recorded import RecordedCall
from inference.opinion.answer import Asks
from inference.service.call import Call, CallParts
from inference.service.events import Event
from inference.service.stages import DueSegment, Stages, is_gated


def replay(
    recorded: RecordedCall,
    parts: CallParts,
    stages: Stages,
    *,
    language: str | None = "en",
    realtime: bool = False,
    sleep: Callable[[float], None] = time.sleep,
    on_progress: Callable[[float], None] = lambda _position_s: None,
    opinions: Asks | None = None,
) -> Iterator[Event]:
    """Follow one recorded call from its first sample to its verdict.

    Args:
        recorded: where the audio comes from.
        parts: as a live call has them.
        stages: likewise.
        language: ISO 639-1 code, or None to detect.
        realtime: wait until each block would have been heard.
        sleep: seconds; for tests.
        on_progress: told the position in the call, seconds.
        opinions: who is asked while the call is in doubt, and waited for; None: nobody.

    Yields:
        Events as they become known; the last is the verdict.

    Raises:
        MediaError: the recording turned out unreadable midway.
    """
    call = Call(recorded.id, parts, language=language)
    started_s = stages.clock()
    for block in recorded.blocks():
        heard_s = (block.start_sample + len(block.samples)) / SAMPLE_RATE_HZ
        if realtime:
            sleep(max(0.0, heard_s - (stages.clock() - started_s)))
        for segment in call.hear(block.leg, block.samples, block.start_sample, block.present):
            yield from _understand(call, segment, stages, opinions)
        on_progress(heard_s)
    for segment in call.hang_up():
        yield from _understand(call, segment, stages, opinions)
    packets = recorded.packets
    yield call.close(None if packets is None else {leg: of_leg.to_json() for leg, of_leg in packets.items()})


def _understand(call: Call, segment: SpeechSegment, stages: Stages, opinions: Asks | None) -> Iterator[Event]:
    began_s = stages.clock()
    due = DueSegment(call, segment, began_s, is_gated(stages.gates, call, is_overloaded=False))
    yield from stages.understand([due])[0].events
    if opinions is None or opinions.is_paused:
        return
    question = call.question(segment.known_s + stages.clock() - began_s)
    shown = None if question is None else opinions.ask(question).shown
    if question is not None and shown is not None:
        yield from call.reconsider(question, shown, segment.known_s + stages.clock() - began_s)
