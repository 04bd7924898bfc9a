"""Who may speak: the synthetic voices, whose they are by split, and those nobody may use here."""

import re
from collections.abc import Collection, Mapping
from typing import Literal

import numpy as np

from inference.audio import Leg
from inference.errors import ConfigError
from training.scripts import Split

Synthesiser = Literal["kokoro", "espeak"]
"""``kokoro``: fluent, and recognised nearly without error. ``espeak``: a robot whose words our recogniser mistakes
somewhat more often than those of real telephone recordings, at a hundredth of the cost."""

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

ESPEAK_VARIANTS: dict[Split, tuple[str, ...]] = {
    "train": ("klatt2", "klatt3", "klatt6", "m1", "m2", "f2", "edward"),
    "dev": ("klatt", "m6", "f5"),
    "test": ("klatt5", "m3", "quincy", "f3"),
}
"""Variants of espeak-ng by split. Word errors of our recogniser on each, over a good line: .29 to .46."""

ESPEAK_ACCENTS = ("en-us", "en-gb", "en-gb-x-rp", "cmn")
ACCENTS_OF = {"en": ESPEAK_ACCENTS[:3], "zh": ESPEAK_ACCENTS[3:]}
"""espeak's accents by the language of a script."""

ESPEAK_PITCH = (25, 50)
"""espeak's scale, 0 to 99; its own 50 and above is understood less well."""

MANDARIN: dict[Split, tuple[str, ...]] = {
    "train": ("zf_xiaobei", "zm_yunjian"),
    "dev": ("zf_xiaoni",),
    "test": ("zm_yunxia",),
}
"""Mandarin voices by split. Four are not reserved, so in development and test calls one voice speaks both legs."""

MANDARIN_CODE = "cmn"
_ESPEAK_NAME = re.compile(r"(?P<accent>[a-z-]+)\+(?P<variant>[a-z0-9]+)@(?P<pitch>\d\d?)")
_LANGUAGES = {"a": "en-us", "b": "en-gb", "z": MANDARIN_CODE}


Gender = Literal["female", "male"]


def draw_voices(synthesiser: Synthesiser, split: Split, rng: np.random.Generator, lang: str = "en") -> tuple[str, str]:
    """Two voices of ``split`` that speak ``lang``, for the far and the near leg; different ones where there are two."""
    if synthesiser == "kokoro":
        voices = (MANDARIN if lang == "zh" else VOICES)[split]
        far, near = rng.choice(voices, 2, replace=len(voices) < 2)
        return str(far), str(near)
    variants = rng.choice(ESPEAK_VARIANTS[split], 2, replace=False)
    accents = rng.choice(ACCENTS_OF[lang], 2)
    pitches = rng.integers(*ESPEAK_PITCH, 2, endpoint=True)
    far, near = (f"{a}+{v}@{p}" for a, v, p in zip(accents, variants, pitches, strict=True))
    return far, near


def babblers_of(synthesiser: Synthesiser, split: Split, taken: Collection[str]) -> tuple[str, ...]:
    """Voices of ``split`` that may talk in the background of a call between ``taken``; they speak English."""
    if synthesiser == "kokoro":
        return tuple(name for name in VOICES[split] if name not in taken)
    taken_variants = {name.partition("+")[2].partition("@")[0] for name in taken}
    free = (name for name in ESPEAK_VARIANTS[split] if name not in taken_variants)
    return tuple(f"{ESPEAK_ACCENTS[0]}+{name}@{ESPEAK_PITCH[1]}" for name in free)


def gender_of(voice: str) -> Gender:
    """What the voice sounds like: Kokoro names it in the second letter, espeak's women are f1, f2 and so on.

    Raises:
        ConfigError: the voice is reserved or unknown.
    """
    if synthesiser_of(voice) == "kokoro":
        return "female" if voice[1] == "f" else "male"
    return "female" if re.search(r"\+f\d", voice) else "male"


def synthesiser_of(voice: str) -> Synthesiser:
    """Whose voice it is.

    Raises:
        ConfigError: the voice is reserved or unknown.
    """
    if "+" in voice:
        espeak_voice(voice)
        return "espeak"
    phoneme_language(voice)
    return "kokoro"


def the_synthesiser(voices: Mapping[Leg, str]) -> Synthesiser:
    """The one whose voices all legs of a call have.

    Raises:
        ConfigError: a voice is reserved or unknown, or two synthesisers are mixed.
    """
    synthesisers = {synthesiser_of(voice) for voice in voices.values()}
    if len(synthesisers) != 1:
        raise ConfigError(f"voices {', '.join(sorted(voices.values()))}: one call is spoken by one synthesiser")
    return synthesisers.pop()


def language_of(voice: str) -> str:
    """ISO 639-1 code of what ``voice`` speaks.

    Raises:
        ConfigError: the voice is reserved or unknown.
    """
    code = espeak_voice(voice)[0] if "+" in voice else phoneme_language(voice)
    return "zh" if code.startswith(MANDARIN_CODE) else "en"


def espeak_voice(voice: str) -> tuple[str, int]:
    """``en-gb+klatt2@35`` -> espeak's own name ``en-gb+klatt2``, pitch 35.

    Raises:
        ConfigError: accent, variant or pitch is unknown.
    """
    match = _ESPEAK_NAME.fullmatch(voice)
    variants = sorted(name for names in ESPEAK_VARIANTS.values() for name in names)
    if match is None or match["accent"] not in ESPEAK_ACCENTS or match["variant"] not in variants:
        raise ConfigError(
            f"voice {voice!r} is unknown; espeak voices are ACCENT+VARIANT@PITCH, with accents "
            f"{', '.join(ESPEAK_ACCENTS)}, variants {', '.join(variants)} and pitches 0 to 99"
        )
    return f"{match['accent']}+{match['variant']}", int(match["pitch"])


def phoneme_language(voice: str) -> str:
    """The language that Kokoro's ``voice`` is phonemised in, e.g. ``en-gb``.

    Raises:
        ConfigError: the voice is reserved, unknown, or of a language we cannot phonemise yet.
    """
    if voice in RESERVED:
        raise ConfigError(
            f"voice {voice} is reserved for the final test; choose one of {', '.join(VOICES['dev'])}, ..."
        )
    known = {name for names in (*VOICES.values(), *MANDARIN.values()) for name in names}
    if voice not in known or voice[0] not in _LANGUAGES:
        raise ConfigError(f"voice {voice!r} is unknown; known: {', '.join(sorted(known))}")
    return _LANGUAGES[voice[0]]
