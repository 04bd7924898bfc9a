"""The dialects' parsers: whatever comes, a typed message or an error of ours, without what came in its text."""

import json

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from inference.errors import CodecError, SignallingError
from inference.gateway.websocket import asterisk, duplex, fork, media_streams

PARSERS = {
    "media_streams": media_streams.parse, "fork": fork.parse, "asterisk": asterisk.parse, "duplex": duplex.parse
}  # fmt: skip
WORDS = st.sampled_from([
    "event", "media", "start", "stop", "dtmf", "payload", "track", "timestamp", "chunk", "inbound", "outbound_track",
    "callSid", "call_control_id", "customParameters", "custom_parameters", "mediaFormat", "media_format", "encoding",
    "PCMU", "AMR", "sampleRate", "sample_rate", "channels", "mixType", "stereo", "type", "call", "codec", "rate", "leg",
    "near", "digit", "MEDIA_START", "format", "slin16", "DTMF_END", "name", "value",
])  # fmt: skip
VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=12) | WORDS,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(WORDS | st.text(max_size=5), inner, max_size=5),
    max_leaves=20,
)
LINES = st.lists(WORDS | st.text(max_size=8), max_size=8).map(" ".join)


@pytest.mark.parametrize("name", PARSERS)
@given(text=VALUES.map(json.dumps) | LINES | st.text(max_size=80))
@example(text="[" * 60_000)
@example(text='{"event":"' + "\\ud800" + '"}')
@example(text='{"event":"media","media":{"payload":"","timestamp":"' + "9" * 5000 + '"}}')
@example(text='{"event":"media","media":{"payload":"","timestamp":-1}}')
@example(text='{"event":"start","start":{"mediaFormat":{"encoding":"secret-words","channels":1}}}')
def test_any_text_is_a_message_or_an_error_of_ours(name, text):
    problem = ""
    try:
        PARSERS[name](text)
    except (SignallingError, CodecError) as error:
        problem = str(error)
    assert "secret" not in problem
    assert len(problem) < 120


@given(st.binary(max_size=400), st.integers(0, 10**8), st.sampled_from(["inbound", "outbound"]), st.booleans())
def test_a_chunk_survives_the_wire(data, timestamp_ms, track, as_text):
    import base64

    media = {"track": track, "timestamp": str(timestamp_ms) if as_text else timestamp_ms}
    media["payload"] = base64.b64encode(data).decode()
    message = json.dumps({"event": "media", "media": media})
    assert media_streams.parse(message) == media_streams.Chunk(track, timestamp_ms, data)


def test_parameters_come_in_the_form_of_each_service():
    def start(**more):
        form = {"encoding": "audio/x-mulaw"}
        return media_streams.parse(
            json.dumps({"event": "start", "start": {"callSid": "c", "mediaFormat": form, **more}})
        )

    assert start(customParameters={"a": "1", "b": 2}).parameters == {"a": "1"}
    assert start(custom_parameters=[{"name": "a", "value": "1"}, {"name": 1}, 7]).parameters == {"a": "1"}
    assert start(customParameters="a=1").parameters == {}
    assert len(start(customParameters={str(i): "x" for i in range(100)}).parameters) == media_streams.MAX_PARAMETERS


@pytest.mark.parametrize(("form", "encoding", "rate_hz"), [
    ("ulaw", "PCMU", 8000), ("alaw", "PCMA", 8000), ("slin", "L16", 8000), ("slin16", "L16", 16000),
    ("slin48", "L16", 48000),
])  # fmt: skip
@pytest.mark.parametrize("is_json", [False, True])
def test_asterisk_speaks_words_or_json(form, encoding, rate_hz, is_json):
    words = f"MEDIA_START connection_id:c channel:WebSocket/x format:{form} optimal_frame_size:160 ptime:20"
    text = json.dumps({"event": "MEDIA_START", "channel": "WebSocket/x", "format": form}) if is_json else words
    assert asterisk.parse(text) == asterisk.MediaStart(encoding, rate_hz, "WebSocket/x", is_json)
    key = json.dumps({"event": "DTMF_END", "digit": "4"}) if is_json else "DTMF_END digit:4"
    assert asterisk.parse(key) == asterisk.Key("4")
    assert asterisk.parse(json.dumps({"event": "MEDIA_XON"}) if is_json else "MEDIA_XON") is None


@pytest.mark.parametrize(("value", "rate_hz"), [
    (8000, 8000), ("16000", 16000), ("8k", 8000), ("16K", 16000), (None, None), ("", None)
])  # fmt: skip
def test_modules_write_rates_in_several_ways(value, rate_hz):
    assert fork.rate_of(value) == rate_hz


@pytest.mark.parametrize("value", ["k", "fast", -8000, 8000.5, [], "9" * 30, "８０００"])
def test_other_rates_are_errors(value):
    with pytest.raises(SignallingError):
        fork.rate_of(value)
