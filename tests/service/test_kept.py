"""Transcripts are kept only where the settings say so, for as long as they say, readable by their owner alone."""

import asyncio
import json
import stat

import pytest

from inference.alerts.feedback import Feedback
from inference.gateway.spec import CallSpec
from inference.service.kept import KeptTranscripts, TranscriptsConfig

DAY_S = 86400.0


def listen(doubles, bench, spec_of, kept, phrases, feedback_after=None):
    """A call through a watch whose events are kept."""

    async def run():
        async with bench() as b:
            b.watch._publisher._keep = kept.take
            b.watch.begin(CallSpec.model_validate(spec_of("c1")))
            said = doubles.packets(doubles.speech(*phrases))
            cut = len(said) if feedback_after is None else feedback_after
            await b.play({30000: said[:cut]})
            if feedback_after is not None:
                kept.said(Feedback("c1", "not_a_scam", "alr_1", "suspect", 0.5, "card_otp", 1.0))
            await b.play({30000: said[cut:]})
            await b.watch.end("c1")

    asyncio.run(run())


def test_by_default_nothing_is_kept(doubles, bench, spec_of, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    listen(doubles, bench, spec_of, KeptTranscripts(TranscriptsConfig()), (doubles.HELLO, doubles.ASK))
    assert list(tmp_path.iterdir()) == []


def test_a_call_is_kept_as_it_ends_with_its_alerts_and_what_the_subscriber_said(doubles, bench, spec_of, tmp_path):
    kept = KeptTranscripts(TranscriptsConfig(folder=tmp_path / "kept"), clock=lambda: 1.5 * DAY_S)
    phrases = (doubles.HELLO, doubles.THREAT, doubles.ASK)
    listen(doubles, bench, spec_of, kept, phrases, feedback_after=len(doubles.packets(doubles.speech(*phrases[:2]))))
    (path,) = (tmp_path / "kept").iterdir()
    assert path.name == "1970-01-02.jsonl"
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    (line,) = map(json.loads, path.read_text().splitlines())
    assert [u["text"] for u in line["utterances"]] == [phrase.text for phrase in phrases]
    assert (line["id"], line["level"], line["feedback"]) == ("c1", "danger", ["not_a_scam"])
    assert [(level, before) for level, _, before in line["alerts"]] == [("suspect", 0), ("danger", 1)]
    assert line["peak_risk"] > 0.9


def test_files_past_their_days_are_deleted_and_nothing_else(doubles, bench, spec_of, tmp_path):
    for name in ("2026-01-01.jsonl", "2026-01-25.jsonl", "notes.txt"):
        (tmp_path / name).write_text("")
    kept = KeptTranscripts(TranscriptsConfig(folder=tmp_path, keep_days=10), clock=lambda: 1769860800.0)  # 31 January
    listen(doubles, bench, spec_of, kept, (doubles.HELLO,))
    assert sorted(p.name for p in tmp_path.iterdir()) == ["2026-01-25.jsonl", "2026-01-31.jsonl", "notes.txt"]


def test_a_full_disk_costs_the_transcript_and_nothing_more(doubles, bench, spec_of, tmp_path):
    (tmp_path / "kept").write_text("a file where the folder should be")
    listen(doubles, bench, spec_of, KeptTranscripts(TranscriptsConfig(folder=tmp_path / "kept")), (doubles.HELLO,))


def test_a_worker_keeps_what_its_settings_say(doubles, live, tmp_path):
    async def run():
        privacy = {"legal_basis": "a test of our own software", "transcripts": {"folder": str(tmp_path)}}
        async with live(privacy=privacy) as (_worker, api, gateway):
            await api.post("/v1/calls", json=gateway.spec("c9"))
            await gateway.send(far=doubles.packets(doubles.speech(doubles.HELLO, doubles.FINE)))
            await api.delete("/v1/calls/c9")

    asyncio.run(run())
    (path,) = tmp_path.iterdir()
    assert json.loads(path.read_text())["utterances"][0]["text"] == doubles.HELLO.text


@pytest.mark.parametrize("bad", [{"keep_days": 0}, {"keep_days": 400}, {"fold": "x"}])
def test_settings_are_checked(bad):
    with pytest.raises(ValueError, match="validation error"):
        TranscriptsConfig.model_validate(bad)
