import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from training.manifest import (
    ManifestError,
    RecordedCall,
    Segment,
    dump_line,
    load_manifest,
    manifest_sha256,
    parse_line,
    save_manifest,
)

CALL = {
    "id": "c1",
    "audio_filepath": "c1.wav",
    "lang": "en",
    "channels": {"far": 0, "near": 1},
    "label": "scam",
    "family": "parcel",
    "topic": "parcel",
    "consent": "x",
    "legal_basis": "x",
    "source": "x",
    "licence": "x",
}


def line(**more) -> bytes:
    return json.dumps({**CALL, **more}).encode()


@pytest.mark.parametrize(
    ("more", "field"),
    [
        ({"label": "spam"}, "label"),
        ({"family": None}, "family"),
        ({"family": "parcels"}, "family"),
        ({"label": "genuine"}, "family"),
        ({"channels": {"near": 0}}, "channels"),
        ({"channels": {"far": 0, "near": 0}}, "channels"),
        ({"lang": "English"}, "lang"),
        ({"ask_s": float("nan")}, "ask_s"),
        ({"duration": -1}, "duration"),
        ({"caller_hash": "+441632960000"}, "caller_hash"),  # a number is no hash
        ({"segments": [{"start": 0, "duration": 1, "leg": "far", "stages": ["asks"]}]}, "segments.0"),
        ({"segments": [{"start": 0, "duration": 0, "leg": "far"}]}, "segments.0.duration"),
        ({"segments": [{"start": 0, "duration": 1, "leg": "left"}]}, "segments.0.leg"),
        ({"colour": "red"}, "colour"),
        ({"legs": {"far": {"codec": "AMR, then G.711"}}}, "legs.far.codec"),
        ({"legs": {"far": {"snr_db": float("inf")}}}, "legs.far.snr_db"),
        ({"legs": {"far": {"loss": 5}}}, "legs.far.loss"),
        ({"legs": {"far": {"gender": "unknown"}}}, "legs.far.gender"),
        ({"legs": {"far": {"colour": "red"}}}, "legs.far.colour"),
        ({"legs": {"left": {}}}, "legs.left"),
        ({"channels": {"far": 0}, "legs": {"near": {"loss": 0}}}, "legs"),
    ],
)
def test_a_fault_names_its_field_and_not_its_value(more, field):
    with pytest.raises(ManifestError) as caught:
        parse_line(line(**more), "calls.jsonl:7")
    message = str(caught.value)
    assert message.startswith("calls.jsonl:7: ")
    assert field in message
    assert "\n" not in message
    assert "1632960000" not in message


@pytest.mark.parametrize("text", [b"{", b"[]", b"null", b"\xff\xfe", b'{"id": "c1"}', b"[" * 10_000])
def test_what_is_no_call_is_one_line(text):
    with pytest.raises(ManifestError) as caught:
        parse_line(text, "calls.jsonl:1")
    assert "\n" not in str(caught.value)


def test_words_stay_out_of_messages():
    with pytest.raises(ManifestError) as caught:
        parse_line(line(segments=[{"start": -1, "duration": 1, "leg": "far", "text": "my secret"}]), "f:1")
    assert "secret" not in str(caught.value)


def test_an_id_used_twice_names_the_line(tmp_path):
    path = tmp_path / "calls.jsonl"
    path.write_bytes(line() + b"\n\n" + line() + b"\n")
    with pytest.raises(ManifestError, match=r"calls\.jsonl:3: id"):
        load_manifest(path)


def test_no_file_and_no_call_say_so(tmp_path):
    with pytest.raises(ManifestError, match="cannot be read"):
        load_manifest(tmp_path / "none.jsonl")
    (tmp_path / "empty.jsonl").write_text("\n")
    with pytest.raises(ManifestError, match="holds no call"):
        load_manifest(tmp_path / "empty.jsonl")


segments = st.builds(
    Segment,
    start=st.floats(0, 100),
    duration=st.floats(0.01, 10),
    leg=st.sampled_from(["far", "near"]),
    text=st.text(max_size=20),
    stages=st.none() | st.just(("ask",)),
)


@given(st.lists(segments, max_size=4), st.none() | st.floats(0, 100), st.none() | st.sampled_from(["train", "test"]))
def test_what_is_written_is_read_back(of_call, ask_s, split):
    call = RecordedCall.model_validate({**CALL, "segments": tuple(of_call), "ask_s": ask_s, "split": split})
    assert parse_line(dump_line(call).encode(), "f:1") == call


def test_a_manifest_is_written_whole_and_has_a_digest(tmp_path):
    path = tmp_path / "calls.jsonl"
    calls = [parse_line(line(id=f"c{n}"), "f") for n in range(3)]
    save_manifest(path, calls)
    assert load_manifest(path) == calls
    first = manifest_sha256(path)
    save_manifest(path, calls[:2])
    assert manifest_sha256(path) != first
    assert [p.name for p in tmp_path.iterdir()] == ["calls.jsonl"]


@given(
    codec=st.none()
    | st.lists(st.sampled_from(["pcmu", "amr", "g722", "amr-wb"]), min_size=1, max_size=4).map(">".join),
    snr_db=st.none() | st.floats(-40, 120),
    loss=st.none() | st.floats(0, 1),
    concealed=st.none() | st.booleans(),
    gender=st.sampled_from([None, "female", "male"]),
)
def test_what_is_known_of_a_leg_is_written_and_read_back(codec, snr_db, loss, concealed, gender):
    facts = {"codec": codec, "snr_db": snr_db, "loss": loss, "concealed": concealed, "gender": gender}
    call = parse_line(line(legs={"near": facts}), "calls.jsonl:1")
    assert call.legs["near"].model_dump() == facts
    assert parse_line(dump_line(call).encode(), "again") == call
    assert "legs" not in json.loads(dump_line(parse_line(line(), "calls.jsonl:1")))
