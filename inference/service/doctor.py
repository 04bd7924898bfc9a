"""What is missing or slow on this machine: ``scamtap doctor``."""

import os
import resource
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from rich.text import Text

from inference.audio import SAMPLE_RATE_HZ
from inference.audio.segment import SpeechSegment
from inference.errors import ScamTapError
from inference.intent.context import ContextWindow, Said
from inference.rtp.jit import HAS_NUMBA
from inference.weights import status

if TYPE_CHECKING:
    from inference.config import Settings

RMEM_MAX = Path("/proc/sys/net/core/rmem_max")
PROBE_S = 4.0


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing looked at.

    Attributes:
        what: the thing and its state.
        is_ok: nothing to do.
        remedy: what to do where not ok.
        is_needed: ScamTap does not work without; else it is only slower or less safe.
    """

    what: str
    is_ok: bool
    remedy: str = ""
    is_needed: bool = False

    def line(self) -> Text:
        """For the terminal."""
        mark, style = ("ok  ", "green") if self.is_ok else ("FIX ", "red") if self.is_needed else ("slow", "yellow")
        return Text.assemble((mark, style), " ", self.what, "" if self.is_ok else f": {self.remedy}")


def examine(settings: "Settings") -> Iterator[Finding]:
    """Look at everything, cheapest first."""
    yield _cores()
    yield _file_limit()
    yield _receive_buffer(settings.media.receive_buffer_bytes)
    yield Finding(
        "numba " + ("compiles the packet kernel" if HAS_NUMBA else "is missing"),
        HAS_NUMBA,
        "the NumPy twin runs instead, at half the speed or less; pip install numba",
    )
    for held in status(deep=True):
        if not held.training_only:
            remedy = held.detail or "run: scamtap models pull"
            yield Finding(f"weights {held.name}: {held.state}", held.state == "ok", remedy, is_needed=True)
    yield _engine(settings)
    yield _detector(settings)
    yield _opinion(settings)
    yield Finding(
        "privacy.legal_basis " + ("is set" if settings.privacy.legal_basis else "is not set"),
        settings.privacy.legal_basis is not None,
        "`scamtap serve` will refuse; write it in the config",
    )


def _cores() -> Finding:
    count = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return Finding(f"{count} core(s)", count >= 2, "one core serves media and models in turn; give it two")


def _file_limit() -> Finding:
    soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    return Finding(f"{soft} open files allowed", soft >= 1024, "raise it: ulimit -n 4096")


def _receive_buffer(wanted_bytes: int) -> Finding:
    if not RMEM_MAX.is_file():
        return Finding("socket receive buffer: limit unknown", True)
    allowed = int(RMEM_MAX.read_text())
    remedy = f"packets may be lost in bursts; as root: sysctl -w net.core.rmem_max={wanted_bytes}"
    return Finding(f"socket receive buffer may be {allowed} bytes", allowed >= wanted_bytes, remedy)


def _detector(settings: "Settings") -> Finding:
    is_network = settings.segmenter.detector == "network"
    decides = "the network" if is_network else f"WebRTC's detector in mode {settings.segmenter.webrtc_mode}"
    return Finding(f"{decides} decides what is speech (segmenter.detector)", True)


def _opinion(settings: "Settings") -> Finding:
    """Ask about two made-up sentences, as a call would be asked about."""
    from inference.opinion.client import WaitingClient
    from inference.opinion.question import Line, Question

    config = settings.opinion
    if not config.is_on:
        return Finding("no language model is asked for opinions (opinion.url)", True)
    question = Question((Line(1, "far", "This is your bank."), Line(2, "far", "Read me the code that we sent you.")))
    try:
        with WaitingClient(config) as client:
            answer = client.ask(question)
    except ScamTapError as error:
        return Finding("opinions cannot be asked for", False, str(error), is_needed=True)
    remedy = {
        "malformed": "it answers something other than the schema's JSON; serve it with structured outputs",
        "timeout": f"no answer within opinion.timeout_s {config.timeout_s:g}; use a faster model, or more time",
        "refused": "it answers with an error: check opinion.model and the key",
        "unreachable": "nobody answers at opinion.url; start it there. Calls go on without",
    }.get(answer.outcome, "")
    return Finding(
        f"opinions: {answer.outcome} in {answer.took_s:.1f} s at opinion.url", answer.outcome == "answered", remedy
    )


def _engine(settings: "Settings") -> Finding:
    """Run every model once, and compare the recogniser's speed on noise with real time."""
    from inference.service.models import build_parts, build_stages

    noise = (np.random.default_rng(0).normal(0, 2000, round(PROBE_S * SAMPLE_RATE_HZ))).astype(np.int16)
    segment = SpeechSegment("far", 0.0, PROBE_S, PROBE_S, noise)
    try:
        stages = build_stages(settings)
    except ScamTapError as error:
        return Finding("models do not load", False, str(error), is_needed=True)
    try:
        build_parts(settings, stages)  # warms the voice activity network, where it is what decides
        stages.scorer.score([ContextWindow(Said("far", "hello"))])
        stages.recogniser.transcribe([segment], ["en"])  # the first run allocates
        clock = time.process_time if settings.engine.url is None else time.monotonic  # a server's CPU is not ours
        started_s = clock()
        stages.recogniser.transcribe([segment], ["en"])
        cost = (clock() - started_s) / PROBE_S
    except ScamTapError as error:
        return Finding("models do not run", False, str(error), is_needed=True)
    finally:
        stages.close()
    if settings.engine.url is not None:
        return Finding(
            f"models run on {settings.engine.url}; {cost:.3f} s to wait per second of noise decoded",
            cost < 0.25,
            "warnings come late; look for what keeps the server, or use a faster one",
        )
    return Finding(
        f"models run; {cost:.3f} CPU-seconds per second of noise decoded",
        cost < 0.25,
        "a core follows fewer than four talking calls; use a faster machine or a GPU server",
    )
