"""The ``scamtap`` command as people and programs use it, with scripted models."""

import importlib.util
import json
import os
import signal
import struct
import subprocess
import sys
import time
from pathlib import Path

import dpkt
import numpy as np
import pytest
import soundfile

DOUBLES = Path(__file__).with_name("service") / "doubles.py"
UTTERANCE = {"type": str, "call": str, "leg": str, "start_s": float, "end_s": float, "text": str, "risk": float}
ALERT = {"type": str, "call": str, "level": str, "at_s": float, "risk": float, "family": str, "stage": str}
EVIDENCE = {"leg": str, "start_s": float, "end_s": float, "text": str}
VERDICT_KEYS = {"type", "call", "level", "risk", "family", "first_alert_s", "speech_s", "packets"}


@pytest.fixture(autouse=True)
def quick_segments(monkeypatch):
    """Short pauses end a segment, so that calls can be short; children inherit it."""
    for name, value in (("END_SILENCE_S", "0.2"), ("TAIL_S", "0.1"), ("LEAD_IN_S", "0.1")):
        monkeypatch.setenv(f"SCAMTAP__SEGMENTER__{name}", value)


@pytest.fixture
def events(run):
    """``events(path, ...)``: the JSON Lines of ``scamtap replay --json``, which must succeed quietly."""

    def events(*arguments):
        code, out, err = run("replay", "--json", *arguments)
        assert (code, err) == (0, "")
        return [json.loads(line) for line in out.splitlines()]

    return events


@pytest.fixture
def scam(doubles):
    """Far and near samples of a call that ends in danger, equally long."""
    far = doubles.speech(doubles.HELLO, None, doubles.THREAT, doubles.ASK)
    near = doubles.speech(None, doubles.FINE, None, None)
    return far, near


def wav(path, *channels, rate_hz=8000, **more):
    soundfile.write(path, np.stack(channels, axis=1), rate_hz, **more)
    return path


def pcap(path, packets, *, ends=(("10.0.0.1", 4000), ("10.0.0.2", 6000))):
    """``packets``: {direction 0 or 1: RTP packets}, a packet each 20 ms."""
    with path.open("wb") as file:
        writer = dpkt.pcap.Writer(file)
        for number in range(max(map(len, packets.values()))):
            for direction, of_leg in packets.items():
                if number < len(of_leg):
                    source, destination = ends[direction], ends[1 - direction]
                    udp = dpkt.udp.UDP(sport=source[1], dport=destination[1], data=of_leg[number])
                    udp.ulen = len(udp)
                    hosts = [bytes(map(int, end[0].split("."))) for end in (source, destination)]
                    ip = dpkt.ip.IP(src=hosts[0], dst=hosts[1], p=17, data=udp, len=20 + len(udp))
                    writer.writepkt(b"\2" * 12 + b"\x08\x00" + bytes(ip), ts=1_700_000_000 + 0.02 * number)
    return path


def texts(events):
    return [(event["leg"], event["text"]) for event in events if event["type"] == "utterance"]


def check_shape(events):
    """Every line as the interface says: keys, types, order."""
    for event in events:
        if event["type"] == "utterance":
            assert {key: type(value) for key, value in event.items()} == UTTERANCE
            assert 0 <= event["start_s"] < event["end_s"]
            assert 0 < event["risk"] < 1
        elif event["type"] == "alert":
            assert {key: type(event[key]) for key in ALERT} == ALERT
            assert event["level"] in ("suspect", "danger")
            assert event["evidence"]
            for item in event["evidence"]:
                assert {key: type(value) for key, value in item.items()} == EVIDENCE
        else:
            assert event["type"] == "verdict"
            assert event.keys() == VERDICT_KEYS
            assert event["speech_s"].keys() == {"far", "near"}
    assert [event["type"] for event in events].count("verdict") == 1
    assert events[-1]["type"] == "verdict"
    alerts = [event for event in events if event["type"] == "alert"]
    assert events[-1]["first_alert_s"] == (alerts[0]["at_s"] if alerts else None)
    assert events[-1]["level"] == (alerts[-1]["level"] if alerts else "none")


