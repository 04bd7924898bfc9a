"""Which ways back a configuration opens, and which it refuses."""

import asyncio

import pytest
from pydantic import ValidationError

from inference.alerts.ears.open import WarningsConfig, make_ears

ARI = {"url": "http://a:8088/ari", "user": "u", "password": "p"}
ESL = {"host": "f", "password": "p"}
TWILIO = {"account_sid": "AC" + "0" * 32, "secret": "s"}
JAMBONZ = {"url": "https://j/v1", "account_sid": "fef61e75-cec3-496c-a7bc-8368e4d02a04", "api_key": "k"}
SIP = {"host": "p", "domain": "ims.example"}
SMS = {"url": "https://s/send"}


def test_nothing_is_opened_that_is_not_configured():
    assert make_ears(WarningsConfig()) == []


def test_everything_configured_is_opened_under_its_name():
    config = WarningsConfig(
        sounds_url="https://sounds.example/", asterisk=ARI, freeswitch=ESL, jambonz=JAMBONZ, twilio=TWILIO,
        sip=SIP, sms=SMS | {"name": "texts"}, fallbacks=("sip", "texts"),
    )  # fmt: skip
    ears = make_ears(config)
    assert [ear.name for ear in ears] == ["asterisk", "freeswitch", "jambonz", "twilio", "sip", "texts"]

    async def close():
        for ear in ears:
            await ear.aclose()

    asyncio.run(close())


@pytest.mark.parametrize(
    ("values", "words"),
    [
        ({"asterisk": ARI}, "asterisk fetches sounds by their address: set sounds_url"),
        ({"freeswitch": ESL}, "freeswitch fetches"),
        ({"twilio": TWILIO}, "twilio fetches"),
        ({"jambonz": JAMBONZ}, "jambonz fetches"),
        ({"fallbacks": ("sms",)}, "'sms', which is not configured"),
        ({"sms": SMS, "sip": SIP | {"name": "sms"}}, "two ways have one name"),
        ({"sms": SMS | {"ulr": "x"}}, "Extra inputs"),
        ({"sounds_url": "ftp://x"}, "http"),
    ],
)
def test_what_does_not_fit_is_refused(values, words):
    with pytest.raises(ValidationError, match=words):
        WarningsConfig(**values)


def test_sounds_on_the_gateways_own_disk_need_no_address():
    config = WarningsConfig(
        asterisk=ARI | {"media": "sound:scamtap/{name}"}, freeswitch=ESL | {"file": "/s/{name}.wav"}
    )
    assert len(make_ears(config)) == 2
