"""One canonical ``tokenizer.json`` for Whisper, whichever library version wrote the one that came.

The same tokenizer is published in many spellings: indented or not, merges as ``"a b"`` or ``["a", "b"]``, defaults
written out or left out. What decides its behaviour is the vocabulary, the merges in order and the added tokens; these
are kept, and all else is what every Whisper tokenizer has (byte-level BPE, openai/whisper ``tokenizer.py``). Padding
and truncation are left out on purpose: they belong to the caller.
"""

import json
import re
from pathlib import Path
from typing import Any

from inference.errors import WeightsError

MAX_JSON_BYTES = 32 << 20
_TIMESTAMP = re.compile(r"<\|\d+\.\d\d\|>")


def read_json(path: Path) -> dict[str, Any]:
    """Read a downloaded JSON object.

    Raises:
        WeightsError: missing, above 32 MiB, not JSON, or not an object.
    """
    try:
        if path.stat().st_size > MAX_JSON_BYTES:
            raise WeightsError(f"{path.name} is above {MAX_JSON_BYTES} bytes; this is not the file expected")
        value = json.loads(path.read_bytes())
    except OSError as error:
        raise WeightsError(f"{path.name} is missing beside the weights ({error.strerror})") from error
    except (ValueError, RecursionError) as error:
        raise WeightsError(f"{path.name} is not valid JSON") from error
    if not isinstance(value, dict):
        raise WeightsError(f"{path.name} is not a JSON object")
    return value


def canonical_json(value: dict[str, Any]) -> bytes:
    """Keys sorted, no spaces, UTF-8, a newline at the end."""
    text = json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
    return text.encode("utf-8", errors="surrogatepass") + b"\n"


def whisper_tokenizer(source: dict[str, Any]) -> tuple[bytes, dict[str, int]]:
    """Canonicalise a Whisper ``tokenizer.json``.

    Returns:
        The canonical file, and the added tokens (content -> id).

    Raises:
        WeightsError: ``source`` is not a byte-level BPE tokenizer with Whisper's special tokens.
    """
    try:
        vocab = {str(token): int(token_id) for token, token_id in source["model"]["vocab"].items()}
        merges = [_merge(merge) for merge in source["model"]["merges"]]
        added = {str(token["content"]): int(token["id"]) for token in source["added_tokens"]}
        specials = {name: added[name] for name in ("<|startoftranscript|>", "<|notimestamps|>", "<|endoftext|>")}
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise WeightsError("tokenizer.json is not a Whisper tokenizer") from error
    byte_level = {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True, "use_regex": True}
    sot, no_timestamps, eot = specials
    head = [_special(sot, 0), _special(no_timestamps, 0), {"Sequence": {"id": "A", "type_id": 0}}]
    tokenizer = {
        "version": "1.0",
        "truncation": None,
        "padding": None,
        "added_tokens": [
            {
                "id": token_id,
                "content": content,
                "single_word": False,
                "lstrip": False,
                "rstrip": False,
                "normalized": False,
                "special": _TIMESTAMP.fullmatch(content) is None,
            }
            for content, token_id in sorted(added.items(), key=lambda item: item[1])
        ],
        "normalizer": None,
        "pre_tokenizer": byte_level,
        "post_processor": {
            "type": "TemplateProcessing",
            "single": [*head, _special(eot, 0)],
            "pair": [*head, {"Sequence": {"id": "B", "type_id": 1}}, _special(eot, 1)],
            "special_tokens": {n: {"id": n, "ids": [i], "tokens": [n]} for n, i in specials.items()},
        },
        "decoder": byte_level | {"add_prefix_space": True},
        "model": {
            "type": "BPE",
            "dropout": None,
            "unk_token": None,
            "continuing_subword_prefix": "",
            "end_of_word_suffix": "",
            "fuse_unk": False,
            "byte_fallback": False,
            "vocab": vocab,
            "merges": merges,
        },
    }
    return canonical_json(tokenizer), added


def _merge(merge: object) -> str:
    parts = merge.split(" ") if isinstance(merge, str) else merge
    if not isinstance(parts, list) or len(parts) != 2:
        raise ValueError("a merge has two parts")
    return f"{parts[0]} {parts[1]}"


def _special(content: str, type_id: int) -> dict[str, Any]:
    return {"SpecialToken": {"id": content, "type_id": type_id}}
