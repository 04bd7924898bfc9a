import json

import pytest

from training.scripts import split_of_name

SAID = {"start": 0.5, "duration": 1.0, "leg": "far", "text": "hello this is your bank about the letter we sent"}


def rows(path):
    return [json.loads(line) for line in path.read_text().splitlines()]


def test_what_a_machine_can_measure_is_fixed_and_then_valid(corpus, run, tmp_path):
    late = {"start": 3.5, "duration": 2.0, "leg": "near", "text": " yes  it is "}
    path = corpus([{"segments": [late, SAID]}, {"segments": [SAID | {"text": "a wholly different thing was said"}]}])
    code, printed = run("validate", path)
    assert code == 1
    assert f"{path}:1: sha256: is missing; run: scamtap-train data fix" in printed
    assert "are not in order of time" in printed
    out = tmp_path / "fixed.jsonl"
    assert run("fix", path, "--out", out)[0] == 0
    code, printed = run("validate", out)
    assert (code, "2 calls, no error" in printed) == (0, True)
    fixed = rows(out)[0]
    assert fixed["duration"] == 4.0
    assert [s["start"] for s in fixed["segments"]] == [0.5, 3.5]
    assert fixed["segments"][1] == {"start": 3.5, "duration": 0.5, "leg": "near", "text": "yes it is"}


@pytest.mark.parametrize(
    ("spoil", "said"),
    [
        (lambda folder: (folder / "c0.wav").unlink(), "audio_filepath: is not there"),
        (lambda folder: (folder / "c0.wav").write_bytes(b"RIFF"), "audio_filepath: is not there, or is no recording"),
        (lambda folder: (folder / "c0.wav").write_bytes((folder / "c1.wav").read_bytes()), "has changed since"),
    ],
)
def test_a_recording_that_changed_is_found(corpus, run, tmp_path, spoil, said):
    path, out = corpus([{}, {}]), tmp_path / "fixed.jsonl"
    run("fix", path, "--out", out)
    spoil(tmp_path)
    code, printed = run("validate", out)
    assert code == 1
    assert f"{out}:1: " in printed
    assert said in printed


def test_near_copies_are_reported_unless_they_are_one_script(corpus, run, tmp_path):
    words = SAID | {"text": "please pay the duty on your parcel today or it goes back to the sender tomorrow morning"}
    for more, is_noted in (({}, True), ({"script": "s1"}, False), ({"campaign": "k1"}, False)):
        path, out = corpus([{"segments": [words], **more}] * 2), tmp_path / "fixed.jsonl"
        run("fix", path, "--out", out)
        assert ("the words of line 1" in run("validate", out)[1]) == is_noted


def test_the_same_recording_twice_is_an_error(corpus, run, tmp_path):
    path, out = corpus([{}, {}]), tmp_path / "fixed.jsonl"
    (tmp_path / "c1.wav").write_bytes((tmp_path / "c0.wav").read_bytes())
    run("fix", path, "--out", out)
    code, printed = run("validate", out)
    assert (code, "is the very recording of line 1" in printed) == (1, True)


def test_parties_who_talk_over_themselves_and_lack_a_channel_are_errors(corpus, run):
    path = corpus([{"channels": {"far": 0}, "segments": [SAID, SAID | {"start": 1.0}, SAID | {"leg": "near"}]}])
    code, printed = run("validate", path)
    assert code == 1
    assert "segments.1: begins before" in printed
    assert "segments.2: is of the near leg, which has no channel" in printed


def test_a_list_of_what_to_voice_is_no_manifest_of_recordings(run, tmp_path):
    path = tmp_path / "dev.yaml"
    path.write_text("calls: []\n")
    code, printed = run("validate", path)
    assert code != 0
    assert "is YAML; give the folder of call scripts" in printed


def test_every_bad_line_is_told_and_the_good_ones_read(corpus, run):
    path = corpus([{}, {"label": "spam"}, {}])
    with path.open("a") as file:
        file.write("{nonsense\n")
    code, printed = run("validate", path, "--no-audio")
    assert code == 1
    assert f"{path}:2: label" in printed
    assert f"{path}:4:" in printed


