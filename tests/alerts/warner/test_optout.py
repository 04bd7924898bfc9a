"""Those who opted out are not warned, from the moment that the file says so."""

import hmac
import os

import pytest

from inference.alerts.optout import OptOuts, normalise_number
from inference.errors import ConfigError

KEY = "a key of the operator's"


def hashed(number: str) -> str:
    return hmac.new(KEY.encode(), number.encode(), "sha256").hexdigest()


@pytest.mark.parametrize(
    "written",
    [
        "+442079460000",
        "+44 20 7946 0000",
        "sip:+442079460000@ims.example;user=phone",
        "TEL:+44-20-7946-0000",
        " +44(20)79460000 ",
    ],
)
def test_a_number_is_one_however_it_is_written(written):
    assert normalise_number(written) == "+442079460000"


@pytest.mark.parametrize(("written", "name"), [("sip:Alice@x", "alice"), ("", ""), ("sips:07700 900@x", "07700900")])
def test_a_name_stays_a_name(written, name):
    assert normalise_number(written) == name


@pytest.fixture
def path(tmp_path):
    file = tmp_path / "optout.txt"
    file.write_text(f"# who wants none\n\n{hashed('+442079460000')}\n{hashed('alice').upper()}\r\n")
    return file


def test_the_list_covers_whom_it_names_and_nobody_else(path):
    opt_outs = OptOuts(path, KEY)
    assert len(opt_outs) == 2
    assert opt_outs.covers("tel:+44 20 7946 0000")
    assert opt_outs.covers("sip:alice@ims.example")
    assert not opt_outs.covers("+442079460001")
    assert not opt_outs.covers("\ud800")
    assert not OptOuts(path, "another key").covers("+442079460000")
    assert not OptOuts(None).covers("+442079460000")


def test_a_changed_file_counts_at_the_next_look_and_a_broken_one_changes_nothing(path):
    opt_outs = OptOuts(path, KEY)
    path.write_text(hashed("+15550100") + "\n")
    opt_outs.refresh()
    assert opt_outs.covers("+15550100")
    assert not opt_outs.covers("+442079460000")
    path.write_text("+15550199\n")
    with pytest.raises(ConfigError, match="line 1 is no hash") as refused:
        opt_outs.refresh()
    assert "15550199" not in str(refused.value)
    assert opt_outs.covers("+15550100")
    path.unlink()
    with pytest.raises(ConfigError, match="No such file"):
        opt_outs.refresh()
    assert opt_outs.covers("+15550100")


def test_an_unchanged_file_is_not_read_again(path):
    opt_outs = OptOuts(path, KEY)
    before = path.stat()
    path.write_bytes(path.read_bytes().replace(b"#", b"%"))  # of the same size, and no list any more
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))
    opt_outs.refresh()
    assert len(opt_outs) == 2


def test_who_opts_out_between_two_warnings_hears_no_second(warned, path):
    path.write_text("")

    async def run(b):
        await b.alert("suspect", subscriber="+1 555 0100")
        path.write_text(hashed("+15550100"))
        await b.alert("danger", subscriber="+1 555 0100")
        await b.alert("danger", call="c2", subscriber="+1 555 0100")
        await b.alert("danger", call="c3", subscriber="+1 555 0101")
        path.write_text("damaged")
        await b.alert("danger", call="c4", subscriber="+1 555 0100")

    b = warned(run, opt_outs=OptOuts(path, KEY), fallbacks=("sms",))
    assert b.gate.played == ["suspect", "en-danger-card_otp"]
    assert b.ears["sms"].heard == []
    assert [outcome for _, outcome in b.outcomes].count("suppressed: opted out") == 3
