"""Fetch one file over HTTP: streamed to ``<name>.part``, resumed with Range, checked, then renamed.

The final name never holds anything but a whole, verified file. An interrupted ``.part`` stays and is resumed by the
next call; a wrong one is deleted.
"""

import ssl
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from urllib.parse import unquote, urlsplit, urlunsplit

import httpx

from inference.errors import WeightsError
from inference.weights.store import CHUNK_BYTES, disk_errors, hash_file

ATTEMPTS = 4
PAUSES_S = (0.5, 1.0, 2.0)
"""Waits between attempts; one fewer than ATTEMPTS."""
_AGAIN = {408, 425, 429, 500, 502, 503, 504}

OnProgress = Callable[[int, int], None]
"""Called with (bytes done, bytes in all or 0)."""


@dataclass(frozen=True, slots=True)
class Wanted:
    """What a download must turn out to be.

    Attributes:
        max_size: most bytes accepted; with ``sha256`` the exact count.
        sha256: of the whole file, or None where only what is made of it can be checked.
    """

    max_size: int
    sha256: str | None


def open_client(cert: str | None = None, *, connect_timeout_s: float = 10.0) -> httpx.Client:
    """An HTTP client: follows redirects, proxies and certificates of the environment, or the CA file ``cert``.

    Raises:
        WeightsError: ``cert`` cannot be read.
    """
    timeout = httpx.Timeout(30.0, connect=connect_timeout_s)
    return httpx.Client(timeout=timeout, follow_redirects=True, verify=_ssl_context(cert))


@cache  # reading the CA file takes .1 s
def _ssl_context(cert: str | None) -> ssl.SSLContext:
    try:
        return ssl.create_default_context(cafile=cert) if cert else httpx.create_ssl_context()
    except OSError as error:
        raise WeightsError(f"cannot read the CA file {cert} of your pip settings: {error.strerror}") from error


def redact(url: str) -> str:
    """The URL without user name, password and query, fit for a message."""
    parts = urlsplit(url)
    return urlunsplit((parts.scheme, parts.netloc.rpartition("@")[2], parts.path, "", ""))


def download(
    client: httpx.Client,
    url: str,
    path: Path,
    wanted: Wanted,
    on_progress: OnProgress,
    *,
    attempts: int = ATTEMPTS,
    sleep: Callable[[float], None] = time.sleep,
) -> None:
    """Fetch ``url`` (http, https or file) to ``path``; returns at once where ``path`` already is that file.

    Raises:
        WeightsError: not reachable, refused, wrong or oversized content, or no space; one line saying what to do.
    """
    if path.exists():
        if wanted.sha256 is not None and hash_file(path) == wanted.sha256:
            return
        path.unlink()  # an unpinned file is fetched anew: nothing says that it is still the published one
    part = path.with_name(path.name + ".part")
    with disk_errors(part):
        path.parent.mkdir(parents=True, exist_ok=True)
    resumed = part.exists()
    _fetch(client, url, part, wanted, on_progress, attempts, sleep)
    if _is_wrong(part, wanted):
        part.unlink()
        if not resumed:
            raise WeightsError(_wrong(path.name, url))
        _fetch(client, url, part, wanted, on_progress, attempts, sleep)  # the old .part was bad: once more, afresh
        if _is_wrong(part, wanted):
            part.unlink()
            raise WeightsError(_wrong(path.name, url))
    with disk_errors(path):
        part.replace(path)


def _is_wrong(part: Path, wanted: Wanted) -> bool:
    return wanted.sha256 is not None and hash_file(part) != wanted.sha256


def _wrong(name: str, url: str) -> str:
    return f"{name} from {redact(url)} does not have the locked sha256 and was deleted; try again or use --from DIR"


class _RetryError(Exception):
    """This attempt failed in a way that another may not."""