def test_stereo_has_both_legs(events, scam, tmp_path, doubles):
    got = events(wav(tmp_path / "call.wav", *scam, subtype="PCM_16"))
    check_shape(got)
    assert texts(got) == [
        ("far", doubles.HELLO.text),
        ("near", doubles.FINE.text),
        ("far", doubles.THREAT.text),
        ("far", doubles.ASK.text),
    ]
    assert [event["level"] for event in got if event["type"] == "alert"] == ["suspect", "danger"]
    assert {event["call"] for event in got} == {"call"}
    assert got[-1]["packets"] is None
    tipping = next(event for event in got if event["type"] == "utterance" and event["text"] == doubles.THREAT.text)
    alert = next(event for event in got if event["type"] == "alert")
    # Known when the pause was over: the segment's kept tail ends before that.
    assert tipping["end_s"] < alert["at_s"] < tipping["end_s"] + 0.7


def test_far_channel_turns_the_legs_round(events, scam, tmp_path, doubles):
    far, near = scam
    path = wav(tmp_path / "call.wav", near, far, subtype="PCM_16")
    straight, turned = events(path), events("--far-channel", 1, path)
    check_shape(turned)
    assert [leg for leg, _ in texts(turned)] == ["far", "near", "far", "far"]
    assert [leg for leg, _ in texts(straight)] == ["near", "far", "near", "near"]


def test_mono_is_the_far_leg(events, scam, tmp_path):
    got = events(wav(tmp_path / "call.wav", scam[0], subtype="ULAW"))
    check_shape(got)
    assert {leg for leg, _ in texts(got)} == {"far"}
    assert got[-1]["speech_s"]["near"] == 0


def test_flac_at_16_khz_is_heard_alike(events, scam, tmp_path):
    import soxr

    wide = [soxr.resample(samples, 8000, 16000) for samples in scam]
    slow = events(wav(tmp_path / "call.wav", *scam, subtype="PCM_16"))
    fast = events(wav(tmp_path / "call.flac", *wide, rate_hz=16000))
    check_shape(fast)
    assert texts(fast) == texts(slow)


def test_a_capture_is_paired_and_far_chosen(events, scam, doubles, tmp_path):
    far, near = scam
    path = pcap(
        tmp_path / "call.pcap",
        {0: doubles.packets(far, ssrc=0xAAAA), 1: doubles.packets(near, payload_type=8, ssrc=0xBBBB)},
    )
    got = events(path)
    check_shape(got)
    assert texts(got)[0] == ("far", doubles.HELLO.text)
    assert len(texts(got)) == 4
    packets = got[-1]["packets"]
    assert {leg: of_leg["received"] for leg, of_leg in packets.items()} == {
        "far": len(far) // 160,
        "near": len(near) // 160,
    }
    for of_leg in packets.values():
        assert of_leg.keys() >= {"received", "lost", "late", "duplicate", "foreign", "gap_s"}
        assert of_leg["lost"] == 0
    for named in ("0xBBBB", str(0xBBBB), "10.0.0.2:6000"):
        assert texts(events("--far", named, path))[0] == ("near", doubles.HELLO.text)


def test_a_capture_like_a_recording(events, scam, doubles, tmp_path):
    from inference.rtp.g711 import ULAW_TO_PCM, encode_ulaw

    coded = [ULAW_TO_PCM[np.frombuffer(encode_ulaw(samples), np.uint8)] for samples in scam]
    streams = {number: doubles.packets(samples, ssrc=number + 1) for number, samples in enumerate(scam)}
    packets = events(pcap(tmp_path / "call.pcap", streams))
    samples = events(wav(tmp_path / "call.wav", *coded, subtype="PCM_16"))
    assert [e for e in packets if e["type"] == "utterance"] == [e for e in samples if e["type"] == "utterance"]


BAD = {
    "empty.wav": b"",
    "text.wav": b"this is no recording at all, it is a letter\n" * 20,
    "magic.wav": b"RIFF\xff\xff\xff\xffWAVEfmt ",
    "short.pcap": struct.pack("<IHHiIII", 0xA1B2C3D4, 2, 4, 0, 0, 65535, 1)[:17],
    "bare.pcap": struct.pack("<IHHiIII", 0xA1B2C3D4, 2, 4, 0, 0, 65535, 1),
    "section.pcapng": b"\x0a\x0d\x0d\x0a\x1c\0\0\0\x4d\x3c\x2b\x1a",
    "noise.flac": b"fLaC" + bytes(range(256)) * 8,
}


