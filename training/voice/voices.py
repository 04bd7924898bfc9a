"""Who may speak: the synthetic voices, whose they are by split, and those nobody may use here."""

from inference.errors import ConfigError
from training.scripts import Split

RESERVED = frozenset(
    {
        *("af_bella", "af_kore", "af_sarah", "am_michael", "am_onyx", "am_puck", "bf_emma", "bm_lewis"),
        *("zf_xiaoxiao", "zf_xiaoyi", "zm_yunxi", "zm_yunyang"),
    }
)
"""Kept unheard for a final test, so never in training, development or demo recordings: refused, not just unlisted."""

VOICES: dict[Split, tuple[str, ...]] = {
    "train": (
        *("af_alloy", "af_aoede", "af_heart", "af_nicole", "af_sky", "am_adam", "am_fenrir", "am_liam"),
        *("bf_isabella", "bm_george"),
    ),
    "dev": ("af_nova", "af_river", "am_echo", "am_eric", "bf_alice", "bm_daniel"),
    "test": ("af_jessica", "am_santa", "bf_lily", "bm_fable"),
}
"""English voices by split: no voice is heard on both sides of one. Names are Kokoro's: accent, sex, name."""

MANDARIN = ("zf_xiaobei", "zf_xiaoni", "zm_yunjian", "zm_yunxia")
"""Mandarin voices; in no split, because no call is voiced in Mandarin yet."""

MANDARIN_CODE = "cmn"
_LANGUAGES = {"a": "en-us", "b": "en-gb", "z": MANDARIN_CODE}


def phoneme_language(voice: str) -> str:
    """The language that ``voice`` is phonemised in, e.g. ``en-gb``.

    Raises:
        ConfigError: the voice is reserved, unknown, or of a language we cannot phonemise yet.
    """
    if voice in RESERVED:
        raise ConfigError(
            f"voice {voice} is reserved for the final test; choose one of {', '.join(VOICES['dev'])}, ..."
        )
    known = {name for names in (*VOICES.values(), MANDARIN) for name in names}
    if voice not in known or voice[0] not in _LANGUAGES:
        raise ConfigError(f"voice {voice!r} is unknown; known: {', '.join(sorted(known))}")
    return _LANGUAGES[voice[0]]
