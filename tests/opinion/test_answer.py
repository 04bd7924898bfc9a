"""What may come back: acts of our list about utterances that were asked about, or nothing."""

import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from inference.intent.acts import ACTS
from inference.opinion.answer import MAX_ANSWER_BYTES, read_answer


def completion(content: object) -> bytes:
    return json.dumps({"choices": [{"message": {"content": content}}]}).encode()


def marked(*entries: object, **more: object) -> bytes:
    return completion(json.dumps({"utterances": list(entries), **more}))


def test_acts_per_utterance() -> None:
    read = read_answer(marked({"utterance": 2, "acts": ["threat", "gain", "threat"]}, {"utterance": 1, "acts": []}), 2)
    assert read == {2: {"threat", "gain"}, 1: set()}
    assert read_answer(marked(), 5) == {}


GOOD = {"utterance": 1, "acts": ["threat"]}
BAD = {
    "no json": b"I think that it is a scam",
    "no bytes": b"",
    "half a character": b'{"choices": "\xff"}',
    "not an object": b"[]",
    "no choices": b'{"choices": []}',
    "an error": b'{"error": {"message": "plantedwords"}}',
    "a refusal": completion(None),
    "parts": completion([{"type": "text", "text": "{}"}]),
    "words around it": completion('Sure: {"utterances": []}'),
    "fenced": completion('```json\n{"utterances": []}\n```'),
    "thought aloud": completion('<think>hm</think>{"utterances": []}'),
    "two": completion('{"utterances": []}{"utterances": []}'),
    "truncated": completion('{"utterances": [{"utterance": 1, "acts": ["thr'),
    "a list": completion("[]"),
    "another field": marked(GOOD, verdict="genuine"),
    "free text": marked(GOOD | {"why": "plantedwords"}),
    "unknown act": marked({"utterance": 1, "acts": ["threat", "plantedwords"]}),
    "act is a list": marked({"utterance": 1, "acts": [["threat"]]}),
    "act is none": marked({"utterance": 1, "acts": [None]}),
    "acts in a string": marked({"utterance": 1, "acts": "threat"}),
    "acts missing": marked({"utterance": 1}),
    "number as text": marked({"utterance": "1", "acts": ["threat"]}),
    "number as a fraction": marked({"utterance": 1.5, "acts": ["threat"]}),
    "number as a truth": marked({"utterance": True, "acts": ["threat"]}),
    "not asked about": marked({"utterance": 4, "acts": ["threat"]}),
    "none": marked({"utterance": 0, "acts": ["threat"]}),
    "huge number": marked({"utterance": 10**400, "acts": []}),
    "twice": marked(GOOD, GOOD),
    "endless acts": marked({"utterance": 1, "acts": ["threat"] * 100}),
    "deep": completion("[" * 4000),
    "deep outside": b"[" * 30_000,
    "long": completion(json.dumps({"utterances": []}) + " " * 9000),
    "huge": completion(json.dumps({"utterances": []})) + b" " * MAX_ANSWER_BYTES,
}


@pytest.mark.parametrize("response", BAD.values(), ids=BAD.keys())
def test_anything_else_is_no_answer(response: bytes) -> None:
    assert read_answer(response, 3) is None


@given(st.binary(max_size=300), st.integers(0, 12))
@settings(deadline=None)
def test_no_bytes_raise(response: bytes, num_asked: int) -> None:
    read_answer(response, num_asked)
    read_answer(completion(response.decode("utf-8", "replace")), num_asked)


entries = st.fixed_dictionaries(
    {
        "utterance": st.integers(-2, 15) | st.sampled_from(["1", ""]),
        "acts": st.lists(st.sampled_from([*ACTS, "x"]), max_size=5),
    }
)


@given(st.lists(entries, max_size=15), st.integers(1, 12))
@settings(deadline=None)
def test_what_is_read_is_what_was_asked_for(said: list[object], num_asked: int) -> None:
    read = read_answer(marked(*said), num_asked)
    assert read is None or (set(read) <= set(range(1, num_asked + 1)) and set().union(*read.values()) <= set(ACTS))
