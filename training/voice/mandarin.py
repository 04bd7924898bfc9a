"""Mandarin text as Kokoro's phonemes: words by jieba, readings by pypinyin, both through misaki, as it was trained."""

import functools
import logging
import warnings
from typing import Any

from inference.errors import ScamTapError


@functools.cache
def _converter() -> Any:
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # jieba's source is older than today's Python
            import jieba
            from misaki import zh
    except ImportError as error:
        raise ScamTapError("Mandarin phonemes need misaki[zh], which is not installed; run: make install-train") from (
            error
        )
    jieba.setLogLevel(logging.WARNING)
    return zh.ZHG2P()


def phonemes(text: str) -> str:
    """Phonemes of simplified Chinese text, tones as arrows.

    Raises:
        ScamTapError: misaki is not installed.
    """
    said, _ = _converter()(text)
    return str(said)
