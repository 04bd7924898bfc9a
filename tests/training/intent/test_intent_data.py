"""Calls from scripts and outside texts; their split, damage and weights."""

import dataclasses
import json
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from inference.errors import ConfigError
from inference.intent.context import CONTEXT_UTTERANCES
from inference.intent.text import normalise
from training.intent.corrupt import (
    HAN_HESITATIONS,
    HESITATIONS,
    Corruptor,
    as_chat,
    disfluent,
    join_calls,
    recut,
    run_on,
    soundex,
    syllable,
)
from training.intent.data import (
    TRAINABLE,
    Call,
    Piece,
    guess_family,
    outside_turns,
    read_all,
    read_demo,
    read_outside,
    read_scripts,
    split_of,
    windows_of,
)
from training.intent.recipe import CHAT_SHARE, TRAIN, Share, damage, draw, long_chats, weights

SCRIPT = """\
- id: en-parcel-a
  label: scam
  family: parcel
  topic: parcel
  turns: |
    far [contact]: Good morning, is that the Alvarez household?
    near: It is.
    far [ask, lure]: Please read me the code that we sent. It is only a small fee and it has to be paid today, you know.
- id: en-demo-bank
  label: genuine
  topic: bank
  turns: |
    far: Good morning.
    near: Good morning.
"""


@pytest.fixture
def scripts(tmp_path: Path) -> Path:
    (tmp_path / "parcel.yaml").write_text(SCRIPT)
    return tmp_path


def call(source: str = "scripts", is_scam: bool = True, name: str = "a", num_pieces: int = 4) -> Call:
    pieces = tuple(
        Piece("far" if i % 2 == 0 else "near", f"please read me the code number {i} thank you", i, ("ask",))
        for i in range(num_pieces)
    )
    return Call(f"{source}-{name}", source, is_scam, "tax" if is_scam else None, "t", name, split_of(name), pieces)


def test_demo_calls_are_kept_out_of_training(scripts: Path) -> None:
    assert [c.id for c in read_scripts(scripts)] == ["en-parcel-a"]
    assert [c.id for c in read_demo(scripts)] == ["en-demo-bank"]


def test_a_script_is_cut_into_utterances_that_keep_leg_turn_and_stages(scripts: Path) -> None:
    (parcel,) = read_scripts(scripts)
    assert [(p.leg, p.turn) for p in parcel.pieces] == [("far", 0), ("near", 1), ("far", 2), ("far", 2)]
    assert parcel.pieces[2].stages == parcel.pieces[3].stages == ("ask", "lure")
    assert (parcel.ask_turn, parcel.family, parcel.is_scam) == (2, "parcel", True)


def test_outside_speakers_become_legs() -> None:
    text = "Suspect: Hello. Innocent: Who is it? Suspect: The bank. Suspect: Really."
    assert outside_turns("bothbosu", text) == [("far", "Hello."), ("near", "Who is it?"), ("far", "The bank. Really.")]
    assert outside_turns("sgd", "CALLER: book a table\nCALLEE: done") == [("near", "book a table"), ("far", "done")]
    assert outside_turns("youtube", "hello Suspect: hi") == [("far", "hello Suspect: hi")]


def test_families_are_guessed_from_words() -> None:
    assert guess_family("This is the IRS about your taxes") == "tax"
    assert guess_family("Your car warranty is about to expire") == "warranty"
    assert guess_family("qwerty") == "other"


def test_outside_files_are_read_and_bad_lines_named(tmp_path: Path) -> None:
    row = {"id": "x", "text": "This is the IRS.", "label": "scam", "group": "g"}
    path = tmp_path / "en_scam_robocalls_ftc.jsonl"
    path.write_text(json.dumps(row) + "\n")
    (read,) = read_all(tmp_path, TRAINABLE)
    assert (read.source, read.is_scam, read.family, read.split) == ("ftc", True, "tax", split_of("g"))
    path.write_text(json.dumps(row) + "\n" + json.dumps(row | {"label": "maybe"}) + "\n")
    with pytest.raises(ConfigError, match="line 2"):
        read_all(tmp_path, TRAINABLE)