def test_stats_count(corpus, run, tmp_path):
    path, out = corpus([{}, {"label": "scam", "family": "tax", "ask_s": 2}], seconds=9), tmp_path / "fixed.jsonl"
    run("fix", path, "--out", out)
    figures = json.loads(run("stats", out, "--json")[1])
    assert figures["all"]["all"] | {} == {
        "calls": 2,
        "scam": 1,
        "genuine": 1,
        "hours": 0.01,
        "transcribed": 0,
        "with ask": 1,
        "voices": 0,
        "campaigns": 0,
    }
    assert figures["family"].keys() == {"tax"}
    assert len(figures["sha256"]) == 64
    assert "tax" in run("stats", out)[1]


def test_split_writes_sides(corpus, run, tmp_path):
    path, out = corpus([{"campaign": f"k{n}"} for n in range(30)], seconds=0.1), tmp_path / "split.jsonl"
    code, printed = run("split", path, "--out", out)
    assert code == 0
    assert {row["split"] for row in rows(out)} == {"train", "dev", "test"}
    assert "left out 0" in printed


@pytest.mark.parametrize("form", ["nemo", "lhotse"])
def test_what_goes_out_comes_back(corpus, run, tmp_path, form):
    near = SAID | {"leg": "near", "start": 2.0, "text": "who is this"}
    path, out, back = corpus([{"segments": [SAID, near]}]), tmp_path / "out.jsonl", tmp_path / "back.jsonl"
    assert run("export", path, "--format", form, "--out", out)[0] == 0
    common = ["channels={far: 0, near: 1}", "topic=bank", "consent=c", "legal_basis=l", "source=s", "licence=x"]
    words = [word for text in common for word in ("--set", text)]
    if form == "lhotse":
        recordings = tmp_path / "recordings.jsonl"
        recordings.write_text(json.dumps({"id": "c0", "sources": [{"type": "file", "source": "c0.wav"}]}))
        words += ["--recordings", str(recordings)]
    code, printed = run("import", out, "--out", back, *words)
    assert code == 0, printed
    (was,), (now,) = rows(path), rows(back)
    assert [(s["start"], s["leg"], s["text"]) for s in now["segments"]] == [
        (s["start"], s["leg"], s["text"]) for s in was["segments"]
    ]
    assert (now["label"], now["audio_filepath"], now["lang"]) == ("genuine", "c0.wav", "en")


@pytest.mark.parametrize("text", ['{"offset": 1}', "[]", '{"audio_filepath": "a.wav", "duration": "long"}', "nonsense"])
def test_a_foreign_row_that_is_none_names_its_line(run, tmp_path, text):
    path = tmp_path / "nemo.jsonl"
    path.write_text(text + "\n")
    code, printed = run("import", path, "--out", tmp_path / "x.jsonl")
    assert code == 1
    assert f"{path}:1: " in printed


def test_what_an_import_lacks_is_asked_for(run, tmp_path):
    path = tmp_path / "nemo.jsonl"
    path.write_text('{"audio_filepath": "a.wav", "duration": 1, "text": "x"}\n')
    code, printed = run("import", path, "--out", tmp_path / "x.jsonl")
    assert code == 1
    assert "--set FIELD=VALUE" in printed


def test_voiced_recordings_become_a_manifest(run, tmp_path):
    from pathlib import Path

    tiny = Path(__file__).parents[3] / "datasets" / "tiny"
    out = tmp_path / "tiny.jsonl"
    code, printed = run("from-voiced", tiny, "--out", out)
    assert code == 0, printed
    assert run("validate", out)[0] == 0, run("validate", out)
    scam = next(row for row in rows(out) if row["label"] == "scam")
    assert scam["ask_s"] > 0
    assert scam["source"].startswith("synthetic")
    facts = {"codec": "pcmu", "snr_db": 35.0, "loss": 0.0, "concealed": True}
    assert scam["legs"] == {"far": facts | {"gender": "male"}, "near": facts | {"gender": "female"}}


def test_scripts_are_checked_for_near_copies(run, tmp_path):
    turns = "\n".join(f"    far: the number {n} thing that i wanted to tell you about your parcel" for n in range(4))
    call = "- id: en-genuine-{}\n  label: genuine\n  topic: parcel\n  turns: |\n{}\n"
    (tmp_path / "calls.yaml").write_text("".join(call.format(name, turns) for name in ("a", "b")))
    code, printed = run("validate", tmp_path)
    assert code == 0
    assert "en-genuine-b: 100% the words of en-genuine-a" in printed
    assert "1 pairs of near copies" in printed


