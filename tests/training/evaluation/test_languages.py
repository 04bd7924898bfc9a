"""Which calls a version is measured on where languages have models of their own, and what judges them meanwhile."""

import pytest

from inference.errors import ConfigError
from inference.intent.install import own_models
from training.evaluation.run import languages_of, settings_of
from training.retrain.command import _champion


def put(models_dir, name, calibration, version="1"):
    """A version that says which languages it was trained on; nothing here loads it."""
    folder = models_dir / name / version
    folder.mkdir(parents=True)
    for file in ("head.safetensors", "encoder.json"):
        (folder / file).write_text("{}")
    (folder / "calibration.json").write_text(calibration.model_dump_json())
    return folder


@pytest.fixture
def both(doubles):
    """What a model for English and Mandarin was calibrated with."""
    return doubles.CALIBRATION.model_copy(update={"languages": ("en", "zh")})


@pytest.fixture
def here(tmp_path, both, monkeypatch):
    """This machine's repository: English has a model of its own."""
    general, own = (put(tmp_path / "here", name, both) for name in ("scam_intent", "scam_intent_en"))
    for module in ("training.evaluation.run", "inference.service.models"):
        monkeypatch.setattr(f"{module}.default_models_dir", lambda: tmp_path / "here")
    return general, own


def test_a_language_s_own_model_is_measured_on_its_calls_and_the_general_one_on_the_others(here):
    general, own = here
    assert (languages_of(general), languages_of(own)) == (("zh",), ("en",))


def test_a_general_candidate_judges_every_language_by_itself(here, tmp_path, both):
    candidate = put(tmp_path / "run" / "models", "scam_intent", both)
    assert languages_of(candidate) == ("en", "zh")
    with settings_of(candidate) as settings:
        assert own_models(settings.models_dir) == {}
    with settings_of(here[0]) as settings:
        assert own_models(settings.models_dir) == {"en": "scam_intent_en"}


def test_a_candidate_of_a_language_stands_beside_the_general_model_of_this_machine(here, tmp_path, both):
    candidate = put(tmp_path / "run" / "models", "scam_intent_en", both)
    with settings_of(candidate) as settings:
        assert own_models(settings.models_dir) == {"en": "scam_intent_en"}
        assert (settings.models_dir / "scam_intent_en" / "1").resolve() == candidate
        assert (settings.models_dir / "scam_intent").resolve() == here[0].parent


def test_calls_are_learnt_by_the_model_that_judges_them(here):
    general, own = here
    assert (_champion(None, {"en"}), _champion(None, {"zh"}), _champion(own, {"en"})) == (own, general, own)
    with pytest.raises(ConfigError, match="one language at a time"):
        _champion(None, {"en", "zh"})
    with pytest.raises(ConfigError, match="does not judge calls in zh"):
        _champion(own, {"zh"})
