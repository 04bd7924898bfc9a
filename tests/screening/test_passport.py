import pytest
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric import ec
from hypothesis import given
from hypothesis import strategies as st

from inference.screening.passport import PassportVerifier

NOW_S, CALLER, CALLEE = 1_800_000_000.0, "441632960001", "441632960002"


@pytest.mark.parametrize("attest", ["A", "B", "C"])
def test_a_good_passport_is_valid_with_its_attestation(authority, verifier, attest):
    check = verifier().check(authority.passport(attest=attest), CALLER, CALLEE)
    assert (check.state, check.attestation) == ("valid", attest)


def test_several_destinations_may_be_named(authority, verifier):
    identity = authority.passport(dest={"tn": ["441632960009", CALLEE]})
    assert verifier().check(identity, CALLER, CALLEE).state == "valid"


@pytest.mark.parametrize(
    ("more", "state"),
    [
        ({"iat": int(NOW_S) - 61}, "stale"),  # replayed
        ({"iat": int(NOW_S) + 61}, "stale"),
        ({"orig": {"tn": "441632960003"}}, "mismatch"),
        ({"dest": {"tn": ["441632960003"]}}, "mismatch"),
        ({"attest": "D"}, "malformed"),
        ({"attest": None}, "malformed"),
        ({"orig": "441632960001"}, "malformed"),
        ({"orig": {"uri": "sip:x"}}, "malformed"),
        ({"iat": True}, "malformed"),
        ({"iat": "now"}, "malformed"),
        ({"header": {"ppt": None}}, "malformed"),
        ({"header": {"x5u": None}}, "malformed"),
        ({"header": {"x5u": "http://certificates.example/shaken.pem"}}, "malformed"),
        ({"header": {"x5u": "https://elsewhere.example/c.pem"}}, "no_certificate"),
        ({"key": ec.generate_private_key(ec.SECP256R1())}, "bad_signature"),
    ],
)
def test_a_bad_passport_is_told_apart(authority, verifier, more, state):
    check = verifier().check(authority.passport(**more), CALLER, CALLEE)
    assert (check.state, check.attestation) == (state, None)


def test_an_algorithm_of_the_callers_choice_is_refused(authority, verifier):
    import jwt

    token = jwt.encode({"attest": "A"}, "s" * 32, algorithm="HS256", headers={"typ": "passport", "ppt": "shaken"})
    unsigned = jwt.encode({"attest": "A"}, None, algorithm="none", headers={"typ": "passport", "ppt": "shaken"})
    for each in (token, unsigned):
        assert verifier().check(each, CALLER, CALLEE).state == "malformed"


def test_a_chain_nobody_trusts_is_bad(authority, verifier):
    other = type(authority)()
    assert verifier(roots=[other.root]).check(authority.passport(), CALLER, CALLEE).state == "bad_chain"
    assert verifier(roots=[]).check(authority.passport(), CALLER, CALLEE).state == "bad_chain"
    alone = verifier(certificates=lambda _x5u: [authority.leaf])
    assert alone.check(authority.passport(), CALLER, CALLEE).state == "bad_chain"


def test_an_expired_certificate_is_bad(authority, verifier):
    later_s = NOW_S + 31 * 86400
    check = verifier(now_s=later_s).check(authority.passport(iat=int(later_s)), CALLER, CALLEE)
    assert check.state == "bad_chain"


@pytest.mark.parametrize("identity", [None, "", "   "])
def test_none_is_none(verifier, identity):
    assert verifier().check(identity, CALLER, CALLEE).state == "none"


@pytest.mark.parametrize(
    "identity", ["x", "a.b.c", "a.b", ";" * 500, "A" * 9000, "eyJ9.eyJ9.", "a.b.c;info=<x" + "y" * 900]
)
def test_nonsense_is_malformed(verifier, identity):
    assert verifier().check(identity, CALLER, CALLEE).state == "malformed"


@pytest.mark.parametrize("iat", [10**400, -1, True, 1.5, "now"])
def test_a_time_that_is_none_is_malformed(authority, verifier, iat):
    assert verifier().check(authority.passport(iat=iat), CALLER, CALLEE).state == "malformed"


def test_claims_that_are_not_shakens_change_nothing(authority, verifier):
    identity = authority.passport(nbf=10**400, aud="elsewhere", exp=1)
    assert verifier().check(identity, CALLER, CALLEE).state == "valid"


def test_a_passport_vouches_for_one_call(authority, verifier):
    made, identity = verifier(), authority.passport()
    states = [made.check(identity, CALLER, CALLEE, call_id).state for call_id in ("a", "a", "b", "a")]
    assert states == ["valid", "valid", "replayed", "valid"]


def test_a_key_of_an_unknown_kind_is_a_bad_chain(authority, verifier):
    class Odd:
        def public_key(self):
            raise UnsupportedAlgorithm("a curve of tomorrow")

    assert verifier(certificates=lambda _x5u: [Odd()]).check(authority.passport(), CALLER, CALLEE).state == "bad_chain"


def test_a_good_chain_expires_though_it_is_remembered(authority):
    now_s = [NOW_S + 30 * 86400 - 30]
    made = PassportVerifier([authority.root], lambda _x5u: [authority.leaf, authority.middle], lambda: now_s[0])
    states = []
    for step_s in (0, 20, 41):
        now_s[0] += step_s
        states.append(made.check(authority.passport(iat=int(now_s[0])), CALLER, CALLEE).state)
    assert states[:2] == ["valid", "valid"]
    now_s[0] += 60
    assert made.check(authority.passport(iat=int(now_s[0])), CALLER, CALLEE).state == "bad_chain"


@given(st.text(max_size=300), st.integers(0, 400), st.integers(0, 255))
def test_nothing_that_arrives_raises(authority_once, text, at, byte):
    good, verifier = authority_once
    spoiled = good[:at] + chr(byte) + good[at + 1 :]
    for identity in (text, spoiled):
        check = verifier.check(identity, CALLER, CALLEE)
        assert check.attestation is None or check.state == "valid"


@pytest.fixture(scope="module")
def authority_once(authority):
    chain = [authority.leaf, authority.middle]
    return authority.passport(), PassportVerifier([authority.root], lambda _x5u: chain, lambda: NOW_S)