@pytest.mark.parametrize(("name", "content"), BAD.items(), ids=BAD.keys())
def test_a_bad_file_is_one_line_and_does_not_cost_the_others(run, scam, tmp_path, name, content):
    bad, good = tmp_path / name, wav(tmp_path / "good.wav", scam[0], subtype="PCM_16")
    bad.write_bytes(content)
    code, out, err = run("replay", "--json", bad, good)
    assert code == 1
    assert err.count("\n") == 1
    assert err.startswith(f"scamtap: {bad}: ")
    assert "Traceback" not in err
    check_shape([json.loads(line) for line in out.splitlines()])


def test_other_unusable_files_are_one_line(run, doubles, scam, tmp_path):
    far, _ = scam
    three = wav(tmp_path / "three.wav", far, far, far, subtype="PCM_16")
    odd_rate = wav(tmp_path / "rate.wav", far, rate_hz=1000, subtype="PCM_16")
    no_samples = wav(tmp_path / "none.wav", far[:0], subtype="PCM_16")
    g729 = pcap(tmp_path / "g729.pcap", {0: doubles.packets(far, payload_type=18)})
    dynamic = pcap(tmp_path / "opus.pcap", {0: doubles.packets(far, payload_type=111)})
    no_rtp = pcap(tmp_path / "dns.pcap", {0: [b"just some other datagram"] * 50})
    folder, missing = tmp_path / "folder", tmp_path / "missing.wav"
    folder.mkdir()
    files = [three, odd_rate, no_samples, g729, dynamic, no_rtp, folder, missing]
    code, out, err = run("replay", "--json", *files)
    assert (code, out) == (1, "")
    lines = err.splitlines()
    assert len(lines) == len(files)
    for path, line in zip(files, lines, strict=True):
        assert line.startswith(f"scamtap: {path}: ")
    for number, word in enumerate(("3 channels", "1000 Hz", "no samples", "G.729", "dynamic", "no RTP", "directory")):
        assert word in lines[number]


