"""Which intent models lie in a repository, and which language each judges."""

import pytest

from inference.intent.install import intent_models, model_of, own_models


def put(models_dir, *names):
    for name in names:
        (models_dir / name / "1").mkdir(parents=True)
        (models_dir / name / "1" / "encoder.json").write_text("{}")


def test_a_model_named_after_a_language_is_that_languages_own(tmp_path):
    put(tmp_path, "scam_intent", "scam_intent_en", "scam_intent_zh")
    assert own_models(tmp_path) == {"en": "scam_intent_en", "zh": "scam_intent_zh"}
    assert intent_models(tmp_path) == ("scam_intent", "scam_intent_en", "scam_intent_zh")


@pytest.mark.parametrize("name", ["scam_intent_eng", "scam_intent_en.retired", "scam_gate", "other_en", "scam_intent_"])
def test_what_is_named_otherwise_is_none(name, tmp_path):
    put(tmp_path, "scam_intent", name)
    assert own_models(tmp_path) == {}


def test_a_folder_without_a_version_is_none(tmp_path):
    put(tmp_path, "scam_intent")
    (tmp_path / "scam_intent_en").mkdir()
    assert own_models(tmp_path) == {}
    assert own_models(tmp_path / "nowhere") == {}


def test_a_version_that_lacks_files_is_not_passed_over(tmp_path):
    put(tmp_path, "scam_intent")
    (tmp_path / "scam_intent_en" / "2").mkdir(parents=True)
    assert own_models(tmp_path) == {"en": "scam_intent_en"}


def test_a_repository_may_hold_a_model_under_another_name(tmp_path):
    put(tmp_path, "fraud", "fraud_es", "scam_intent_en")
    assert intent_models(tmp_path, "fraud") == ("fraud", "fraud_es")


@pytest.mark.parametrize(
    ("folders", "name"),
    [("scam_intent_en/3", "scam_intent_en"), ("scam_intent/1", "scam_intent"), ("elsewhere/new", "scam_intent")],
)
def test_a_version_folder_says_of_which_model_it_is(folders, name, tmp_path):
    assert model_of(tmp_path / folders) == name
