"""What the demo judges, writes and shows; `scamtap demo` itself takes as long as its calls (marker slow)."""

import sys

import numpy as np
import pytest
import soundfile
import structlog
from rich.console import Console

from inference import cli
from inference.alerts.alert import Alert
from inference.alerts.announcements import load_announcements
from inference.errors import MediaError
from inference.gateway.recorded import LegBlock, RecordedCall
from inference.service import demo_view
from inference.service.demo import DemoCall, load_demo_call, write_warning
from inference.service.demo_view import TINY, demo_settings
from inference.service.events import AlertEvent, VerdictEvent
from inference.service.replay import replay
from inference.service.terminal import CallView, clock, printable, side_by_side

SILENCE = {"far": np.zeros(80_000, np.int16), "near": np.zeros(80_000, np.int16)}


def call(ask_s, *alerts_s):
    made = DemoCall("c1", "a call", SILENCE, ask_s, "PCMU")
    for at_s in alerts_s:
        made.take(AlertEvent(Alert("c1", "danger", at_s, 0.9, "card_otp", "ask", ())))
    return made


@pytest.mark.parametrize(
    ("ask_s", "alerts_s", "is_good", "word"),
    [
        (8.0, (5.0,), True, "3.0 s before the ask"),
        (8.0, (5.0, 9.0), True, "5.0 s"),
        (8.0, (8.0,), False, "TOO LATE"),
        (8.0, (9.5,), False, "TOO LATE"),
        (8.0, (), False, "MISSED"),
        (None, (), True, "left alone"),
        (None, (3.0,), False, "FALSE ALARM at 3.0 s"),
    ],
)
def test_a_demo_call_ends_well_only_if_warned_before_the_ask_or_rightly_left_alone(ask_s, alerts_s, is_good, word):
    right, line = call(ask_s, *alerts_s).outcome()
    assert right is is_good
    assert word in line


def test_the_warning_is_written_where_it_came(tmp_path):
    out = tmp_path / "heard.wav"
    write_warning(call(8.0, 5.0), out)
    heard, rate_hz = soundfile.read(out, dtype="int16")
    warning = load_announcements().get("en-danger-card_otp").samples
    assert (rate_hz, len(heard)) == (8000, 40_000 + len(warning))  # it outlasts the call
    assert not heard[:40_000].any()
    assert np.array_equal(heard[40_000:], warning)


@pytest.mark.parametrize("name", ["demo-scam", "demo-bank"])
def test_the_shipped_calls_load(name):
    loaded = load_demo_call(TINY / f"{name}.wav", "title", "PCMA")
    assert loaded.legs["far"].shape == loaded.legs["near"].shape
    assert all(np.abs(samples).max() > 1000 for samples in loaded.legs.values())
    if name == "demo-scam":
        assert 10 < loaded.ask_s < loaded.duration_s
    else:
        assert loaded.ask_s is None


def test_a_missing_or_odd_call_is_one_line(tmp_path):
    (tmp_path / "mono.json").write_text('{"ask_s": null}')
    soundfile.write(tmp_path / "mono.wav", SILENCE["far"], 8000)
    for name in ("missing.wav", "mono.wav"):
        with pytest.raises(MediaError) as refused:
            load_demo_call(tmp_path / name, "title", "PCMU")
        assert str(refused.value).startswith(f"{name}: ")


def test_demo_listens_on_this_machine_alone_and_keeps_nothing():
    settings = demo_settings()
    assert settings.media.host == settings.api.host == "127.0.0.1"
    assert settings.alerts.jsonl_path is settings.alerts.outbox_path is settings.alerts.webhook_url is None
    assert "synthetic" in settings.privacy.legal_basis


def test_views_show_words_as_text_whatever_they_hold(doubles, capsys):
    def blocks():
        yield LegBlock("far", 0, doubles.speech(doubles.STEERING, doubles.THREAT))

    view = CallView("a [bold]title[/bold]")
    for event in replay(RecordedCall("c1", ("far",), 2.0, blocks), doubles.parts(), doubles.stages()):
        view.add(event)
    console = Console(file=sys.stdout, width=120, force_terminal=False)
    console.print(side_by_side([view, CallView("another")]))
    shown = capsys.readouterr().out
    assert "[bold]title[/bold]" in shown
    assert "SUSPECT" in shown
    assert not {"\x1b", "\x07", "\x9b", "\u202e"} & set(shown)
    assert view.level == "suspect"


def test_views_keep_the_latest_lines_only():
    view = CallView("c")
    for number in range(100):
        view.add(AlertEvent(Alert("c1", "suspect", float(number), 0.5, None, None, ())))
    assert len(view.lines) < 20
    assert "1:39" in view.lines[-1].plain
    view.add(VerdictEvent("c1", "none", 0.1, None, None, {}, None))
    assert view.level == "none"


def test_printable_and_clock():
    assert printable("a\x1b[2Jb\u200e\ud800c\n漢字") == "a [2Jb  c 漢字"
    assert [clock(s) for s in (0, 59.9, 60, 3725)] == ["0:00", "0:59", "1:00", "62:05"]


@pytest.mark.parametrize("is_good", [True, False])
def test_the_command_ends_as_the_calls_did_and_logs_do_not_disturb_the_picture(monkeypatch, capfd, is_good):
    def show(console, out, *, plain, engine):
        structlog.get_logger("test").warning("alert", call="demo-scam")
        console.print(f"{out} {plain} {engine}")
        return is_good

    monkeypatch.setattr(demo_view, "show_demo", show)
    monkeypatch.setattr("sys.argv", ["scamtap", "demo", "--plain", "--out", "x.wav"])
    try:
        with pytest.raises(SystemExit) as ended:
            cli.main()
    finally:
        structlog.reset_defaults()
    assert (ended.value.code or 0) == (0 if is_good else 1)
    assert capfd.readouterr() == ("x.wav True None\n", "")


@pytest.mark.slow
def test_the_whole_demo(scamtap, models, tmp_path):
    out = tmp_path / "heard.wav"
    ran = scamtap("demo", "--plain", "--out", out, scripted=False, timeout_s=180)
    assert ran.exit_code == 0, ran.out + ran.err
    assert "left alone, as it should be" in ran.out
    assert "before the ask" in ran.out
    assert "[info" not in ran.out
    assert soundfile.info(out).duration > 10


@pytest.mark.parametrize("out", ["missing/heard.wav", "."])
def test_an_unwritable_out_is_said_before_the_calls(tmp_path, out):
    with pytest.raises(MediaError, match="choose another file with --out"):
        demo_view.show_demo(Console(), tmp_path / out)
    with pytest.raises(MediaError, match="choose another file with --out"):
        write_warning(call(8.0, 5.0), tmp_path / out)
