"""Where a version may be written: graphs are built of the newest, so that is the one to name."""

import pytest

from inference.errors import ConfigError
from training.intent.version import models_dir_of


def test_the_newest_version_or_the_next_is_where_it_lies(tmp_path):
    for number in (1, 2):
        (tmp_path / "scam_intent_en" / str(number)).mkdir(parents=True)
    for number in (2, 3):
        assert models_dir_of(tmp_path / "scam_intent_en" / str(number)) == tmp_path


@pytest.mark.parametrize(
    ("name", "says"),
    [
        ("scam_intent_en/1", "version 2 lies beside it"),
        ("scam_intent_en/new", "ends in scam_intent/1"),
        ("elsewhere/1", "ends in scam_intent/1"),
    ],
)
def test_any_other_is_refused(tmp_path, name, says):
    (tmp_path / "scam_intent_en" / "2").mkdir(parents=True)
    with pytest.raises(ConfigError, match=says):
        models_dir_of(tmp_path / name)
