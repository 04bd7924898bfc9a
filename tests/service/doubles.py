"""Models that say what a test scripts, and callers that speak it in tones: everything else in a test is the real thing.

A phrase is a tone of its own; the recogniser's double tells phrases apart by pitch, so it hears the right words only
where the right audio came through sockets, kernel, rings and segmenter. Also run as a script, it is ``scamtap`` with
these models in place of the real ones (a child process that can be sent signals).
"""

import asyncio
import sys
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from inference.audio import SAMPLE_RATE_HZ
from inference.audio.segmenter import Segmenter, SegmenterBank, SegmenterConfig
from inference.gate import calibration as gate_calibration
from inference.gate.evidence import GateEvidence
from inference.intent.calibration import Calibration, OperatingPoint
from inference.intent.scores import FAMILIES, STAGES, IntentScores, Weighed
from inference.opinion.config import OpinionConfig
from inference.opinion.inquiry import Inquiry
from inference.rtp.g711 import encode_alaw, encode_ulaw
from inference.rtp.packet import RtpPacket
from inference.service.call import CallParts
from inference.service.stages import Stages
from inference.speech.utterance import Utterance
from inference.verdict.verdict import Verdict, VerdictConfig

PLANTED = "plantedwords"
STEP_HZ = 100


@dataclass(frozen=True)
class Phrase:
    """Words, their pitch, and what the intent model is to think of them."""

    hz: int
    text: str
    llr: float
    stage: str


HELLO = Phrase(400, f"hello {PLANTED} one from your bank", 0.5, "contact")
THREAT = Phrase(700, f"your account {PLANTED} two is in danger", 3.2, "lure")
ASK = Phrase(1000, f"read me the code {PLANTED} three", 3.0, "ask")
FINE = Phrase(1300, f"no hurry {PLANTED} four call us back", -0.1, "reassure")
STEERING = Phrase(1600, "\x1b[31mred\x07 \x9b2J \u202eright to left", 0.0, "contact")
PHRASES = {phrase.hz: phrase for phrase in (HELLO, THREAT, ASK, FINE, STEERING)}
BY_TEXT = {phrase.text: phrase for phrase in PHRASES.values()}

CALIBRATION = Calibration(
    head_sha256="0" * 64,
    languages=("en",),
    far_scale=1.0,
    far_bias=0.0,
    act_weights=dict.fromkeys(STAGES, 0.0),
    stage_thresholds=dict.fromkeys(STAGES, 0.5),
    operating_point=OperatingPoint(
        suspect_llr=3.0, danger_llr=4.6, suspect_false_alarms=0.05, danger_false_alarms=0.01, num_genuine=0
    ),
)
GATE_CALIBRATION = gate_calibration.GateCalibration(
    head_sha256="0" * 64,
    states_precision="int8",
    states_weights_sha256="0" * 64,
    scale=1.0,
    bias=0.0,
    operating_point=gate_calibration.OperatingPoint(
        pass_llr=1.0, pass_share=1, pass_share_low=0.9, num_scam=1, num_genuine=1
    ),
)
SEGMENTS = SegmenterConfig(end_silence_s=0.2, tail_s=0.1, lead_in_s=0.1)
SPOKEN_S, PAUSE_S = 0.4, 0.35


class EnergyVad:
    """Speech is what is loud."""

    def open(self, num_legs):
        return np.zeros(num_legs)

    def score(self, frames, states):
        return (np.abs(frames.astype(np.float32)).mean(axis=1) > 300).astype(np.float32)

    def skip(self, states, num_frames) -> None:
        return None


