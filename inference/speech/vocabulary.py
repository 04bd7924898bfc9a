"""Whisper's tokens: which ids steer it, which are words, which it must never say."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Self

from tokenizers import Tokenizer

from inference.errors import WeightsError

# Marks of music, speakers and layout that subtitles hold and speech does not.
# Source: openai/whisper, tokenizer.py, `non_speech_tokens`.
_SYMBOLS = (
    *'"#()*+/:;<=>@[\\]^_`{|}~「」『』',
    *"<< >> <<< >>> -- --- -( -[ (' (\" (( )) ((( ))) [[ ]] {{ }} ♪♪ ♪♪♪".split(),  # noqa: SIM905 (as readable as it gets)
)
_MUSIC = "♩♪♫♬♭♮♯"
_FIRST_SPECIAL = "<|endoftext|>"
_NOT_LANGUAGES = {"endoftext", "startoftranscript", "translate", "transcribe", "startoflm", "startofprev", "nospeech"}


@dataclass(frozen=True, slots=True)
class Vocabulary:
    """Token ids of one multilingual Whisper.

    Attributes:
        size: rows of its embedding.
        end: the transcript is over; every id from here on is special, those below are text.
        start, transcribe, no_timestamps: the prompt, with a language after ``start``.
        no_speech: probable after ``start`` where nobody speaks.
        languages: ISO 639 code -> id, in Whisper's order (by amount of training data).
        suppressed: text ids never chosen.
        suppressed_first: ids never chosen first: a lone space, and ``end`` (an empty transcript).
    """

    size: int
    end: int
    start: int
    transcribe: int
    no_timestamps: int
    no_speech: int
    languages: Mapping[str, int]
    suppressed: tuple[int, ...]
    suppressed_first: tuple[int, ...]
    language_of: Mapping[int, str] = field(init=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "language_of", {token: code for code, token in self.languages.items()})

    @classmethod
    def from_tokenizer(cls, tokenizer: Tokenizer) -> Self:
        """Read the ids from a multilingual Whisper's ``tokenizer.json``.

        Raises:
            WeightsError: it is some other tokenizer.
        """

        def special(*names: str) -> int:
            for name in names:
                if (token := tokenizer.token_to_id(f"<|{name}|>")) is not None:
                    return int(token)
            raise WeightsError(f"tokenizer has no <|{names[0]}|>: not multilingual Whisper's; run: scamtap models pull")

        def encode(text: str) -> list[int]:
            return list(tokenizer.encode(text, add_special_tokens=False).ids)

        end, start, transcribe = special("endoftext"), special("startoftranscript"), special("transcribe")
        translate = special("translate")
        languages = {}
        for token in range(start + 1, translate):
            code = str(tokenizer.id_to_token(token)).strip("<|>")
            if code in _NOT_LANGUAGES:
                raise WeightsError("tokenizer orders its tokens unlike Whisper's; run: scamtap models pull")
            languages[code] = token
        suppressed = {encode(" -")[0], encode(" '")[0]}
        for symbol in (*_SYMBOLS, *_MUSIC):
            for ids in (encode(symbol), encode(" " + symbol)):
                if len(ids) == 1 or symbol in _MUSIC:
                    suppressed.add(ids[0])
        return cls(
            size=tokenizer.get_vocab_size(),
            end=end,
            start=start,
            transcribe=transcribe,
            no_timestamps=special("notimestamps"),
            no_speech=special("nospeech", "nocaptions"),  # two names were published for it
            languages=languages,
            suppressed=tuple(sorted(suppressed)),
            suppressed_first=(encode(" ")[0], end),
        )

    def prompt(self, language: str) -> tuple[int, int, int]:
        """Ids after ``start`` that ask for a plain transcript in ``language``.

        Raises:
            KeyError: Whisper does not know the language.
        """
        return self.languages[language], self.transcribe, self.no_timestamps
