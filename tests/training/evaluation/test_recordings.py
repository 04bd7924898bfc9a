"""Recordings of a manifest go through the call path; what is known of voice and line is a slice."""

import json

import numpy as np
import pytest
import soundfile

from training.evaluation.recordings import judge_recording, judge_recordings, line_slices, voice_slices, what_of
from training.manifest import RecordedCall


@pytest.fixture
def manifest(tmp_path, doubles):
    """``manifest(far, near, **fields)``: a manifest with one recording of tones, and the call."""

    def make(far, near=(None,), **fields):
        legs = [doubles.speech(*far), doubles.speech(*near)]
        length = max(map(len, legs))
        samples = np.stack([np.pad(leg, (0, length - len(leg))) for leg in legs], 1)
        soundfile.write(tmp_path / "c1.wav", samples, 8000, subtype="PCM_16")
        spoken = [{"start": 0.75 * i, "duration": 0.4, "leg": "far", "text": p.text} for i, p in enumerate(far) if p]
        call = {
            "id": "c1", "audio_filepath": "c1.wav", "lang": "en", "channels": {"far": 0, "near": 1}, "label": "scam",
            "family": "card_otp", "topic": "bank", "segments": spoken, "consent": "tones", "legal_basis": "none needed",
            "source": "made", "licence": "ours",
        } | fields  # fmt: skip
        path = tmp_path / "calls.jsonl"
        path.write_text(json.dumps(call) + "\n")
        return path, RecordedCall.model_validate(call)

    return make


def test_the_alarm_is_timed_in_far_speech_and_against_the_ask(manifest, doubles):
    path, call = manifest((doubles.HELLO, doubles.THREAT, doubles.ASK), (None, None, doubles.FINE), ask_s=1.6)
    found = judge_recording(path, call, doubles.parts(), doubles.stages(lambda: 0.0))
    assert set(found.alarms) == {"suspect", "danger"}
    suspect, danger = found.alarms["suspect"], found.alarms["danger"]
    assert suspect.far_s < danger.far_s <= found.far_s + 1e-9
    assert suspect.at_s < 1.6 < danger.at_s
    assert found.lead_s("suspect") > 0 > found.lead_s("danger")
    assert (found.num_errors, found.family_named, found.what) == (0, "card_otp", "real recording")
    assert found.num_words == 19


def test_the_far_channel_is_the_manifests(manifest, doubles):
    path, call = manifest((None,), (doubles.HELLO, doubles.THREAT, doubles.ASK), channels={"far": 1, "near": 0})
    assert judge_recording(path, call, doubles.parts(), doubles.stages(lambda: 0.0)).alarms
    path, call = manifest((None,), (doubles.HELLO,), label="genuine", family=None)
    found = judge_recording(path, call, doubles.parts(), doubles.stages(lambda: 0.0))
    assert (dict(found.alarms), found.far_s) == ({}, 0.0)


def test_a_recording_that_is_not_there_names_the_call(manifest, doubles, tmp_path):
    path, call = manifest((doubles.HELLO,))
    (tmp_path / "c1.wav").unlink()
    with pytest.raises(Exception, match="c1: ") as error:
        list(judge_recordings(path, [call], doubles.parts(), doubles.stages(), lambda: None))
    assert "\n" not in str(error.value)


def labelled(**fields):
    return RecordedCall.model_validate(
        {
            "id": "c",
            "audio_filepath": "c.wav",
            "lang": "en",
            "channels": {"far": 0},
            "label": "genuine",
            "topic": "bank",
            "consent": "x",
            "legal_basis": "x",
            "source": "x",
            "licence": "x",
        }
        | fields
    )


@pytest.mark.parametrize(
    ("fields", "what"),
    [
        ({}, "real recording"),
        ({"voices": ["af_nova"]}, "real words, synthetic voice"),
        ({"voices": ["af_nova"], "script": "en-x"}, "written words, synthetic voice"),
    ],
)
def test_what_was_listened_to_is_said(fields, what):
    assert what_of(labelled(**fields)) == what


def test_unseen_voices_reading_unseen_scripts_are_a_slice_of_their_own():
    on_test = {"split": "test", "script": "en-x", "script_split": "test"}
    assert voice_slices(labelled(voices=["af_jessica", "am_santa"], **on_test))["unseen"] == "voice and script"
    assert voice_slices(labelled(voices=["af_jessica", "af_nova"], **on_test))["unseen"] == "not both"
    assert voice_slices(labelled(voices=["zm_yunxia"], **on_test))["unseen"] == "voice and script"
    assert voice_slices(labelled(voices=["zf_xiaobei"], **on_test))["unseen"] == "not both"
    reserved = voice_slices(labelled(voices=["af_bella", "am_onyx"], **on_test))
    assert (reserved["voice set"], reserved["unseen"], reserved["voices"]) == (
        "reserved",
        "voice and script",
        "female+male",
    )
    espeak = voice_slices(labelled(voices=["en-us+m1@30", "en-gb+klatt5@40"], split="test"))
    assert (espeak["synthesiser"], espeak["voices"], espeak["unseen"]) == ("espeak", "male", "not both")
    assert voice_slices(labelled()) == {}


@pytest.mark.parametrize("script_split", ["train", "dev", None])
def test_a_script_that_models_may_have_read_is_not_unseen_wherever_its_recording_was_dealt(script_split):
    call = labelled(voices=["af_jessica"], split="test", script="en-x", script_split=script_split)
    assert voice_slices(call)["unseen"] == "not both"


@pytest.mark.parametrize(
    ("far", "slices"),
    [
        ({"codec": "pcmu", "loss": 0.0, "snr_db": 25}, {"codec": "pcmu", "loss": "none", "SNR": "over 20 dB"}),
        (
            {"codec": "amr>pcma", "loss": 0.05, "snr_db": 10, "concealed": False},
            {"codec": "amr>pcma", "loss": "to 5 %", "SNR": "to 10 dB", "lost packets": "silence"},
        ),
        ({"gender": "female"}, {"far voice": "female"}),
        ({}, {}),
    ],
)
def test_the_line_is_told_by_the_manifest(far, slices):
    assert line_slices(labelled(legs={"far": far})) == slices


def test_a_synthetic_voice_has_its_gender_from_its_name():
    assert line_slices(labelled(legs={"far": {"gender": "female"}}, voices=["af_nova"])) == {}