GOOD = "  topic: parcel\n  turns: |\n    far: hello {0}\n    near: who is {0}\n"


def test_every_fault_of_scripts_is_told_with_line_field_and_remedy(run, tmp_path):
    first, second, third = tmp_path / "a.yaml", tmp_path / "b.yaml", tmp_path / "c.yaml"
    first.write_text(
        f"- id: en-one\n  label: genuine\n{GOOD.format('ann')}"
        "- id: EN two\n  label: spam\n  colour: red\n  turns: |\n    far: hello\n    bogus\n    near [hums]: yes\n"
        f"- id: en-three\n  label: scam\n{GOOD.format('bob')}"
    )
    second.write_text("- id: [\n")
    third.write_text(f"- label: genuine\n  id: en-one\n{GOOD.format('cid')}")
    code, printed = run("validate", tmp_path)
    assert code == 1
    for where, said in [
        (f"{first}:7", "id: want a language and lower-case words"),
        (f"{first}:8", "label: want 'scam' or 'genuine'"),
        (f"{first}:9", "colour: no such field; known are id, label"),
        (f"{first}:7", "topic: is missing: add it"),
        (f"{first}:12", "turns: turn 2: want 'far [stage, ...]: text'"),
        (f"{first}:13", "turns: turn 3: unknown mark 'hums'"),
        (f"{first}:14", "family: every scam call has one: add it; known: "),
        (f"{first}:17", "turns: a scam call marks its ask: give the far turn that asks the stage 'ask'"),
        (f"{second}:2", "not valid YAML"),
        (f"{third}:2", f"id: en-one is already used in {first}:1; give each its own"),
    ]:
        assert f"error: {where}: {said}" in printed
    assert "10 errors" in printed


def test_a_pair_that_is_not_one_scam_and_one_genuine_call_is_noted(run, tmp_path):
    def of_pair(name, pair):
        return f"- id: en-{name}\n  label: genuine\n  pair: {pair}\n{GOOD.format(name)}"

    scam = "- id: en-s\n  label: scam\n  family: tax\n  pair: en-p\n  topic: tax\n  turns: |\n"
    scam += "    far [ask]: pay now\n    near: no\n"
    (tmp_path / "a.yaml").write_text(scam + of_pair("g", "en-p") + of_pair("alone", "en-q"))
    code, printed = run("validate", tmp_path)
    assert code == 0
    assert f"note: {tmp_path}/a.yaml:18: pair: en-q has 0 scam and 1 genuine calls, not one of each" in printed
    assert "en-p has" not in printed


def scripts_in(folder):
    """A thing told by two calls of a pair and one told anew; returns where each stands."""
    from training.scripts import load_scripts

    folder.mkdir()
    calls = "".join(
        f"- id: en-genuine-{n}\n  label: genuine\n  pair: en-pair-{n // 2}\n{GOOD.format(n)}" for n in range(80)
    )
    (folder / "calls.yaml").write_text(calls)
    return {script.id: script.split for script in load_scripts(folder)}


def test_a_recording_of_a_script_stands_where_the_script_does(corpus, run, tmp_path):
    sides = scripts_in(tmp_path / "scripts")
    calls = [{"id": f"c-{name}", "script": name} for name in sides]
    anew = {"id": "anew", "script": "en-other-rewritten-polite"}
    path, out = corpus([*calls, anew, {"script": "en-unknown"}], seconds=0.1), tmp_path / "split.jsonl"
    code, printed = run("split", path, "--out", out, "--scripts", tmp_path / "scripts")
    assert code == 0, printed
    dealt = {row["script"]: (row["split"], row.get("script_split")) for row in rows(out)}
    assert {name: dealt[name] for name in sides} == {name: (side, side) for name, side in sides.items()}
    assert dealt["en-other-rewritten-polite"] == (split_of_name("en-other"),) * 2
    assert dealt["en-unknown"][1] is None
    assert "note: 1 calls name scripts that are not in" in printed
    dealt_otherwise = out.read_text().replace('"split": "train"', '"split": "test"')
    out.write_text(dealt_otherwise)
    assert "split: its script stands on train; run: scamtap-train data split" in run("validate", out, "--no-audio")[1]


