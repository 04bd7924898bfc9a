import io
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
import typer
import yaml
from rich.console import Console
from typer.testing import CliRunner

from inference.errors import ConfigError, ScamTapError
from training.voice.batch import voice_all
from training.voice.command import choose_scripts, default_cache, voice
from training.voice.manifest import ManifestCall, load_manifest, manifest_call, save_manifest
from training.voice.presets import MIXED
from training.voice.recipe import draw_recipe
from training.voice.speaker import CachedSpeaker, KokoroSpeaker

from .conftest import Hummer, make_script

TURNS = "far [contact]: Hello, this is {name}.\nnear: Who?\nfar [ask]: Read me the code.\nnear: No."


@pytest.fixture
def scripts(tmp_path) -> Path:
    folder = tmp_path / "scripts" / "en"
    folder.mkdir(parents=True)
    calls = [
        {"id": f"en-scam-{i}", "label": "scam", "family": "card_otp", "topic": "bank", "turns": TURNS.format(name=i)}
        for i in range(12)
    ]
    (folder / "scam.yaml").write_text(yaml.safe_dump(calls))
    return folder


@pytest.fixture
def app() -> typer.Typer:
    app = typer.Typer()
    app.command()(voice)
    return app


def run(app, *args):
    return CliRunner().invoke(app, [str(arg) for arg in args])


@pytest.fixture
def spoken(tmp_path, monkeypatch, scripts):
    """A cache in which every sentence was spoken: the command then needs no synthesiser."""
    monkeypatch.setenv("SCAMTAP_HOME", str(tmp_path / "home"))
    kokoro = KokoroSpeaker()
    speaker = CachedSpeaker(Hummer(fingerprint=kokoro.fingerprint, source=kokoro.source), default_cache())
    for script in choose_scripts(scripts):
        recipe = draw_recipe(script, 5)
        for turn in script.turns:
            speaker.speak(turn.text, recipe.voices[turn.leg], recipe.speeds[turn.leg])


def test_the_help_shows_commands_to_copy(app):
    help_text = run(app, "--help").output
    assert "voice --manifest datasets/dev.yaml" in help_text
    assert "reserved for the final test" in help_text


def test_scripts_become_recordings_and_a_second_run_keeps_them(app, scripts, spoken, tmp_path):
    args = ("--scripts", scripts, "--ids", "en-scam-3,en-scam-7", "--seed", 5, "--out", tmp_path / "out")
    first, second = run(app, *args), run(app, *args)
    assert first.exit_code == second.exit_code == 0, first.output
    assert "2 recordings made" in first.output
    assert "0 sentences spoken" in first.output
    assert "0 recordings made (0 s), 2 were there" in second.output
    names = {path.name for path in (tmp_path / "out").iterdir()}
    assert names == {"en-scam-3.wav", "en-scam-3.json", "en-scam-7.wav", "en-scam-7.json"}


def test_a_manifest_recreates_its_recordings_byte_for_byte(app, scripts, spoken, tmp_path):
    manifest, one, two = tmp_path / "made.yaml", tmp_path / "one", tmp_path / "two"
    made = run(app, "--scripts", scripts, "--limit", 2, "--seed", 5, "--out", one, "--write-manifest", manifest)
    again = run(app, "--manifest", manifest, "--out", two)
    assert made.exit_code == again.exit_code == 0, again.output
    files = sorted(path.name for path in one.iterdir())
    assert len(files) == 4
    for name in files:
        assert (one / name).read_bytes() == (two / name).read_bytes()


def test_other_lines_for_a_manifests_calls_cost_no_new_speech(app, scripts, spoken, tmp_path):
    manifest, other = tmp_path / "made.yaml", tmp_path / "other.yaml"
    run(app, "--scripts", scripts, "--limit", 2, "--seed", 5, "--out", tmp_path / "a", "--write-manifest", manifest)
    args = ("--manifest", manifest, "--preset", "voip", "--out", tmp_path / "b", "--write-manifest", other)
    made = run(app, *args)
    assert made.exit_code == 0, made.output
    assert "0 sentences spoken" in made.output
    again = run(app, "--manifest", other, "--out", tmp_path / "c")
    assert again.exit_code == 0, again.output
    assert [call.preset for call in load_manifest(other).calls] == ["voip", "voip"]
    for path in (tmp_path / "b").iterdir():
        assert path.read_bytes() == (tmp_path / "c" / path.name).read_bytes()
        assert path.suffix != ".wav" or path.read_bytes() != (tmp_path / "a" / path.name).read_bytes()


