import numpy as np
import pytest

from inference.screening.score import SIGNS
from training.screening.fit import Examples, auc, fit

NAMES = list(SIGNS)


def made(rng, num=4000):
    """Calls whose truth follows complaints and heard, and where a bad feature happens to look good."""
    x = rng.exponential(1.0, (num, len(NAMES)))
    odds = 1.5 * x[:, NAMES.index("complaints")] + 2 * x[:, NAMES.index("heard")] - 1.0 * x[:, NAMES.index("night")] - 3
    return Examples(x, (rng.random(num) < 1 / (1 + np.exp(-odds))).astype(float))


def test_weights_are_found_and_no_sign_is_turned():
    model = fit(made(np.random.default_rng(1)), {"what": "made up"})
    assert model.weights["complaints"] == pytest.approx(1.5, abs=0.3)
    assert model.weights["heard"] == pytest.approx(2.0, abs=0.4)
    assert model.weights["night"] == 0.0  # the data say less, the policy says never


def test_the_same_data_are_the_same_version():
    first, again = (fit(made(np.random.default_rng(1)), {"what": "x"}) for _ in range(2))
    assert first == again
    assert fit(made(np.random.default_rng(2)), {"what": "x"}).version != first.version


def test_one_label_alone_teaches_nothing():
    with pytest.raises(ValueError, match="wanted and unwanted"):
        fit(Examples(np.ones((5, len(NAMES))), np.ones(5)), {"what": "x"})


def test_auc_counts_ties_half():
    assert auc(np.array([0.9, 0.5, 0.5, 0.1]), np.array([1.0, 1.0, 0.0, 0.0])) == 0.875
    assert auc(np.array([0.5, 0.5]), np.array([1.0, 0.0])) == 0.5
