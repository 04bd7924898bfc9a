"""Which version of which intent model judges a call here."""

from pathlib import Path

from inference.intent.install import INTENT_MODEL

# Commands name it before they run: heavy imports wait, so that --help answers at once.


def newest_model(language: str | None = None) -> Path:
    """Folder of the version that judges calls in ``language``; None: of the model for all languages."""
    from inference.engine.repository import version_dir
    from inference.intent.install import own_models
    from inference.service.models import default_models_dir

    models_dir = default_models_dir()
    return version_dir(models_dir, own_models(models_dir).get(language or "", INTENT_MODEL))
