"""When a segment of speech starts and ends."""

from typing import Literal, Self

from pydantic import BaseModel, ConfigDict, Field, model_validator


class SegmenterConfig(BaseModel):
    """When a segment starts and ends.

    This policy gave word error .115 over a 92 s telephone stream when it was chosen (oracle cuts .079, usual settings
    .176, fixed 6 s windows .137). ``min_speech_s`` of .25 and .35 miss the same speech in benchmarks/vad.py.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    detector: Literal["network", "webrtc"] = Field(
        "network", description="decides whether a frame is speech: models/vad, or WebRTC's, which takes music for it"
    )
    webrtc_mode: int = Field(
        2, ge=0, le=3, description="of WebRTC's; to 0 and 1 pink noise at -40 dBFS is speech, to 3 quiet voices are not"
    )
    threshold: float = Field(0.3, gt=0, lt=1, description="speech probability from which a frame is speech")
    exit_threshold: float = Field(0.15, gt=0, lt=1, description="within a segment, below it a frame is pause")
    min_speech_s: float = Field(0.25, ge=0.032, le=2, description="less speech than this is a click: no segment")
    end_silence_s: float = Field(0.7, ge=0.2, le=3, description="a pause this long ends the segment")
    lead_in_s: float = Field(0.4, ge=0, le=1, description="kept from before the first frame of speech")
    tail_s: float = Field(0.2, ge=0, le=1, description="kept from after the last frame of speech")
    max_segment_s: float = Field(8.0, ge=2, le=28, description="longer segments are cut; lead-in included")
    cut_window_s: float = Field(2.0, ge=0.1, le=8, description="the cut is at the quietest point of the last so many")
    silence_dbfs: float = Field(
        -62.0, ge=-90, le=-40, description="frames below it are silence, without asking the VAD"
    )

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        if self.exit_threshold > self.threshold:
            raise ValueError("exit_threshold must not exceed threshold")
        if self.tail_s > self.end_silence_s:
            raise ValueError("tail_s must not exceed end_silence_s: the pause is all there is to keep")
        if self.cut_window_s > self.max_segment_s / 2:
            raise ValueError("cut_window_s must not exceed half of max_segment_s")
        return self