def test_what_a_cut_off_file_holds_is_used(events, run, scam, doubles, tmp_path):
    whole = wav(tmp_path / "whole.wav", scam[0], subtype="PCM_16").read_bytes()
    cut = tmp_path / "cut.wav"
    cut.write_bytes(whole[: len(whole) * 2 // 3])
    got = events(cut)
    assert ("far", doubles.HELLO.text) in texts(got)
    assert ("far", doubles.ASK.text) not in texts(got)
    whole = pcap(tmp_path / "whole.pcap", {0: doubles.packets(scam[0])}).read_bytes()
    cut = tmp_path / "cut.pcap"
    cut.write_bytes(whole[: len(whole) * 2 // 3 + 5])
    assert ("far", doubles.HELLO.text) in texts(events(cut))
    code, _, err = run("replay", cut)
    assert code == 0
    assert "ends or breaks inside a record" in err


def test_options_that_do_not_fit_are_exit_2(run, scam, doubles, tmp_path):
    mono = wav(tmp_path / "call.wav", scam[0], subtype="PCM_16")
    capture = pcap(tmp_path / "call.pcap", {0: doubles.packets(scam[0], ssrc=5)})
    for arguments in (("--far-channel", 1, mono), ("--far", "0x1", mono), ("--far", "0x77", capture)):
        code, out, err = run("replay", "--json", *arguments)
        assert (code, out, err.count("\n")) == (2, "", 1)
    assert "0x00000005 from 10.0.0.1:4000" in err


@pytest.mark.parametrize(
    ("option", "asked"), [(None, ["en"] * 3), ("en", ["en"] * 3), ("zh", ["zh"] * 3), ("auto", [None, "en", "en"])]
)
def test_language(run, scripted, scam, tmp_path, option, asked):
    path = wav(tmp_path / "call.wav", scam[0], subtype="PCM_16")
    code, _, _ = run("replay", "--json", *(() if option is None else ("--language", option)), path)
    assert code == 0
    assert scripted.recogniser.languages == asked  # detected once, then kept


def test_what_is_said_cannot_steer_the_terminal(run, doubles, tmp_path):
    path = wav(tmp_path / "call.wav", doubles.speech(doubles.STEERING, doubles.THREAT), subtype="PCM_16")
    code, out, err = run("replay", path)
    assert code == 0
    assert "red" in out
    assert "SUSPECT" in out
    assert not {"\x1b", "\x07", "\x9b", "\u202e"} & set(out + err)


def test_what_is_said_is_no_markup(run, doubles, tmp_path, scripted, monkeypatch):
    monkeypatch.setattr(scripted.recogniser, "_words", lambda _samples: "[bold]not[/bold] [/x] :smile:")
    path = wav(tmp_path / "call.wav", doubles.speech(doubles.HELLO), subtype="PCM_16")
    code, out, _ = run("replay", path)
    assert code == 0
    assert "[bold]not[/bold] [/x] :smile:" in out


def test_odd_file_names_are_no_trouble(run, scam, tmp_path):
    name = os.fsdecode(b"\xff\x1b[31m\n.wav")
    path = wav(tmp_path / "call.wav", scam[0], subtype="PCM_16").rename(tmp_path / name)
    code, out, err = run("replay", "--json", path)
    assert (code, err) == (0, "")
    assert {json.loads(line)["call"] for line in out.splitlines()} == {name.removesuffix(".wav")}
    code, out, err = run("replay", path)
    assert code == 0
    assert "\x1b" not in out + err
    code, _, err = run("replay", tmp_path / os.fsdecode(b"\xfe\x1b[31m\nmissing.wav"))
    assert code == 1
    assert err.count("\n") == 1
    assert "\x1b" not in err


@pytest.mark.parametrize("arguments", [["replay", "--json"], ["replay"]])
def test_a_reader_that_leaves_hears_no_complaint(scam, tmp_path, arguments):
    path = wav(tmp_path / "call.wav", scam[0], subtype="PCM_16")
    program = subprocess.Popen(
        [sys.executable, str(DOUBLES), *arguments, *[str(path)] * 20], stdout=subprocess.PIPE, stderr=subprocess.PIPE
    )
    program.stdout.readline()
    program.stdout.close()
    err = program.stderr.read()
    program.stderr.close()
    assert program.wait(90) != 0
    assert err == b""


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="no device here that is always full")
@pytest.mark.parametrize("arguments", [["replay", "--json"], ["replay"]])
def test_a_full_disk_under_the_output_is_one_line(scam, tmp_path, arguments):
    path = wav(tmp_path / "call.wav", scam[0], subtype="PCM_16")
    with Path("/dev/full").open("wb") as full:
        program = subprocess.run(
            [sys.executable, str(DOUBLES), *arguments, str(path)], stdout=full, stderr=subprocess.PIPE, timeout=60
        )
    assert program.returncode == 1
    assert program.stderr.count(b"\n") == 1
    assert b"output cannot be written (No space left on device)" in program.stderr


def test_ctrl_c_is_exit_130_without_a_traceback(scam, tmp_path):
    path = wav(tmp_path / "call.wav", np.tile(scam[0], 20), subtype="PCM_16")
    program = subprocess.Popen(
        [sys.executable, str(DOUBLES), "replay", "--json", "--realtime", str(path)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )
    program.stdout.readline()  # in the middle of the call
    program.send_signal(signal.SIGINT)
    _, err = program.communicate(timeout=90)
    assert program.returncode == 130
    assert err == b""


@pytest.mark.parametrize("arguments", [["--help"], ["replay", "--help"], ["--version"]])
def test_help_comes_at_once(arguments):
    watch = (
        "import sys\nfrom inference.cli import main\n"
        "try:\n    main()\nfinally:\n"
        "    heavy = {'numba', 'onnxruntime', 'onnx', 'scipy', 'torch', 'fastapi', 'numpy'} & set(sys.modules)\n"
        "    sys.stderr.write(f'heavy: {sorted(heavy)}')\n"
    )
    began_s = time.process_time()
    children = os.times()
    ran = subprocess.run(
        [sys.executable, "-c", watch, *arguments], capture_output=True, text=True, timeout=90, check=True
    )
    spent = os.times()
    assert ran.stderr == "heavy: []"
    assert "scamtap" in ran.stdout.lower()
    # CPU time of the child: a busy machine does not fail the test.
    assert spent.children_user + spent.children_system - children.children_user - children.children_system < 1.5
    assert time.process_time() - began_s < 1.5


def test_wrong_usage_is_exit_2(run):
    for arguments in (("replay",), ("replay", "--language", "fr", "x.wav"), ("--nonsense",), ("nonsense",)):
        code, out, _ = run(*arguments)
        assert (code, out) == (2, "")


def test_the_package_has_an_entry_point():
    assert importlib.util.find_spec("inference.cli") is not None
    ran = subprocess.run([sys.executable, "-m", "inference.cli", "--version"], capture_output=True, check=False)
    assert ran.returncode == 0
