"""Subscribers who do not want to be warned: a file of keyed hashes, so that it names nobody who reads it.

One hash a line, ``HMAC-SHA256(key, number)`` in hex, the number as digits with its leading ``+``:

    printf %s +442079460000 | openssl dgst -sha256 -hmac "$KEY"

The file is read again when it changes; nothing has to be restarted.
"""

import hmac
import os
import re
from pathlib import Path

from inference.errors import ConfigError

MAX_FILE_BYTES = 256 * 1024 * 1024
"""Nearly four million subscribers."""

_HASH = re.compile(rb"[0-9a-f]{64}")
_SCHEME = re.compile(r"^(sips?|tel):", re.IGNORECASE)


def normalise_number(number: str) -> str:
    """A number as it is hashed: ``sip:+44 20 7946-0000@host;user=phone`` -> ``+442079460000``.

    A name that is no number keeps its user part in lower case.
    """
    user = re.split(r"[@;]", _SCHEME.sub("", number.strip()))[0]
    digits = re.sub(r"[\s().-]", "", user)
    return digits if re.fullmatch(r"\+?[0-9]+", digits) else user.lower()


class OptOuts:
    """Who opted out.

    Attributes:
        is_kept: whether there is a list at all.

    Args:
        path: the file; None where nobody can.
        key: of the hashes.

    Raises:
        ConfigError: the file cannot be read, or a line is no hash.
    """

    def __init__(self, path: Path | None, key: str = "") -> None:
        self.is_kept = path is not None
        self._path = path
        self._key = key.encode()
        self._hashes: frozenset[bytes] = frozenset()
        self._seen: tuple[int, int, int] | None = None
        self.refresh()

    def __len__(self) -> int:
        return len(self._hashes)

    def covers(self, subscriber: str) -> bool:
        """Whether this subscriber opted out."""
        if not self._hashes:
            return False
        digest = hmac.new(self._key, normalise_number(subscriber).encode("utf-8", "surrogatepass"), "sha256").digest()
        return digest in self._hashes

    def refresh(self) -> None:
        """Read the file again if it changed; large ones take a moment, so not on the event loop.

        Raises:
            ConfigError: it cannot be read, or a line is no hash; what was known stays in force.
        """
        if self._path is None:
            return
        try:
            now = self._path.stat()
            seen = (now.st_mtime_ns, now.st_size, now.st_ino)
            if seen == self._seen:
                return
            if now.st_size > MAX_FILE_BYTES:
                raise ConfigError(f"warnings.opt_out_path {self._path}: more than {MAX_FILE_BYTES} bytes")
            lines = self._path.read_bytes().split(b"\n")
        except OSError as error:
            raise ConfigError(
                f"warnings.opt_out_path {self._path}: {os.strerror(error.errno or 0)}; give a readable file"
            ) from error
        hashes = set()
        for number, line in enumerate(lines, 1):
            text = line.strip().lower()
            if not text or text.startswith(b"#"):
                continue
            if not _HASH.fullmatch(text):
                raise ConfigError(
                    f"warnings.opt_out_path {self._path}: line {number} is no hash: HMAC-SHA256 in hex, one a line"
                )
            hashes.add(bytes.fromhex(text.decode()))
        self._hashes, self._seen = frozenset(hashes), seen
