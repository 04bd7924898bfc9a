import json
from datetime import UTC, datetime

from cloudevents.core.bindings.http import HTTPMessage, from_structured_event
from hypothesis import given
from hypothesis import strategies as st

from inference.alerts.notice import CONTENT_TYPE, Notice

AT_S = datetime(2026, 3, 4, 5, 6, 7, 890_000, UTC).timestamp()
values = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**53), 2**53) | st.text(st.characters(codec="utf-8"), max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=8,
)


def read_by_the_reference(notice: Notice):
    body = notice.sealed("https://ops.test/scamtap").body
    return from_structured_event(HTTPMessage({"content-type": CONTENT_TYPE}, body.encode()))


def test_the_cloudevents_library_reads_what_we_write():
    event = read_by_the_reference(Notice("alert", "alr_1", "call-1", AT_S, {"level": "danger", "family": "保"}))
    assert (event.get_specversion(), event.get_id(), event.get_type()) == ("1.0", "alr_1", "org.scamtap.alert.v1")
    assert (event.get_source(), event.get_subject()) == ("https://ops.test/scamtap", "call-1")
    assert event.get_time() == datetime(2026, 3, 4, 5, 6, 7, 890_000, UTC)
    assert event.get_datacontenttype() == "application/json"
    assert event.get_data() == {"level": "danger", "family": "保"}


@given(st.dictionaries(st.text(st.characters(codec="utf-8"), max_size=5), values, max_size=4), st.floats(0, 4e9))
def test_any_data_at_any_time_comes_back(data, at_s):
    event = read_by_the_reference(Notice("feedback", "f_1", "call-1", at_s, data))
    assert event.get_data() == data
    assert abs(event.get_time().timestamp() - at_s) < 0.0011
    assert event.get_type() == "org.scamtap.feedback.v1"


def test_what_is_no_text_does_not_stop_the_rest():
    body = Notice("feedback", "f_1", "call-1", AT_S, {"answer": "\ud800"}).sealed("/scamtap").body
    assert json.loads(body.encode())["data"]["answer"] == "\ud800"


def test_a_body_is_one_line_whatever_is_in_it():
    envelope = Notice("alert", "alr_1", "call-1", AT_S, {"text": "one\ntwo\u2028three\r"}).sealed("/scamtap")
    assert "\n" not in envelope.body
    assert json.loads(envelope.body)["data"]["text"] == "one\ntwo\u2028three\r"
