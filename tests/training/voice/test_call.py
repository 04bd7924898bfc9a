import json
from dataclasses import replace

import numpy as np
import pytest
import soundfile as sf
from hypothesis import given, settings
from hypothesis import strategies as st

from inference.errors import ConfigError
from training.scripts import Script, parse_turns
from training.voice.call import is_voiced, save_call, voice_call
from training.voice.line import Line
from training.voice.placing import place_turns
from training.voice.presets import LINE_PRESETS
from training.voice.recipe import draw_recipe, generator
from training.voice.sounds import Sound
from training.voice.voices import MANDARIN, VOICES, gender_of, language_of

from .conftest import Hummer, make_script


def voiced(script, seed=1, preset="telephone", **kwargs):
    return voice_call(script, draw_recipe(script, seed, preset, **kwargs), Hummer())


def test_labels_say_when_each_turn_is_heard(script):
    call = voiced(script, preset="clean")
    loud = np.abs(call.samples.astype(int)) > 1000
    for i, turn in enumerate(call.turns):
        leg = 0 if turn.turn.leg == "far" else 1
        heard = np.flatnonzero(loud[int((turn.start_s - 0.1) * 8000) : int((turn.end_s + 0.1) * 8000), leg]) / 8000
        assert heard[0] - 0.1 == pytest.approx(0, abs=0.02), f"turn {i} starts late or early"
        assert turn.end_s - turn.start_s == pytest.approx(heard[-1] - heard[0], abs=0.02)
    quiet = np.ones(len(loud), bool)
    for turn in call.turns:
        quiet[int((turn.start_s - 0.02) * 8000) : int((turn.end_s + 0.02) * 8000)] = False
    assert not loud[quiet].any()


def test_the_ask_is_the_first_ask_of_the_far_party_and_only_in_a_scam():
    scam, genuine = voiced(make_script()), voiced(make_script("en-genuine-test", "genuine"))
    assert scam.ask_s == scam.labels()["ask_s"] == scam.turns[6].start_s
    assert genuine.ask_s is None
    assert genuine.labels()["turns"][6]["stages"] == ["ask"]


def test_the_same_seed_makes_the_same_recording_and_another_does_not(script):
    one, same, other = voiced(script, 1), voiced(script, 1), voiced(script, 2)
    assert np.array_equal(one.samples, same.samples)
    assert one.labels() == same.labels()
    assert one.key != other.key
    assert one.samples.shape != other.samples.shape or not np.array_equal(one.samples, other.samples)


def test_a_call_is_whole_packets_long_on_both_legs(script):
    assert voiced(script).samples.shape[0] % 160 == 0
    assert voiced(script).samples.shape[1] == 2


@given(
    seed=st.integers(0, 2**32),
    legs=st.lists(st.sampled_from(["far", "near"]), min_size=2, max_size=30),
    barge_in=st.sampled_from([0.0, 0.12, 1.0]),
    data=st.data(),
)
@settings(deadline=None, max_examples=80)
def test_turns_keep_their_order_and_a_mouth_says_one_thing_at_a_time(seed, legs, barge_in, data):
    turns = parse_turns("\n".join(f"{leg}: Words." for leg in legs))
    durations = data.draw(st.lists(st.floats(0.05, 20), min_size=len(legs), max_size=len(legs)))
    recipe = replace(draw_recipe(make_script(), 0), barge_in=barge_in)
    starts = place_turns(turns, durations, recipe, np.random.default_rng(seed))
    ends = [start + duration for start, duration in zip(starts, durations, strict=True)]
    assert starts == sorted(starts)
    for i in range(1, len(legs)):
        gap = starts[i] - max(ends[:i])
        assert gap >= -recipe.max_overlap_s - 1e-3
        if barge_in == 0 or legs[i] == legs[i - 1]:
            assert 0.199 <= gap <= 0.901
        same_leg = [ends[j] for j in range(i) if legs[j] == legs[i]]
        assert not same_leg or starts[i] >= max(same_leg) + 0.199


def test_only_long_calls_on_the_telephone_preset_have_barge_in():
    long, short = make_script(), make_script("en-scam-short", num_turns=8)
    assert draw_recipe(long, 1).barge_in > 0
    assert draw_recipe(short, 1).barge_in == draw_recipe(long, 1, "clean").barge_in == 0


def test_drawn_voices_are_two_of_the_scripts_own_split():
    for i in range(60):
        script = make_script(f"en-scam-{i}")
        recipe = draw_recipe(script, 3)
        assert recipe.voices["far"] != recipe.voices["near"]
        assert set(recipe.voices.values()) <= set(VOICES[script.split])


@pytest.mark.parametrize(
    ("voices", "message"),
    [
        ({"far": "am_puck", "near": "af_nova"}, "am_puck is reserved"),
        ({"far": "af_nova", "near": "af_nova"}, "two different ones"),
    ],
)
def test_voices_that_must_not_be_are_refused(script, voices, message):
    with pytest.raises(ConfigError, match=message):
        draw_recipe(script, 1, voices=voices)


def mandarin(name="zh-genuine-x"):
    turns = parse_turns("far: 你好\nnear: 你好")
    return Script(id=name, label="genuine", topic="bank", turns=turns)


@pytest.mark.parametrize("synthesiser", ["kokoro", "espeak"])
def test_a_mandarin_script_is_spoken_by_mandarin_voices_of_its_split(synthesiser):
    for number in range(60):
        script = mandarin(f"zh-genuine-{number}")
        voices = set(draw_recipe(script, 1, synthesiser=synthesiser).voices.values())
        if synthesiser == "kokoro":
            assert voices == set(MANDARIN[script.split])
        else:
            assert len(voices) == 2
            assert {language_of(voice) for voice in voices} == {"zh"}