def test_mixed_draws_a_preset_for_each_call_and_the_manifest_holds_it(app, scripts, spoken, tmp_path, monkeypatch):
    monkeypatch.setattr("training.voice.sounds.BABBLE", ("Is it?",))
    kokoro = KokoroSpeaker()
    hummer = Hummer(fingerprint=kokoro.fingerprint, source=kokoro.source)
    monkeypatch.setattr("training.voice.command.KokoroSpeaker", lambda **_: hummer)
    manifest, one, two = tmp_path / "mixed.yaml", tmp_path / "one", tmp_path / "two"
    args = ("--scripts", scripts, "--seed", 5, "--preset", "mixed", "--out", one, "--write-manifest", manifest)
    made = run(app, *args)
    assert made.exit_code == 0, made.output
    presets = {call.preset for call in load_manifest(manifest).calls}
    assert len(presets) >= 4
    assert presets <= set(MIXED)
    assert run(app, "--manifest", manifest, "--out", two).exit_code == 0
    for path in one.iterdir():
        assert path.read_bytes() == (two / path.name).read_bytes()


def test_many_processes_make_the_same_recordings(app, scripts, spoken, tmp_path):
    args = ("--scripts", scripts, "--ids", "en-scam-3,en-scam-7,en-scam-8", "--seed", 5, "--preset", "voip")
    one = run(app, *args, "--out", tmp_path / "one")
    three = run(app, *args, "--out", tmp_path / "three", "--workers", 3)
    again = run(app, *args, "--out", tmp_path / "three", "--workers", 3)
    assert one.exit_code == three.exit_code == 0, three.output
    assert "3 recordings made" in three.output
    assert "0 recordings made (0 s), 3 were there" in again.output
    for path in (tmp_path / "one").iterdir():
        assert path.read_bytes() == (tmp_path / "three" / path.name).read_bytes()


def test_a_fault_in_another_process_is_one_line_and_ends_the_run(app, scripts, spoken, tmp_path):
    out = tmp_path / "out"
    (out / "en-scam-7.wav").mkdir(parents=True)
    args = ("--scripts", scripts, "--ids", "en-scam-3,en-scam-7", "--seed", 5, "--out", out, "--workers", 2)
    result = run(app, *args)
    assert isinstance(result.exception, ScamTapError)
    assert "cannot write" in str(result.exception)


@pytest.mark.slow
def test_ctrl_c_stops_many_processes_and_what_was_done_is_kept(scripts, spoken, tmp_path):
    out, program = tmp_path / "out", "from training.cli import main; main()"
    args = ["voice", "--scripts", scripts, "--seed", 5, "--preset", "voip", "--out", out, "--workers", 2]
    command = [sys.executable, "-c", program, *map(str, args)]
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True, start_new_session=True) as run_:
        for line in run_.stderr:
            if line.startswith("en-scam-"):  # the first call is done
                os.killpg(run_.pid, signal.SIGINT)
                break
        rest = run_.stderr.read()
        code = run_.wait(60)
    assert code == 130
    assert "run the same command again" in rest
    assert "Traceback" not in rest
    whole = {path.stem for path in out.glob("*.json")}
    assert 1 <= len(whole) < 12
    assert not list(out.glob("*.tmp"))


def test_a_script_that_changed_since_is_named(app, scripts, spoken, tmp_path):
    manifest = tmp_path / "made.yaml"
    run(app, "--scripts", scripts, "--limit", 1, "--seed", 5, "--out", tmp_path / "a", "--write-manifest", manifest)
    entry = load_manifest(manifest).calls[0].model_copy(update={"script_sha256": "0" * 64})
    save_manifest(manifest, scripts, (entry,))
    assert "en-scam-0: its script has changed since" in run(app, "--manifest", manifest, "--out", tmp_path / "b").output


def test_interrupted_says_so_and_keeps_what_was_spoken(scripts, tmp_path, monkeypatch, app):
    monkeypatch.setenv("SCAMTAP_HOME", str(tmp_path / "home"))
    hummer = Hummer(fingerprint=KokoroSpeaker().fingerprint, stop_after=6)
    monkeypatch.setattr("training.voice.command.KokoroSpeaker", lambda **_: hummer)
    args = ("--scripts", scripts, "--limit", 2, "--out", tmp_path / "out")
    stopped = run(app, *args)
    assert stopped.exit_code == 130
    assert "run the same command again" in stopped.output
    assert {path.name for path in (tmp_path / "out").iterdir()} == {"en-scam-0.wav", "en-scam-0.json"}
    hummer.stop_after = None
    resumed = run(app, *args)
    assert "1 recordings made" in resumed.output
    assert "1 were there, 2 sentences spoken" in resumed.output
    assert len(hummer.said) == 8


