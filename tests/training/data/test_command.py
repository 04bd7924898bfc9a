import json

import pytest

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
    path, out = corpus([{"script": f"s{n}"} for n in range(30)], seconds=0.1), tmp_path / "split.jsonl"
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
