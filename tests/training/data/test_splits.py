import pytest
from hypothesis import given
from hypothesis import strategies as st

from inference.errors import ConfigError
from training.data.splits import KEYS, deal, keys_of
from training.manifest import RecordedCall
from training.scripts import split_of_name

CALL = {
    "audio_filepath": "c.wav",
    "lang": "en",
    "channels": {"far": 0, "near": 1},
    "label": "genuine",
    "topic": "parcel",
    **dict.fromkeys(("consent", "legal_basis", "source", "licence"), "x"),
}
names = st.none() | st.integers(0, 30)


def call(number, caller=None, campaign=None, script=None, voices=(), script_split=None):
    return RecordedCall.model_validate(
        CALL
        | {
            "id": f"c{number}",
            "caller_hash": None if caller is None else f"{caller:016x}",
            "campaign": None if campaign is None else f"k{campaign}",
            "script": None if script is None else f"s{script}",
            "voices": tuple(v if isinstance(v, str) else f"v{v}" for v in voices),
            "script_split": script_split,
        }
    )


@given(
    st.lists(st.tuples(names, names, names, st.lists(st.integers(0, 9), max_size=2, unique=True)), max_size=40),
    st.sets(st.sampled_from(KEYS), max_size=2),
    st.booleans(),
)
def test_nothing_stands_on_two_sides_and_scripts_stand_where_they_do_as_text(rows, cut, are_ours):
    def script_split(script):
        return split_of_name(f"s{script}") if are_ours and script is not None else None

    calls = [call(number, *row, script_split=script_split(row[2])) for number, row in enumerate(rows)]
    try:
        dealt = deal(calls, cut)
    except ConfigError:
        return  # all tied together: said, not dealt
    sides = {}
    for one in dealt.calls:
        for key, values in keys_of(one).items():
            for value in values:
                assert sides.setdefault((key, value), one.split) == one.split
    assert {c.id for c in dealt.calls} | set(dealt.left_out) == {c.id for c in calls}
    assert all(c.split == c.script_split for c in dealt.calls if c.script_split is not None)
    if not cut and not are_ours:
        assert not dealt.left_out


def test_calls_stay_where_they_are_when_others_come():
    calls = [call(n, script=n // 2) for n in range(60)]
    before = {c.id: c.split for c in deal(calls).calls}
    after = {c.id: c.split for c in deal([call(900 + n, script=900 + n) for n in range(40)] + calls).calls}
    assert before.items() <= after.items()
    assert set(before.values()) == {"train", "dev", "test"}


def test_too_few_voices_are_said_with_the_remedy():
    calls = [call(n, script=n, voices=(n % 3, (n + 1) % 3)) for n in range(60)]
    with pytest.raises(ConfigError, match="--cut voice"):
        deal(calls)
    dealt = deal(calls, ["voice"])
    assert len(dealt.calls) + len(dealt.left_out) == 60


def test_recordings_as_the_voicing_command_makes_them_stand_where_voices_and_scripts_do():
    voices = {"train": ("af_sky", "am_adam"), "dev": ("af_nova", "en-gb+m6@30"), "test": ("af_jessica", "zm_yunxia")}
    sides = ["train"] * 40 + ["dev"] * 8 + ["test"] * 8
    calls = [call(n, script=n, voices=voices[side], script_split=side) for n, side in enumerate(sides)]
    for cut in ([], ["voice"]):
        dealt = deal(calls, cut)
        assert ([c.split for c in dealt.calls], dealt.left_out) == (sides, {})


def test_what_cannot_be_kept_apart_is_left_out_and_said():
    calls = [call(n, script=n, voices=("af_sky",), script_split="train") for n in range(5)]
    calls.append(call(5, script=5, voices=("af_sky",), script_split="test"))
    calls += [call(n, script=n, script_split="dev") for n in range(6, 20)]
    dealt = deal(calls, ["voice"])
    assert dealt.left_out == {"c5": "voice on train, script on test, the calls it is tied to on train"}


def test_an_unknown_key_is_said():
    with pytest.raises(ConfigError, match="caller, campaign, script, voice"):
        deal([], ["colour"])
