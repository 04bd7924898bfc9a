"""The recordings and manifests in git are what they say."""

import json
from pathlib import Path

import numpy as np
import pytest
import soundfile as sf
import soxr

from inference.weights import status
from training.scripts import load_scripts
from training.voice.call import call_key, script_hash
from training.voice.channel import band_limit
from training.voice.manifest import load_manifest
from training.voice.speaker import SPEECH_RATE_HZ, KokoroSpeaker
from training.voice.voices import RESERVED, VOICES

DATASETS = Path(__file__).parents[3] / "datasets"
TINY = DATASETS / "tiny"


@pytest.fixture(scope="module")
def scripts():
    return {script.id: script for script in load_scripts(DATASETS / "scripts" / "en")}


@pytest.mark.parametrize("name", ["demo-scam", "demo-bank"])
def test_a_demo_recording_is_its_script_as_the_manifest_says(name, scripts):
    labels = json.loads((TINY / f"{name}.json").read_text(encoding="utf-8"))
    (entry,) = (call for call in load_manifest(TINY / "manifest.yaml").calls if call.stem == name)
    script = scripts[entry.id]
    assert [turn["text"] for turn in labels["turns"]] == [turn.text for turn in script.turns]
    key = call_key(script, entry.recipe(script), KokoroSpeaker())
    assert labels["key"] == key, "voice it again: scamtap-train voice --manifest datasets/tiny/manifest.yaml"
    assert not RESERVED & set(labels["voices"].values())


@pytest.mark.parametrize("name", ["demo-scam", "demo-bank"])
def test_a_demo_recording_is_heard_where_its_labels_say(name):
    labels = json.loads((TINY / f"{name}.json").read_text(encoding="utf-8"))
    samples, rate_hz = sf.read(TINY / f"{name}.wav", dtype="int16")
    assert (rate_hz, samples.shape) == (8000, (round(labels["duration_s"] * 8000), 2))
    assert labels["duration_s"] <= 85
    power = np.mean((samples.astype(float) / 32768).reshape(-1, 80, 2) ** 2, axis=1)  # every 10 ms
    talks = np.zeros_like(power, bool)
    for turn in labels["turns"]:
        leg = 0 if turn["leg"] == "far" else 1
        start, end = round(turn["start_s"] * 100), round(turn["end_s"] * 100)
        talks[start:end, leg] = True
        assert np.median(power[start:end, leg]) > 10 ** (-45 / 10)
    pauses = ~talks
    pauses[:-3] &= ~talks[3:]  # the band limit rings for some milliseconds
    pauses[3:] &= ~talks[:-3]
    assert power[pauses].max() < 10 ** (-45 / 10)


@pytest.mark.slow
def test_the_synthesiser_still_says_a_demo_turn_as_it_was_recorded():
    pytest.importorskip("kokoro_onnx", reason="needs the synthesiser: make install-train")
    if next(s.state for s in status() if s.name == "kokoro-82m") != "ok":
        pytest.skip("needs the synthesiser's weights: scamtap models pull kokoro-82m")
    labels = json.loads((TINY / "demo-scam.json").read_text(encoding="utf-8"))
    turn = labels["turns"][1]
    wide = KokoroSpeaker().speak(turn["text"], labels["voices"]["near"], labels["recipe"]["speeds"]["near"])
    said = band_limit(soxr.resample(wide.astype(float), SPEECH_RATE_HZ, 8000), 300, 3400)
    samples, _ = sf.read(TINY / "demo-scam.wav", dtype="int16")
    start = round(turn["start_s"] * 8000)
    heard = samples[start : start + said.size, 1]
    assert said.size / 8000 == pytest.approx(turn["end_s"] - turn["start_s"], abs=0.002)
    assert np.corrcoef(said, heard)[0, 1] > 0.98


def test_the_demo_scam_asks_after_it_isolates_and_the_bank_never():
    scam = json.loads((TINY / "demo-scam.json").read_text(encoding="utf-8"))
    isolated_s = next(turn["start_s"] for turn in scam["turns"] if "isolation" in turn["stages"])
    assert scam["ask_s"] - isolated_s > 8
    assert json.loads((TINY / "demo-bank.json").read_text(encoding="utf-8"))["ask_s"] is None


def test_dev_recordings_are_dev_scripts_in_dev_voices(scripts):
    calls = load_manifest(DATASETS / "dev.yaml").calls
    assert {scripts[call.id].split for call in calls} == {"dev"}
    assert {voice for call in calls for voice in call.voices.values()} <= set(VOICES["dev"])
    labels = [scripts[call.id].label for call in calls]
    assert labels.count("scam") >= 9
    assert labels.count("genuine") >= 14


@pytest.mark.parametrize("name", ["dev", "recognised"])
def test_recordings_of_the_older_presets_are_what_they_were(name, scripts):
    files = (DATASETS / "recognised").rglob("*.jsonl")
    keys = {json.loads(line)["key"] for path in files for line in path.read_bytes().splitlines()}
    calls = load_manifest(DATASETS / f"{name}.yaml").calls
    others = [c.stem for c in calls if call_key(scripts[c.id], c.recipe(scripts[c.id]), KokoroSpeaker()) not in keys]
    assert not others, "their recipes changed: what was recognised is not of these recordings"


def test_dev_scripts_are_as_they_were_voiced(scripts):
    changed = [
        c.id for c in load_manifest(DATASETS / "dev.yaml").calls if script_hash(scripts[c.id]) != c.script_sha256
    ]
    assert not changed, "the words changed: voice them again and write the manifest anew"
