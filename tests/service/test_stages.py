"""What a batch leaves behind in its calls: all of it, or, where the models fail, nothing."""

import pytest

from inference.errors import CapacityError
from inference.service.call import Call
from inference.service.stages import DueSegment


class Full:
    """A scorer whose server has no room the first times."""

    def __init__(self, scorer, refusals):
        self._scorer, self._refusals = scorer, refusals
        self.seen = []

    def score(self, items):
        self.seen = [[said.text for said in (*item.before, item.current)] for item in items]
        if self._refusals:
            self._refusals -= 1
            raise CapacityError("the server's queue is full")
        return self._scorer.score(items)


def play(doubles, refusals):
    """A call whose third segment is refused so often: what was read at last, its gate's evidence, its verdict."""
    stages = doubles.gated_stages("overload", clock=lambda: 0.0)
    call = Call("one", doubles.gated_parts(), language=None)
    audio = doubles.speech(doubles.HELLO, doubles.FINE, doubles.THREAT)
    segments = [*call.hear("far", audio, 0), *call.hang_up()]
    scorer = Full(stages.scorer, 0)
    stages.scorer = scorer
    for number, segment in enumerate(segments):
        scorer._refusals = refusals if number == 2 else 0
        for _ in range(scorer._refusals):
            with pytest.raises(CapacityError):
                stages.understand([DueSegment(call, segment, 0.0, is_gated=True)])
        stages.understand([DueSegment(call, segment, 0.0)])
    return scorer.seen, call._gate.evidence_llr, call.close()


def test_speech_that_is_offered_again_is_heard_once(doubles):
    seen, gate_llr, verdict = play(doubles, 0)
    assert seen == [[doubles.HELLO.text, doubles.FINE.text, doubles.THREAT.text]]
    assert play(doubles, 3) == (seen, gate_llr, verdict)


def test_speech_that_never_comes_through_leaves_nothing(doubles):
    stages, call = (
        doubles.gated_stages("overload", clock=lambda: 0.0),
        Call("one", doubles.gated_parts(), language=None),
    )
    segments = [*call.hear("far", doubles.speech(doubles.THREAT, doubles.ASK), 0), *call.hang_up()]
    stages.scorer = Full(stages.scorer, 1)
    with pytest.raises(CapacityError):
        stages.understand([DueSegment(call, segment, 0.0, is_gated=True) for segment in segments])
    assert (call.language, call._gate.evidence_llr, call.close().speech_s) == (None, 0.0, {"far": 0.0, "near": 0.0})
