"""What a candidate keeps of the champion's weights."""

import numpy as np

from training.retrain.trainer import _between


def half(*values: float) -> np.ndarray:
    return np.array(values, np.float16)


def test_a_candidate_lies_between_what_it_was_tuned_to_and_the_champion() -> None:
    tuned = {"head.llr.bias": half(1.0, -2.0), "head.look.age": half(0.5)}
    champion = {"head.llr.bias": half(0.0, 2.0), "head.look.age": half(0.5, 0.5), "gone": half(9.0)}
    found = _between(tuned, champion, 0.25)
    assert {name: value.tolist() for name, value in found.items()} == {
        "head.llr.bias": [0.75, -1.0],
        "head.look.age": [0.5],  # of another shape in the champion: learnt anew
    }
    assert {value.dtype for value in found.values()} == {np.dtype(np.float16)}
    assert _between(tuned, champion, 0.0)["head.llr.bias"].tolist() == tuned["head.llr.bias"].tolist()
