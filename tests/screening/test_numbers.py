import phonenumbers
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from inference.screening import numbers
from inference.screening.numbers import MAX_NUMBER_CHARACTERS, parse_dialled, parse_number
from tests.thorough import cases


@pytest.mark.parametrize(
    ("text", "region", "kind", "key"),
    [
        ("+8613800138000", "CN", "valid", "8613800138000"),
        ("13800138000", "CN", "valid", "8613800138000"),
        ("008613800138000", "CN", "valid", "8613800138000"),
        ("tel:+8613800138000;phone-context=x", "CN", "valid", "8613800138000"),
        ("<sip:+8613800138000@gateway.example;user=phone>", "CN", "valid", "8613800138000"),
        ("+44 20 7946 0000", "CN", "valid", "442079460000"),
        ("+8611000000000", "CN", "unallocated", "8611000000000"),
        ("+86138001380000000", "CN", "impossible", "86138001380000000"),
        ("110", "CN", "emergency", "110"),
        ("999", "GB", "emergency", "999"),
        ("95588", "CN", "short", "95588"),
        (None, "CN", "withheld", None),
        ("", "CN", "withheld", None),
        ("Anonymous", "CN", "withheld", None),
        ("sip:anonymous@anonymous.invalid", "CN", "withheld", None),
        ("+", "CN", "malformed", None),
        ("call-me", "CN", "malformed", None),
        ("１３８００１３８０００", "CN", "malformed", None),  # full width
        ("+٤٤٢٠٧٩٤٦٠٠٠٠", "GB", "malformed", None),  # Arabic digits
        ("+44\u200b2079460000", "GB", "valid", "442079460000"),  # a zero-width space hides nothing
        ("+999123", "GB", "malformed", None),
        ("1" * 5000, "GB", "malformed", None),
    ],
)
def test_what_a_number_is(text, region, kind, key):
    number = parse_number(text, region)
    assert (number.kind, number.key) == (kind, key)


def test_a_number_knows_its_country():
    assert parse_number("+8613800138000", "GB").country == "CN"
    assert parse_number("+12025550123", "GB").country == "US"


def test_a_number_from_abroad_is_no_emergency_call():
    assert parse_number("+110", "CN").kind != "emergency"


@pytest.mark.parametrize(
    "text",
    [
        "999", "112", "911", "+112", "+44999", "0044999", "+86110", "tel:999;phone-context=+44",
        "sip:112@gateway.example",
        "urn:service:sos", "urn:service:sos.police", "<sip:urn:service:sos>", "URN:SERVICE:SOS",
    ],
)  # fmt: skip
def test_a_call_for_help_is_one_however_it_is_dialled(text):
    assert parse_dialled(text, "GB").kind == "emergency"


@pytest.mark.parametrize(
    "text", ["+442079460000", "9991", "bob112", "urn:service:sosnot", "+8613800138000", "", "+441129", "112" * 20]
)
def test_other_calls_are_no_calls_for_help(text):
    assert parse_dialled(text, "GB") == parse_number(text, "GB")
    assert parse_dialled(text, "GB").kind != "emergency"


@given(st.text(max_size=200) | st.from_regex(r"\A\+?[0-9*#() -]{0,30}\Z"), st.sampled_from(["GB", "CN", "US"]))
def test_any_text_is_some_kind_of_number(text, region):
    number = parse_number(text, region)
    assert parse_dialled(text, region).kind in (number.kind, "emergency")
    key = number.key
    assert key is None or (key.isascii() and key.isdecimal() and len(key) <= MAX_NUMBER_CHARACTERS)
    if number.kind == "valid":
        assert parse_number(f"+{key}", region) == parse_number(f"tel:+{key}", region)
        assert parse_number(f"+{key}", region).key == key


def numbers_of(code, examples):
    """Numbers behind a country code: examples of its plan, changed a little, and any digits."""
    return st.one_of(
        st.builds(
            lambda text, tail: text[: len(text) - len(tail)] + tail, st.sampled_from(examples), st.text(D, max_size=4)
        ),
        st.text(D, min_size=3, max_size=13).map(lambda digits: f"+{code}{digits}"),
    )


D = "0123456789"
EXAMPLES = {}
for _code, _regions in phonenumbers.COUNTRY_CODE_TO_REGION_CODE.items():
    _found = [phonenumbers.example_number(r) for r in _regions if r != "001"]
    EXAMPLES[_code] = [phonenumbers.format_number(n, phonenumbers.PhoneNumberFormat.E164) for n in _found if n] or [
        f"+{_code}12345678"
    ]


@settings(max_examples=cases(400, 1500), deadline=None)
@given(st.sampled_from(sorted(EXAMPLES)).flatmap(lambda code: numbers_of(code, EXAMPLES[code])))
def test_the_short_way_reads_what_the_library_reads(text):
    is_read_alike(text)


def is_read_alike(text):
    """Whether the short way was taken; it read what the library reads."""
    short = numbers._read_e164(text)
    if short is None:
        return False
    assert short == phonenumbers.parse(text, "GB")
    assert phonenumbers.format_number(short, phonenumbers.PhoneNumberFormat.E164) == text
    return True


def test_the_short_way_is_the_usual_one_in_every_country():
    taken = [is_read_alike(text) for texts in EXAMPLES.values() for text in texts]
    assert sum(taken) > 0.9 * len(taken)
