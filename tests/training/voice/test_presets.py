"""Presets: every draw within what the name says, and all of it from the seed."""

from dataclasses import asdict, replace

import numpy as np
import pytest

from inference.errors import ConfigError
from training.voice.coding import hops
from training.voice.line import Line
from training.voice.presets import LINE_PRESETS, MIXED, draw_lines, draw_sounds
from training.voice.recipe import draw_preset, draw_recipe
from training.voice.voices import ESPEAK_VARIANTS, RESERVED, VOICES, babblers_of, gender_of

from .conftest import make_script

SNR_DB = {"mobile": (10, 25), "voip": (15, 25), "noisy": (0, 15), "hold": (15, 25)}
MAX_LOSS = {"mobile": 0.06, "voip": 0.10, "noisy": 0.02, "hold": 0.03}
BABBLERS = ("af_nova", "am_echo", "bf_alice", "bm_daniel", "am_eric")


def lines_of(preset, num=200):
    return [
        line for i in range(num) for line in draw_lines(preset, BABBLERS, np.random.default_rng(i)).values()
    ]  # fmt: skip


@pytest.mark.parametrize("preset", LINE_PRESETS)
def test_lines_stay_in_the_range_of_their_name(preset):
    lines = lines_of(preset)
    low, high = SNR_DB[preset]
    for line in lines:
        assert low <= line.snr_db <= high
        assert line.loss == 0 or 0.002 <= line.loss <= MAX_LOSS[preset]
        assert -32 <= line.level_dbfs <= -12
        assert 1 <= line.burst <= 3
        assert bool(line.bit_rate) == bool({"amr", "opus"} & set(hops(line.codec)))
        assert bool(line.babblers) == (line.noise == "babble")
        assert len(set(line.babblers)) == len(line.babblers) <= 4
    assert {line.concealed for line in lines} == {line.dtx for line in lines} == {True, False}
    assert {line.echo_db is None for line in lines} == {line.loss == 0 for line in lines} == {True, False}


def test_each_name_brings_its_codecs_and_noises():
    assert {hops(line.codec)[0] for line in lines_of("mobile")} == {"amr"}
    assert {line.noise for line in lines_of("mobile")} == {"room", "babble"}
    assert {hops(line.codec)[0] for line in lines_of("voip")} == {"opus", "g722", "pcmu", "pcma"}
    assert {line.noise for line in lines_of("noisy")} == {"line", "room", "hum", "babble"}
    assert any(len(hops(line.codec)) == 3 for line in lines_of("mobile"))


@pytest.mark.parametrize("preset", LINE_PRESETS)
def test_a_seed_draws_the_same_recipe_and_another_seed_another(preset, script):
    assert draw_recipe(script, 3, preset) == draw_recipe(script, 3, preset)
    assert draw_recipe(script, 3, preset).channels != draw_recipe(script, 4, preset).channels


@pytest.mark.parametrize("preset", LINE_PRESETS)
def test_voices_and_speeds_are_those_of_any_other_preset(preset, script):
    plain, other = draw_recipe(script, 3), draw_recipe(script, 3, preset)
    assert (plain.voices, plain.speeds) == (other.voices, other.speeds)
    assert all(isinstance(line, Line) for line in other.channels.values())


@pytest.mark.parametrize("synthesiser", ["kokoro", "espeak"])
def test_who_babbles_is_of_the_same_split_and_not_on_the_call(synthesiser):
    heard = 0
    for i in range(120):
        script = make_script(f"en-scam-{i}")
        recipe = draw_recipe(script, 5, "noisy", synthesiser=synthesiser)
        for line in recipe.channels.values():
            heard += len(line.babblers)
            assert not set(line.babblers) & {*recipe.voices.values(), *RESERVED}
            names = {name.partition("+")[2].partition("@")[0] or name for name in line.babblers}
            assert names <= set(VOICES[script.split] if synthesiser == "kokoro" else ESPEAK_VARIANTS[script.split])
    assert heard > 50


@pytest.mark.parametrize("split", ["train", "dev", "test"])
def test_somebody_is_left_to_babble_in_every_split(split):
    assert babblers_of("kokoro", split, VOICES[split][:2])
    assert babblers_of("espeak", split, [f"en-us+{name}@40" for name in ESPEAK_VARIANTS[split][:2]])


def test_sounds_come_only_on_hold_before_a_turn_of_the_far_party(script):
    assert all(not draw_recipe(script, 3, preset).sounds for preset in ("telephone", "mobile", "voip", "noisy"))
    drawn = [draw_sounds(script, np.random.default_rng(i)) for i in range(200)]
    assert {len(sounds) for sounds in drawn} == {1, 2}
    assert {sound.kind for sounds in drawn for sound in sounds} == {"music", "ringback"}
    for sounds in drawn:
        assert [sound.before_turn for sound in sounds] == sorted({sound.before_turn for sound in sounds})
        for sound in sounds:
            assert 4 <= sound.duration_s <= 20
            assert sound.before_turn == 0 or script.turns[sound.before_turn].leg == "far"


def test_fixed_lines_differ_in_one_thing_and_calls_over_them_in_nothing_else(script):
    plain, lossy, noisy = (draw_recipe(script, 3, preset) for preset in ("plain", "loss5", "noise10"))
    for other in (lossy, noisy):
        assert replace(other, preset="plain", channels=plain.channels) == plain
    (line,) = set(plain.channels.values())
    assert set(lossy.channels.values()) == {replace(line, loss=0.05, concealed=False)}
    assert set(noisy.channels.values()) == {replace(line, snr_db=10.0)}


def test_mixed_is_every_preset_by_and_by_and_the_same_for_the_same_seed():
    scripts = [make_script(f"en-scam-{i}") for i in range(120)]
    assert {draw_preset(script, 1) for script in scripts} == set(MIXED)
    assert [draw_preset(script, 1) for script in scripts] == [draw_preset(script, 1) for script in scripts]
    assert [draw_preset(script, 1) for script in scripts] != [draw_preset(script, 2) for script in scripts]


def test_a_recipe_without_sounds_is_labelled_as_before_there_were_any(script):
    plain = draw_recipe(script, 1)
    assert "sounds" not in plain.as_labels()
    assert set(plain.as_labels()) == set(asdict(plain)) - {"sounds"}
    held = draw_recipe(script, 1, "hold")
    assert held.as_labels()["sounds"] == tuple(asdict(sound) for sound in held.sounds)
    assert replace(held, sounds=()).as_labels() != held.as_labels()


@pytest.mark.parametrize(
    ("voice", "gender"),
    [("af_nova", "female"), ("bm_daniel", "male"), ("zf_xiaoni", "female"), ("en-us+f5@30", "female"),
     ("en-gb+klatt2@35", "male"), ("en-us+m6@30", "male")],
)  # fmt: skip
def test_gender_of_a_voice(voice, gender):
    assert gender_of(voice) == gender


def test_a_reserved_voice_has_no_gender_here():
    with pytest.raises(ConfigError, match="bm_lewis is reserved"):
        gender_of("bm_lewis")