def test_a_call_between_a_script_and_a_voice_is_left_out_by_name(corpus, run, tmp_path):
    sides = scripts_in(tmp_path / "scripts")
    on_test = next(name for name, side in sides.items() if side == "test")
    read = [{"script": name} for name in sides] + [{"id": "between", "script": on_test, "voices": ["af_sky"]}]
    code, printed = run("split", corpus(read, 0.1), "--cut", "voice", "--scripts", tmp_path / "scripts", "--out",
                        tmp_path / "split.jsonl")  # fmt: skip
    assert code == 0, printed
    assert "left out between: voice on train, script on test, the calls it is tied to on test" in printed
    assert "left out 1" in printed


def test_scripts_that_are_not_there_are_asked_for(corpus, run, tmp_path):
    code, printed = run("split", corpus([{"script": "en-x"}]), "--out", tmp_path / "x", "--scripts", tmp_path / "none")
    assert code == 1
    assert "--scripts" in printed


COMMON = ["label=genuine", "lang=en", "topic=bank", "consent=c", "legal_basis=l", "source=s", "licence=x"]


def imported(run, source, out, *more):
    words = [word for text in (*COMMON, *more) for word in ("--set", text)]
    return run("import", source, "--out", out, *words)


def test_channels_that_name_no_channel_are_said_in_a_line(run, tmp_path):
    source = tmp_path / "nemo.jsonl"
    source.write_text('{"audio_filepath": "a.wav", "duration": 1, "text": "x", "channel": 0}\n')
    code, printed = imported(run, source, tmp_path / "x.jsonl", "channels=far")
    assert code == 1
    assert printed == "--set channels: say which channel is which party: --set channels='{far: 0, near: 1}'"


def test_recordings_of_one_name_in_two_folders_are_two_calls_with_ids_of_their_own(run, tmp_path):
    source, out = tmp_path / "nemo.jsonl", tmp_path / "x.jsonl"
    files = ("one/c.wav", "two/c.wav", "two/d.wav", "c.wav")
    source.write_text("".join(json.dumps({"audio_filepath": f, "duration": 1, "text": f}) + "\n" for f in files))
    code, printed = imported(run, source, out, "channels={far: 0}")
    assert code == 0, printed
    assert [row["id"] for row in rows(out)] == ["one/c", "two/c", "d", "c"]


def test_two_recordings_of_one_id_are_refused(run, tmp_path):
    source, out = tmp_path / "nemo.jsonl", tmp_path / "x.jsonl"
    source.write_text("".join(json.dumps({"audio_filepath": f, "duration": 1}) + "\n" for f in ("c.wav", "c.flac")))
    code, printed = imported(run, source, out, "channels={far: 0}")
    assert (code, out.exists()) == (1, False)
    assert printed == f"{out}: id: c.wav and c.flac would both be c; rename one of them"


@pytest.mark.parametrize("command", ["import", "split", "export"])
def test_a_manifest_in_another_folder_still_finds_the_recordings(corpus, run, tmp_path, command):
    path, out = corpus([{"segments": [SAID]}]), tmp_path / "elsewhere" / "deep" / "out.jsonl"
    out.parent.mkdir(parents=True)
    if command == "import":
        code, printed = imported(run, path_of_nemo(run, path), out, "channels={far: 0, near: 1}")
    else:
        code, printed = run(command, path, "--out", out)
    assert code == 0, printed
    (row,) = rows(out)
    assert row["audio_filepath"] == "../../c0.wav"
    assert (out.parent / row["audio_filepath"]).is_file()


def path_of_nemo(run, manifest):
    """The manifest as one of NeMo's beside it."""
    run("export", manifest, "--out", manifest.with_name("nemo.jsonl"))
    return manifest.with_name("nemo.jsonl")


def test_voiced_recordings_of_one_name_in_two_folders_have_ids_of_their_own(run, tmp_path):
    import shutil
    from pathlib import Path

    tiny = Path(__file__).parents[3] / "datasets" / "tiny"
    for folder in ("one", "two"):
        shutil.copytree(tiny, tmp_path / folder)
    code, printed = run("from-voiced", tmp_path, "--out", tmp_path / "calls.jsonl")
    assert code == 0, printed
    ids = [row["id"] for row in rows(tmp_path / "calls.jsonl")]
    assert len(set(ids)) == len(ids) == 2 * len({name.partition("/")[2] for name in ids})
