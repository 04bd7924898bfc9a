import pytest
from hypothesis import given
from hypothesis import strategies as st

from inference.errors import ConfigError
from training.data.splits import KEYS, deal, keys_of
from training.manifest import RecordedCall

CALL = {
    "audio_filepath": "c.wav",
    "lang": "en",
    "channels": {"far": 0, "near": 1},
    "label": "genuine",
    "topic": "parcel",
    **dict.fromkeys(("consent", "legal_basis", "source", "licence"), "x"),
}
names = st.none() | st.integers(0, 30)


def call(number, caller=None, campaign=None, script=None, voices=()):
    return RecordedCall.model_validate(
        CALL
        | {
            "id": f"c{number}",
            "caller_hash": None if caller is None else f"{caller:016x}",
            "campaign": None if campaign is None else f"k{campaign}",
            "script": None if script is None else f"s{script}",
            "voices": tuple(f"v{v}" for v in voices),
        }
    )


@given(
    st.lists(st.tuples(names, names, names, st.lists(st.integers(0, 9), max_size=2, unique=True)), max_size=40),
    st.sets(st.sampled_from(KEYS), max_size=2),
)
def test_nothing_stands_on_two_sides(rows, cut):
    calls = [call(number, *row) for number, row in enumerate(rows)]
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
    if not cut:
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


def test_an_unknown_key_is_said():
    with pytest.raises(ConfigError, match="caller, campaign, script, voice"):
        deal([], ["colour"])