@pytest.mark.parametrize(
    ("args", "message"),
    [
        (("--split", "exam"), "--split 'exam' is unknown; give train, dev, test"),
        (("--preset", "studio"), "--preset 'studio' is unknown"),
        (("--ids", "en-nobody"), "no script has the id en-nobody"),
        (("--ids", "en-scam-0", "--split", "test"), "no script fits"),
        (("--scripts", "nowhere"), "nowhere: no such folder of scripts"),
        (("--manifest", "nowhere.yaml"), "nowhere.yaml: cannot be read"),
    ],
)
def test_what_cannot_be_done_is_said_in_one_line(app, scripts, tmp_path, args, message):
    result = run(app, "--scripts", scripts, "--out", tmp_path / "out", *args)
    assert isinstance(result.exception, ConfigError)
    assert message in str(result.exception)
    assert "\n" not in str(result.exception)


def test_an_output_folder_that_cannot_be_is_refused_before_anything_is_spoken(tmp_path, hummer):
    script = make_script()
    (tmp_path / "file").write_text("not a folder")
    jobs = [(manifest_call(script, draw_recipe(script, 1)), script)]
    with pytest.raises(ConfigError, match="give another folder with --out"):
        voice_all(jobs, tmp_path / "file", hummer, Console(file=io.StringIO()))
    assert not hummer.said


def test_split_chooses_by_the_scripts_own(scripts):
    by_split = {split: {s.id for s in choose_scripts(scripts, split=split)} for split in ("train", "dev")}
    assert by_split["train"]
    assert not by_split["train"] & by_split["dev"]


def test_the_demo_calls_are_in_no_split():
    folder = Path(__file__).parents[3] / "datasets" / "scripts" / "en"
    ids = {s.id for split in ("train", "dev", "test") for s in choose_scripts(folder, split=split)}
    assert len(ids) > 200
    assert not [i for i in ids if i.startswith("en-demo-")]
    assert len(choose_scripts(folder, ids=frozenset({"en-demo-scam", "en-demo-bank"}))) == 2


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"voices": {"far": "am_eric"}}, "one entry for each of far, near"),
        ({"speeds": {"far": 9, "near": 1}}, "speeds lie between"),
        ({"name": "../escape"}, "calls.0.name"),
        ({"colour": "red"}, "calls.0.colour"),
        ({"seed": -1}, "calls.0.seed"),
    ],
)
def test_a_malformed_manifest_names_file_and_field(tmp_path, change, message):
    script = make_script()
    entry = manifest_call(script, draw_recipe(script, 1)).model_dump() | change
    path = tmp_path / "bad.yaml"
    path.write_text(yaml.safe_dump({"scripts": "s", "calls": [entry]}))
    with pytest.raises(ConfigError, match=r"bad\.yaml") as caught:
        load_manifest(path)
    assert message in str(caught.value)


def test_a_manifest_that_writes_one_file_twice_or_is_no_yaml_is_refused(tmp_path):
    script = make_script()
    entry = manifest_call(script, draw_recipe(script, 1)).model_dump()
    path = tmp_path / "bad.yaml"
    path.write_text(yaml.safe_dump({"scripts": "s", "calls": [entry, entry | {"seed": 2}]}))
    with pytest.raises(ConfigError, match="en-scam-test would be written twice"):
        load_manifest(path)
    path.write_text("{calls: [")
    with pytest.raises(ConfigError, match="not valid YAML"):
        load_manifest(path)


def test_a_reserved_voice_in_a_manifest_is_refused_before_anything_is_spoken(tmp_path, hummer):
    script = make_script()
    entry = manifest_call(script, draw_recipe(script, 1))
    bad = ManifestCall.model_validate(entry.model_dump() | {"voices": {"far": "bm_lewis", "near": "af_nova"}})
    with pytest.raises(ConfigError, match="bm_lewis is reserved"):
        voice_all([(entry, script), (bad, script)], tmp_path, hummer, Console(file=io.StringIO()))
    assert not hummer.said