class Recogniser:
    """Hears :data:`PHRASES` by their pitch; anything else is no words."""

    def __init__(self) -> None:
        self.batches: list[int] = []
        self.languages: list[str | None] = []
        self.failure: Exception | None = None

    def transcribe(self, segments, languages=None) -> list[Utterance]:
        self.batches.append(len(segments))
        self.languages += languages or []
        if self.failure is not None:
            raise self.failure
        return [
            Utterance(s.leg, s.start_s, s.end_s, s.known_s, self._words(s.samples), language or "en")
            for s, language in zip(segments, languages or [None] * len(segments), strict=True)
        ]

    is_mixing = True

    def window_samples(self, num_samples: int) -> int:
        return -(-num_samples // SAMPLE_RATE_HZ) * SAMPLE_RATE_HZ

    def _words(self, samples) -> str:
        power = np.abs(np.fft.rfft(samples * np.hanning(len(samples))))
        hz = np.fft.rfftfreq(len(samples), 1 / SAMPLE_RATE_HZ)[int(power.argmax())]
        phrase = PHRASES.get(round(hz / STEP_HZ) * STEP_HZ)
        return "" if phrase is None else phrase.text


class Scorer:
    """Thinks what the phrases say."""

    calibration = CALIBRATION
    fingerprint = "0" * 64

    def score(self, items) -> list[IntentScores]:
        return [self._one(BY_TEXT.get(item.current.text)) for item in items]

    def _one(self, phrase: Phrase | None) -> IntentScores:
        families = dict.fromkeys(FAMILIES, 0.1 / (len(FAMILIES) - 1)) | {"card_otp": 0.9}
        stages = dict.fromkeys(STAGES, 0.01)
        if phrase is None:
            return IntentScores(0.0, families, stages)
        weighed = Weighed(phrase.llr, {}, ceiling=10.0, limit=10.0)  # as every shipped model has it
        return IntentScores(phrase.llr, families, stages | {phrase.stage: 0.9}, weighed=weighed)


class ActScorer(Scorer):
    """Says too what acts it sees: a threat in the threat, a request for a code in the ask, and none in the rest."""

    calibration = CALIBRATION.model_copy(
        update={
            "act_weights": CALIBRATION.act_weights
            | {"threat": THREAT.llr, "credential": ASK.llr, "claims_authority": 2.0, "offers_callback": -2.0}
        }
    )

    def _one(self, phrase: Phrase | None) -> IntentScores:
        scores = super()._one(phrase)
        acts = {"threat": phrase.llr} if phrase == THREAT else {"credential": phrase.llr} if phrase == ASK else {}
        return replace(scores, weighed=Weighed(scores.llr - sum(acts.values()), acts, 10.0, 10.0))


class Engine:
    """Has no models."""

    is_closed = False

    def close(self) -> None:
        self.is_closed = True


def stages(clock=None) -> Stages:
    more = {} if clock is None else {"clock": clock}
    return Stages(Recogniser(), Scorer(), Engine(), **more)  # type: ignore[arg-type]


def parts(segments: SegmenterConfig = SEGMENTS, opinion: OpinionConfig | None = None) -> CallParts:
    bank, verdict = SegmenterBank(segments, EnergyVad()), VerdictConfig().calibrated(CALIBRATION)

    def judge() -> Verdict:
        inquiry = Inquiry(opinion, ActScorer.calibration) if opinion is not None and opinion.is_on else None
        return Verdict(verdict, inquiry)

    return CallParts(lambda leg: Segmenter(leg, bank), judge)


class GatedRecogniser(Recogniser):
    """With a gate that hears half of what the intent model would think."""

    def __init__(self) -> None:
        super().__init__()
        self.num_weighed = 0

    def transcribe(self, segments, languages=None, weigh=None, _needed=None) -> list[Utterance]:
        heard = super().transcribe(segments, languages)
        for index, utterance in enumerate(heard):
            if weigh is None:
                continue
            self.num_weighed += 1
            phrase = BY_TEXT.get(utterance.text)
            if not weigh(index, 0.0 if phrase is None else phrase.llr / 2):
                heard[index] = replace(utterance, text="", is_held=True)
        return heard


def gated_stages(gates, clock=None, fusion=0.0) -> Stages:
    more = {} if clock is None else {"clock": clock}
    return Stages(GatedRecogniser(), Scorer(), Engine(), gates=gates, fusion=fusion, **more)  # type: ignore[arg-type]


def gated_parts() -> CallParts:
    return replace(parts(), gate=lambda: GateEvidence(GATE_CALIBRATION))


def tone(hz: int, seconds: float):
    time_s = np.arange(round(seconds * SAMPLE_RATE_HZ)) / SAMPLE_RATE_HZ
    return (8000 * np.sin(2 * np.pi * hz * time_s)).astype(np.int16)


def speech(*phrases: Phrase | None):
    """Phrases one after another, each with a pause behind it; None is as much silence. int16 ``[num_samples]``."""
    pause = np.zeros(round(PAUSE_S * SAMPLE_RATE_HZ), np.int16)
    silence = np.zeros(round(SPOKEN_S * SAMPLE_RATE_HZ), np.int16)
    said = [part for p in phrases for part in (silence if p is None else tone(p.hz, SPOKEN_S), pause)]
    whole = np.concatenate(said)
    return np.concatenate([whole, np.zeros(-len(whole) % 160, np.int16)])


def packets(samples, *, payload_type: int = 0, ssrc: int = 0xCAFE, first: int = 65500, ts: int = 0xFFFFFF00):
    """20 ms RTP packets of ``samples``, as bytes; sequence numbers and timestamps wrap."""
    encode = encode_alaw if payload_type == 8 else encode_ulaw
    return [
        bytes(
            RtpPacket(
                payload_type=payload_type,
                sequence_number=(first + i) & 0xFFFF,
                timestamp=(ts + 160 * i) & 0xFFFFFFFF,
                ssrc=ssrc,
                payload=encode(samples[160 * i : 160 * (i + 1)]),
            )
        )
        for i in range(len(samples) // 160)
    ]


async def until(condition, timeout_s: float = 60) -> None:
    """Wait until ``condition()`` holds, at most ``timeout_s``."""
    async with asyncio.timeout(timeout_s):
        while not condition():  # noqa: ASYNC110
            await asyncio.sleep(0.002)


def install(setattr_=setattr, *takers) -> Stages:
    """Put the doubles where the service and the command line take their models from, and into modules that have."""
    from inference.service import models

    made = stages()
    for module in (models, *takers):
        setattr_(module, "build_stages", lambda _settings: made)
        setattr_(module, "build_parts", lambda settings, _stages: parts(settings.segmenter, settings.opinion))
    setattr_(models, "build_scorer", lambda _settings, _engine=None, _speech=None: Scorer())
    return made


def main(arguments: Sequence[str]) -> None:
    from inference import cli

    install()
    sys.argv = ["scamtap", *arguments]
    cli.main()


if __name__ == "__main__":
    main(sys.argv[1:])
