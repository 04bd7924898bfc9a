"""What becomes of the speech segments of followed calls: through the models, and what they make of it published."""

import asyncio
from functools import partial

import structlog

from inference.audio.segment import SpeechSegment
from inference.errors import ScamTapError
from inference.service.events import Event, OpinionEvent, UtteranceEvent, VerdictEvent
from inference.service.followed import Followed
from inference.service.opinions import Opinions
from inference.service.publisher import Publisher
from inference.service.scheduler import Scheduler
from inference.service.stages import DueSegment, Outcome

log = structlog.get_logger(__name__)


class Understanding:
    """Hands segments to the scheduler, and publishes what comes of each when it comes.

    Args:
        scheduler: runs the models.
        publisher: where events and alerts go.
        opinions: whom to ask about calls at ``suspect``; None: nobody.
    """

    def __init__(self, scheduler: Scheduler, publisher: Publisher, opinions: Opinions | None) -> None:
        self._scheduler = scheduler
        self._publisher = publisher
        self._telemetry = publisher.telemetry
        self._opinions = opinions

    def submit(self, followed: Followed, segment: SpeechSegment) -> None:
        """Have a segment understood; until it is, ``followed`` knows that it waits."""
        coming = self._scheduler.submit(DueSegment(followed.call, segment, followed.begun_s + segment.known_s))
        followed.understanding.add(coming)
        coming.add_done_callback(partial(self._understood, followed, segment))

    def end(self, followed: Followed, verdict: VerdictEvent) -> None:
        """A call is over: tell what is left to tell of it, the verdict last."""
        for event in (*followed.opined, verdict):
            self._publish(followed, event)

    def _opined(self, followed: Followed, event: Event) -> None:
        """Told in its turn: what was weighed before it may still be on its way from the models' thread."""
        followed.opined.append(event)
        self._tell_opined(followed)

    def _tell_opined(self, followed: Followed) -> None:
        waiting = followed.opined
        while waiting and not (isinstance(waiting[0], OpinionEvent) and waiting[0].after > followed.told_to):
            self._publish(followed, waiting.popleft())

    def _publish(self, followed: Followed, event: Event) -> None:
        """Tell everybody who is to know, those who follow this call among them."""
        if isinstance(event, UtteranceEvent):
            followed.told_to = event.number
        self._publisher.publish(event, followed.spec.reach, followed.call.language)
        if followed.told is not None:
            followed.told(event.to_json())

    def _understood(self, followed: Followed, segment: SpeechSegment, came: "asyncio.Future[Outcome]") -> None:
        followed.understanding.discard(came)
        if came.cancelled():
            return
        failure, speech_s = came.exception(), segment.end_s - segment.start_s
        if failure is not None:
            self._telemetry.failures.inc()
            if not isinstance(failure, ScamTapError):
                raise failure
            log.error("segment not understood", call=followed.call.id, why=str(failure))
            return
        outcome = came.result()
        if outcome.shed is not None:
            followed.shed_s += speech_s
            self._telemetry.shed_s.labels(outcome.shed).inc(speech_s)
        elif outcome.is_held:
            followed.held_s += speech_s
        for event in outcome.events:
            self._publish(followed, event)
        self._tell_opined(followed)
        if self._opinions is not None and outcome.events:
            self._opinions.consider(followed.call, followed.begun_s, partial(self._opined, followed))