@pytest.mark.parametrize(
    ("line", "said"),
    [
        (b'{"text": "caf\xe9"}', "line 2: is not UTF-8; write the file anew as UTF-8"),
        ('{"text": "x"}'.encode("utf-16"), "line 2: is not UTF-8"),
        (b'{"text": "x", "id": "a", "label": "scam", "group": "\\ud800"}', "line 2: want JSON with id, text, group"),
        (b"[" * 100_000, "line 2: want JSON with id, text, group"),
    ],
)
def test_an_outside_line_that_is_no_text_is_named(tmp_path: Path, line: bytes, said: str) -> None:
    path = tmp_path / "en_scam_robocalls_ftc.jsonl"
    path.write_bytes(b'{"id": "a", "text": "pay now", "label": "scam", "group": "g"}\n' + line + b"\n")
    with pytest.raises(ConfigError) as error:
        list(read_outside(path, "ftc"))
    assert str(error.value).startswith(f"{path}: {said}")


def test_a_folder_without_the_files_is_an_error_and_none_is_not(tmp_path: Path) -> None:
    assert read_all(None, TRAINABLE) == []
    with pytest.raises(ConfigError, match="none of"):
        read_all(tmp_path, TRAINABLE)


def test_switchboard_may_not_train() -> None:
    assert not any("switchboard" in stem for stem in TRAINABLE)


def test_windows_look_back_and_never_ahead() -> None:
    windows = windows_of(call(num_pieces=12))
    assert len(windows) == 12
    for index, window in enumerate(windows):
        assert len(window.before) == min(index, CONTEXT_UTTERANCES)
        assert all(f"number {index}" not in said.text for said in window.before)


@given(st.text(max_size=20))
@settings(deadline=None, max_examples=100)
def test_soundex_is_short_or_empty(word: str) -> None:
    assert len(soundex(word)) in (0, 5)


def test_soundex_of_words_that_sound_alike() -> None:
    assert soundex("knight") != soundex("night")  # it keeps the first letter
    assert soundex("their") == soundex("there")
    assert soundex("Robert") == soundex("Rupert")


def test_damage_is_the_same_for_the_same_seed_and_grows_with_the_rate() -> None:
    calls = [call(name=str(i), num_pieces=8) for i in range(10)]
    corruptor = Corruptor(calls)
    once = [corruptor.call(c, np.random.default_rng(1)) for c in calls]
    assert once == [corruptor.call(c, np.random.default_rng(1)) for c in calls]

    def changed(rate: float) -> int:
        rng = np.random.default_rng(2)
        text = "please read me the code number four thank you"
        return sum(corruptor.words(text, rate, rng) != text for _ in range(200))

    assert changed(0.0) == 0
    assert 0 < changed(0.05) < changed(0.5)


def test_recutting_keeps_words_and_running_on_drops_the_legs() -> None:
    pieces = call(num_pieces=6).pieces
    words = " ".join(p.text for p in pieces).split()
    again = recut(pieces, np.random.default_rng(0))
    assert " ".join(p.text for p in again).split() == words
    mono = run_on(pieces)
    assert " ".join(p.text for p in mono).split() == words
    assert {p.leg for p in mono} == {"far"}
    assert max(len(p.text.split()) for p in mono) == 20


