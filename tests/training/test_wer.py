"""Word error rate: what counts as the same words."""

import pytest

from training import wer as score


@pytest.mark.parametrize(
    ("spoken", "written"),
    [
        ("four hundred and eighty pounds", "£480"),
        ("twelve hundred dollars", "$1,200"),
        ("twenty two pounds, please", "22 pounds please."),
        ("four two nine one", "4291"),
        ("two thousand and five", "2005"),
        ("one hundred twenty three thousand", "123,000"),
        ("eight thirty", "8:30"),
        ("ten percent", "10%"),
        ("All right. I don't!", "alright i dont"),
        ("Mr Hale", "Mister Hale"),
        ("请拨打九五五八八。", "請撥打95588"),
    ],
)
def test_the_same_words(spoken, written):
    assert score.word_errors(spoken, written)[0] == 0


@pytest.mark.parametrize(
    ("reference", "hypothesis", "errors", "count"),
    [
        ("", "", 0, 0),
        ("a b c", "", 3, 3),
        ("", "a b", 2, 0),
        ("read me the code", "read the coat", 2, 4),
        ("one two", "one and two", 1, 2),
        ("four hundred", "four", 2, 3),
        ("验证码给我", "验证吗", 3, 5),
    ],
)
def test_errors_are_counted(reference, hypothesis, errors, count):
    assert score.word_errors(reference, hypothesis) == (errors, count)