def test_voices_and_scripts_of_two_languages_do_not_meet(script):
    with pytest.raises(ConfigError, match="af_nova does not speak zh"):
        draw_recipe(mandarin(), 1, voices={"far": "af_nova", "near": "am_eric"})
    with pytest.raises(ConfigError, match="zf_xiaoni does not speak en"):
        draw_recipe(script, 1, voices={"far": "zf_xiaoni", "near": "af_nova"})


def test_a_language_without_voices_is_refused():
    turns = parse_turns("far: Guten Tag\nnear: Guten Tag")
    with pytest.raises(ConfigError, match="no voices for language 'de'; en, zh have some"):
        draw_recipe(Script(id="de-genuine-x", label="genuine", topic="bank", turns=turns), 1)


def test_each_purpose_has_random_numbers_of_its_own():
    draws = {generator(i, 1, p).random() for i in ("en-a", "en-b") for p in ("pauses", "far channel")}
    assert len(draws) == 4


@pytest.mark.parametrize(("preset", "subtypes"), [("clean", {"ULAW"}), ("telephone", {"ULAW", "ALAW", "PCM_16"})])
def test_a_saved_call_reads_back_sample_by_sample(script, tmp_path, preset, subtypes):
    call = voiced(script, preset=preset)
    path = save_call(call, tmp_path, "call")
    samples, rate_hz = sf.read(path, dtype="int16")
    assert rate_hz == 8000
    assert np.array_equal(samples, call.samples)
    assert sf.info(path).subtype in subtypes
    assert json.loads(path.with_suffix(".json").read_text()) == json.loads(json.dumps(call.labels()))
    assert {file.name for file in tmp_path.iterdir()} == {"call.wav", "call.json"}
    assert is_voiced(tmp_path, "call", call.key)
    assert not is_voiced(tmp_path, "call", voiced(script, 2).key)


def test_labels_without_their_sound_do_not_count(script, tmp_path):
    call = voiced(script)
    save_call(call, tmp_path, "call").unlink()
    assert not is_voiced(tmp_path, "call", call.key)
    (tmp_path / "call.json").write_text("{")
    assert not is_voiced(tmp_path, "call", call.key)


@pytest.mark.parametrize("preset", LINE_PRESETS)
def test_the_same_seed_makes_the_same_bytes_over_any_line(preset, script, tmp_path):
    for name in ("one", "two"):
        save_call(voiced(script, 3, preset), tmp_path, name)
    for ending in (".wav", ".json"):
        assert (tmp_path / "one").with_suffix(ending).read_bytes() == (tmp_path / "two").with_suffix(
            ending
        ).read_bytes()


@pytest.mark.parametrize("preset", LINE_PRESETS)
def test_labels_say_what_figures_are_sliced_by(preset, script):
    call = voiced(script, 3, preset)
    for leg, facts in call.labels()["legs"].items():
        line = call.recipe.channels[leg]
        assert facts == {
            "codec": line.codec,
            "snr_db": line.snr_db,
            "loss": round(call.losses[leg], 4),
            "concealed": line.concealed,
            "gender": gender_of(call.recipe.voices[leg]),
        }
        assert abs(facts["loss"] - line.loss) < 0.06
        assert bool(facts["loss"]) <= bool(line.loss)


@pytest.mark.parametrize("preset", ["telephone", "bad", "clean"])
def test_the_older_presets_keep_their_labels(preset, script):
    assert not {"legs", "sounds"} & set(voiced(script, preset=preset).labels())


def test_music_on_hold_is_on_the_far_leg_alone_while_nobody_speaks():
    script, seed = make_script(), 3
    recipe = draw_recipe(script, seed, "hold")
    quiet = {leg: Line(snr_db=60) for leg in ("far", "near")}
    sounds = (Sound("ringback", 0, 4.0, -3.0), Sound("music", 6, 8.0, 0.0))
    call = voice_call(script, replace(recipe, channels=quiet, sounds=sounds), Hummer())
    plain = voice_call(script, replace(recipe, channels=quiet, sounds=()), Hummer())
    assert call.labels()["sounds"] == [
        {"kind": heard.sound.kind, "leg": "far", "start_s": heard.start_s, "end_s": heard.end_s}
        for heard in call.sounds
    ]
    assert plain.labels()["sounds"] == []
    for heard in call.sounds:
        part = call.samples[round(heard.start_s * 8000) + 400 : round(heard.end_s * 8000) - 400].astype(float)
        assert np.abs(part[:, 0]).max() > 1000
        assert np.abs(part[:, 1]).max() < 100
        assert all(turn.end_s <= heard.start_s or turn.start_s >= heard.end_s for turn in call.turns)
    assert call.ask_s > plain.ask_s + 12
    assert call.duration_s > plain.duration_s + 12


def test_people_in_the_room_speak_by_the_calls_own_speaker():
    script = make_script("en-scam-noisy")
    recipe = draw_recipe(script, 3, "noisy")
    line = Line(noise="babble", babblers=("af_nova", "am_echo"), snr_db=10)
    hummer = Hummer()
    voice_call(script, replace(recipe, channels={"far": line, "near": Line()}), hummer)
    assert {voice for _, voice, _ in hummer.said} == {*recipe.voices.values(), "af_nova", "am_echo"}
