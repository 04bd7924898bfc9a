"""Digest: who knows the password passes, once per count; strangers leave nothing behind."""

import hashlib
import re

import pytest

from inference.gateway.sip.auth import NONCE_S, DigestAuth, DigestConfig
from inference.gateway.sip.message import Headers, RefusedError, Request

URI = "sip:srs@192.0.2.1"


@pytest.fixture
def auth(clock):
    return DigestAuth(DigestConfig(users={"sbc1": "correct horse battery"}), clock.time)


def challenge(auth, request=None):
    with pytest.raises(RefusedError) as raised:
        auth.check(request or Request("INVITE", URI, Headers()))
    assert raised.value.status == 401
    return [value for _, value in raised.value.fields]


def credentials(line, *, user="sbc1", password="correct horse battery", count=1, uri=URI, method="INVITE", **changed):
    nonce, realm = (re.search(f'{name}="([^"]*)"', line)[1] for name in ("nonce", "realm"))
    algorithm = re.search(r"algorithm=([A-Z0-9-]+)", line)[1]
    digest = {"MD5": hashlib.md5, "SHA-256": hashlib.sha256}[algorithm]

    def h(text):
        return digest(text.encode()).hexdigest()

    nc = f"{count:08x}"
    response = h(f"{h(f'{user}:{realm}:{password}')}:{nonce}:{nc}:abc:auth:{h(f'{method}:{uri}')}")
    quoted = {"username": user, "realm": realm, "nonce": nonce, "uri": uri, "response": response, "cnonce": "abc"}
    given = {name: f'"{text}"' for name, text in quoted.items()} | {"algorithm": algorithm, "qop": "auth", "nc": nc}
    text = ", ".join(f"{k}={v}" for k, v in (given | changed).items() if v is not None)
    return Request(method, URI, Headers([("Authorization", f"Digest {text}")]))


def test_both_algorithms_the_stronger_offered_first(auth):
    assert ["SHA-256" in line for line in challenge(auth)] == [True, False]
    for number in (0, 1):
        auth.check(credentials(challenge(auth)[number]))


@pytest.mark.parametrize(
    "wrong",
    [
        {"password": "correct horse batterx"},
        {"user": "sbc2"},
        {"response": '""'},
        {"nonce": '"0.0.0"'},
        {"nonce": '"é.\ud800.é"'},
        {"nc": "zz"},
        {"qop": None},
        {"algorithm": "SHA-512-256"},
        {"realm": '"other"'},
        {"uri": "sip:srs@198.51.100.1"},
    ],
)
def test_anything_wrong_is_challenged_again(auth, wrong):
    challenge(auth, credentials(challenge(auth)[0], **wrong))


def test_a_replay_is_stale_and_a_higher_count_is_not(auth):
    line = challenge(auth)[0]
    auth.check(credentials(line))
    assert "stale=true" in challenge(auth, credentials(line))[0]
    auth.check(credentials(line, count=2))


def test_a_nonce_ends(auth, clock):
    line = challenge(auth)[0]
    clock.advance(NONCE_S + 2)
    assert "stale=true" in challenge(auth, credentials(line))[0]


def test_challenges_cost_no_memory(auth):
    for _ in range(1000):
        challenge(auth)
        challenge(auth, credentials(challenge(auth)[0], password="guessing guessing"))
    assert len(auth._counts) == 0


def test_credentials_that_cannot_be_read_are_400(auth):
    with pytest.raises(RefusedError) as raised:
        auth.check(Request("INVITE", URI, Headers([("Authorization", "Digest nothing")])))
    assert raised.value.status == 400


def test_short_passwords_are_refused_by_the_configuration():
    with pytest.raises(ValueError, match="fewer than 12"):
        DigestConfig(users={"a": "short"})