def _fetch(
    client: httpx.Client,
    url: str,
    part: Path,
    wanted: Wanted,
    on_progress: OnProgress,
    attempts: int,
    sleep: Callable[[float], None],
) -> None:
    if urlsplit(url).scheme == "file":
        _copy(Path(unquote(urlsplit(url).path)), part, wanted, on_progress)
        return
    for attempt in range(attempts):
        try:
            _fetch_once(client, url, part, wanted, on_progress)
        except _RetryError as error:
            if attempt + 1 < attempts:
                sleep(PAUSES_S[min(attempt, len(PAUSES_S) - 1)])
                continue
            if attempts == 1:
                raise WeightsError(f"cannot reach {_host(url)} ({error})") from error
            raise WeightsError(
                f"{redact(url)} failed {attempts} times ({error}); check the network and pull again: "
                "what has arrived is kept"
            ) from error
        else:
            return


def _host(url: str) -> str:
    return urlsplit(url).netloc.rpartition("@")[2]


def _copy(source: Path, part: Path, wanted: Wanted, on_progress: OnProgress) -> None:
    done = 0
    try:
        reader = source.open("rb")
    except OSError as error:
        raise WeightsError(f"cannot read {source}: {error.strerror}") from error
    with reader, disk_errors(part), part.open("wb") as file:
        while chunk := reader.read(CHUNK_BYTES):
            done += len(chunk)
            _bound(done, wanted, str(source))
            file.write(chunk)
            on_progress(done, wanted.max_size)


def _bound(done: int, wanted: Wanted, where: str) -> None:
    if done > wanted.max_size:
        raise WeightsError(f"{where} is larger than the {wanted.max_size} bytes expected; it is not the file we want")


def _fetch_once(client: httpx.Client, url: str, part: Path, wanted: Wanted, on_progress: OnProgress) -> None:
    have = part.stat().st_size if part.exists() else 0
    if have > wanted.max_size or wanted.sha256 is None:
        have = 0  # without a hash nothing would tell a seam between two versions of the file
    if wanted.sha256 is not None and have == wanted.max_size:
        return
    headers = {"Accept-Encoding": "identity"} | ({"Range": f"bytes={have}-"} if have else {})
    try:
        with client.stream("GET", url, headers=headers) as response:
            if response.status_code == httpx.codes.REQUESTED_RANGE_NOT_SATISFIABLE:
                part.unlink(missing_ok=True)
                raise _RetryError("the server could not resume")
            if response.status_code in _AGAIN:
                raise _RetryError(f"HTTP {response.status_code}")
            if response.status_code not in (httpx.codes.OK, httpx.codes.PARTIAL_CONTENT):
                raise WeightsError(f"{redact(url)} answered HTTP {response.status_code}")
            _receive(response, part, _offset(response, have), wanted, on_progress)
    except httpx.TransportError as error:
        raise _RetryError(type(error).__name__) from error
    except (httpx.HTTPError, httpx.InvalidURL) as error:
        raise WeightsError(f"cannot fetch {redact(url)}: {type(error).__name__}") from error


def _offset(response: httpx.Response, have: int) -> int:
    """Where the body starts: ``have`` if the server resumed there, 0 if it sends the whole file.

    Raises:
        WeightsError: it answered with another range than the one asked for.
    """
    if response.status_code == httpx.codes.OK:
        return 0
    if response.headers.get("content-range", "").startswith(f"bytes {have}-"):
        return have
    raise WeightsError(f"{redact(str(response.url))} resumed at a byte not asked for; delete the .part file")


def _receive(response: httpx.Response, part: Path, at: int, wanted: Wanted, on_progress: OnProgress) -> None:
    length = response.headers.get("content-length", "")
    total = at + int(length) if length.isdecimal() else 0
    _bound(total, wanted, redact(str(response.url)))
    with disk_errors(part), part.open("r+b" if at else "wb") as file:
        file.seek(at)
        for chunk in response.iter_raw():  # as they come: a fixed size would hold back, and lose, what a cut left over
            at += len(chunk)
            _bound(at, wanted, redact(str(response.url)))
            file.write(chunk)
            on_progress(at, total)
    if total and at != total:
        raise _RetryError(f"the connection ended {total - at} bytes early")
    if wanted.sha256 is not None and at < wanted.max_size:
        raise _RetryError(f"the connection ended {wanted.max_size - at} bytes early")