def test_groups_stay_on_one_side_and_campaigns_do_not_dominate() -> None:
    pool = [call("ftc", name=str(i // 50)) for i in range(500)]
    shares = {("ftc", True): Share(1.0, 100, per_group=3)}
    drawn = {split: draw(pool, shares, split, seed=1) for split in ("train", "dev", "test")}
    groups = {split: {c.group for c in calls} for split, calls in drawn.items()}
    assert not groups["train"] & groups["dev"]
    assert not groups["train"] & groups["test"]
    assert all(n <= 3 for calls in drawn.values() for n in Counter(c.group for c in calls).values())


def test_both_labels_weigh_the_same_and_sources_by_their_mass() -> None:
    calls = [call("scripts", True, str(i)) for i in range(3)] + [call("ftc", True, str(i)) for i in range(9)]
    calls += [call("scripts", False, str(i)) for i in range(20)]
    values = dict(zip([c.id + str(c.is_scam) for c in calls], weights(calls, TRAIN), strict=True))
    scam = sum(v for k, v in values.items() if k.endswith("True"))
    genuine = sum(v for k, v in values.items() if k.endswith("False"))
    assert scam == pytest.approx(genuine)
    assert sum(values.values()) == pytest.approx(len(calls))
    ratio = TRAIN[("scripts", True)].mass / TRAIN[("ftc", True)].mass
    own = sum(v for k, v in values.items() if k.startswith("scripts") and k.endswith("True"))
    assert own / (scam - own) == pytest.approx(ratio)


def test_damaged_copies_come_beside_the_clean_call() -> None:
    calls = [call(name=str(i)) for i in range(4)]
    shares = {("scripts", True): Share(1.0, 10, copies=2)}
    out = damage(calls, shares, Corruptor(calls), seed=1)
    assert len(out) == 12
    assert all(c in out for c in calls)
    assert set(Counter(c.id for c in out).values()) == {3}


def test_genuine_calls_also_come_as_small_talk_of_the_other_side() -> None:
    genuine = call(is_scam=False)
    share = {("scripts", False): Share(1.0, 10, copies=0)}
    made = [damage([genuine], share, Corruptor([genuine]), seed=seed) for seed in range(200)]
    assert 0.5 * CHAT_SHARE < sum(len(calls) == 2 for calls in made) / len(made) < 1.5 * CHAT_SHARE
    (plain, chat) = next(calls for calls in made if len(calls) == 2)
    assert plain == genuine
    assert [p.leg for p in chat.pieces[:2]] == ["near", "far"]
    assert not chat.is_scam
    assert as_chat(genuine, np.random.default_rng(3)) == as_chat(genuine, np.random.default_rng(3))


def test_the_subscribers_talk_as_the_far_partys_shows_no_act() -> None:
    unmarked = dataclasses.replace(
        call("sgd", is_scam=False), pieces=(Piece("far", "which day please", 0), Piece("near", "on a sunday please", 1))
    )
    near, far = as_chat(unmarked, np.random.default_rng(0)).pieces
    assert (near.leg, near.stages) == ("near", None)
    assert (far.leg, far.stages) == ("far", ())


def test_recognised_copies_are_trained_on_as_they_are() -> None:
    heard = [call("recognised", is_scam) for is_scam in (True, False)]
    assert damage(heard, TRAIN, Corruptor(heard), seed=1) == heard


def test_hesitation_adds_words_and_takes_none() -> None:
    text = " ".join(f"word{i}" for i in range(300))
    spoken = disfluent(text, np.random.default_rng(0)).split()
    assert len(spoken) > 310
    assert [word for i, word in enumerate(spoken) if word.startswith("word") and spoken[i - 1] != word] == text.split()
    assert {word for phrase in HESITATIONS for word in phrase.split()} >= {
        w for w in spoken if not w.startswith("word")
    }


def test_calls_are_joined_turn_after_turn() -> None:
    first, second = call(is_scam=False, name="a"), call(is_scam=False, name="b", num_pieces=3)
    joined = join_calls([first, second])
    assert [p.turn for p in joined.pieces] == list(range(7))
    assert len(long_chats([first, second] * 4 + [call()], seed=1)) == 2


def test_mandarin_is_damaged_by_character_and_keeps_its_length() -> None:
    pytest.importorskip("pypinyin")
    text = "请您把手机收到的验证码念给我听，我们马上帮您处理。"
    calls = [dataclasses.replace(call(), pieces=(Piece("far", text, 0),))] * 5
    rng = np.random.default_rng(0)
    damaged = Corruptor(calls).words(text * 10, 0.3, rng)
    plain = normalise(text * 10)
    assert 0.6 * len(plain) < len(damaged) < 1.2 * len(plain)
    same = sum(a == b for a, b in zip(damaged, plain, strict=False))
    assert same < len(plain)
    assert syllable("是") == syllable("四") == syllable("市")


def test_mandarin_hesitates_in_mandarin() -> None:
    said = disfluent("请您把手机收到的验证码念给我听" * 20, np.random.default_rng(0))
    assert any(word in said for word in HAN_HESITATIONS)
    assert "uh" not in said
