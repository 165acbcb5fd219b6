"""The Hugging Face hub and git-lfs, each over the loopback interface, and object stores in general."""

from __future__ import annotations

import hashlib
import importlib.util
import json
import random
import sys
from types import SimpleNamespace
from typing import TYPE_CHECKING

import pytest

from jukebox_core.errors import ConfigError, DownloadError
from jukebox_core.models.config import FileSpec
from jukebox_core.models.download import fetch, ranges, transfer
from jukebox_core.models.download.fetch import fetch_file
from jukebox_core.models.download.object_stores import ObjectSource
from jukebox_core.models.download.sources import source_for
from jukebox_core.models.records import Records
from tests.helpers.servers.servers import Site, serving

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

CONTENT = random.Random(2).randbytes(300_000)
SHA256 = hashlib.sha256(CONTENT).hexdigest()
NAME = "model.bin"
EXACT = FileSpec(path=NAME, bytes=len(CONTENT), sha256=SHA256)
UNKNOWN = FileSpec(path=NAME)
REPOSITORY = "openai/jukebox-1b-lyrics"
POINTER = f"version https://git-lfs.github.com/spec/v1\noid sha256:{SHA256}\nsize {len(CONTENT)}\n".encode()


@pytest.fixture(autouse=True)
def _small_blocks_without_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fetch, "PAUSES", (0.0, 0.0))
    monkeypatch.setenv("no_proxy", "*")


@pytest.fixture
def store() -> Iterator[Site]:
    """Where the bytes are: a store behind the hub or the git-lfs server."""
    with serving({NAME: CONTENT, "other": CONTENT[::-1]}) as site:
        site.accept_ranges = True
        yield site


@pytest.fixture
def hub(store: Site, monkeypatch: pytest.MonkeyPatch) -> Iterator[Site]:
    with serving({}) as site:
        for revision in ("main", "v2"):
            headers = {"X-Linked-Etag": f'"{SHA256}"', "X-Repo-Commit": "c0ffee"}
            site.redirects[f"/{REPOSITORY}/resolve/{revision}/{NAME}"] = (f"{store.url}/{NAME}?sig=1", headers)
        monkeypatch.setenv("HF_ENDPOINT", site.url)
        monkeypatch.setenv("HF_TOKEN", "secret")
        yield site


def test_the_hub_redirects_to_the_bytes_and_the_token_is_sent_to_the_hub_only(
    hub: Site, store: Site, tmp_path: Path
) -> None:
    assert fetch_file(UNKNOWN, [f"hf://{REPOSITORY}"], tmp_path).read_bytes() == CONTENT
    assert Records(tmp_path).read()[NAME].source == f"hf://{REPOSITORY}@main"
    assert hub.seen[0]["Authorization"] == "Bearer secret"
    assert all("Authorization" not in headers for headers in store.seen)


@pytest.mark.parametrize(
    ("variables", "file"),
    [
        ({"HUGGING_FACE_HUB_TOKEN": "secret"}, None),
        ({"HF_TOKEN_PATH": "here/file"}, "here/file"),
        ({"HF_HOME": "home"}, "home/token"),
        ({"XDG_CACHE_HOME": "cache"}, "cache/huggingface/token"),
        ({}, ".cache/huggingface/token"),
    ],
    ids=lambda case: "-".join(case) if isinstance(case, dict) else "",
)
def test_the_token_of_a_login_is_found_and_sent_to_the_hub_only(
    hub: Site,
    store: Site,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    variables: dict[str, str],
    file: str | None,
) -> None:
    monkeypatch.setitem(sys.modules, "huggingface_hub", None)  # it reads the environment once, when it is imported
    for name in ("HF_TOKEN", "HUGGING_FACE_HUB_TOKEN", "HF_TOKEN_PATH", "HF_HOME", "XDG_CACHE_HOME"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HOME", str(tmp_path))
    for name, value in variables.items():
        monkeypatch.setenv(name, value if file is None else str(tmp_path / value))
    if file is not None:
        fetch_file(UNKNOWN, [f"hf://{REPOSITORY}"], tmp_path / "without")
        assert "Authorization" not in hub.seen.pop()
        (tmp_path / file).parent.mkdir(parents=True)
        (tmp_path / file).write_text("secret\n")
    fetch_file(UNKNOWN, [f"hf://{REPOSITORY}"], tmp_path / "with")
    assert [headers["Authorization"] for headers in hub.seen] == ["Bearer secret"]
    assert store.seen
    assert all("Authorization" not in headers for headers in store.seen)


def test_huggingface_hub_is_asked_for_the_token_where_it_is_installed(
    hub: Site, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "huggingface_hub", SimpleNamespace(get_token=lambda: "its own"))
    fetch_file(UNKNOWN, [f"hf://{REPOSITORY}"], tmp_path)
    assert hub.seen[0]["Authorization"] == "Bearer its own"


def test_the_hub_serves_ranges_and_revisions(
    hub: Site, store: Site, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(transfer, "RANGES_FROM", 50_000)
    monkeypatch.setattr(ranges, "SMALLEST_BLOCK", 50_000)
    store.etag = None  # the hub's digest distinguishes versions
    assert fetch_file(UNKNOWN, [f"hf://{REPOSITORY}@v2"], tmp_path).read_bytes() == CONTENT
    assert len(store.requests) == 6
    assert all(path.startswith(f"/{REPOSITORY}/resolve/v2/") for path, _ in hub.requests)


def test_the_digest_that_the_hub_states_is_required_even_at_first_use(hub: Site, store: Site, tmp_path: Path) -> None:
    store.flip_bit = 77
    with pytest.raises(DownloadError, match=f"sent a file with sha256 [0-9a-f]+, but stated {SHA256}"):
        fetch_file(UNKNOWN, [f"hf://{REPOSITORY}"], tmp_path)
    assert not (tmp_path / NAME).exists()


def test_a_stores_md5_is_required_at_first_use(store: Site, tmp_path: Path) -> None:
    store.headers["Content-MD5"] = "ZmZmZmZmZmZmZmZmZmZmZg=="
    with pytest.raises(DownloadError, match="sent a file with md5"):
        fetch_file(UNKNOWN, [store.url], tmp_path)


def lfs_server(store: Site, **changes: object) -> Iterator[Site]:
    def batch(path: str, body: bytes) -> bytes:
        sent = json.loads(body)
        [wanted] = sent["objects"]
        assert path == "/owner/repository.git/info/lfs/objects/batch"
        assert sent["operation"] == "download"
        if wanted != {"oid": SHA256, "size": len(CONTENT)}:
            error = {"code": 404, "message": "Object does not exist"}
            return json.dumps({"objects": [{**wanted, "error": error}]}).encode()
        action = {"href": f"{store.url}/{NAME}", "header": {"X-Signed": "yes"}, **changes}
        return json.dumps({"transfer": "basic", "objects": [{**wanted, "actions": {"download": action}}]}).encode()

    with serving({NAME: POINTER, "wrong": POINTER.replace(b"size 3", b"size 4"), "text": b"hello"}) as site:
        site.post = batch
        yield site


@pytest.fixture
def lfs(store: Site) -> Iterator[Site]:
    yield from lfs_server(store)


def test_git_lfs_needs_no_git(lfs: Site, store: Site, tmp_path: Path) -> None:
    address = f"lfs+{lfs.url}/owner/repository.git"
    assert fetch_file(EXACT, [address], tmp_path / "a").read_bytes() == CONTENT
    assert lfs.seen[0]["Accept"] == "application/vnd.git-lfs+json"
    assert store.seen[0]["X-Signed"] == "yes"
    assert fetch_file(UNKNOWN, [f"{address}#{lfs.url}"], tmp_path / "b").read_bytes() == CONTENT
    assert Records(tmp_path / "b").read()[NAME].source == address


def test_git_lfs_faults_are_errors(lfs: Site, store: Site, tmp_path: Path) -> None:
    address = f"lfs+{lfs.url}/owner/repository.git"
    for spec, source, message in (
        (UNKNOWN, address, "is asked by sha256 and size, which are not known of model.bin"),
        (FileSpec(path="text"), f"{address}#{lfs.url}", "holds no git-lfs pointer for text"),
        (FileSpec(path="wrong"), f"{address}#{lfs.url}", "404 Object does not exist"),
        (FileSpec(path="gone"), f"{address}#{lfs.url}", "HTTP 404"),
    ):
        with pytest.raises(DownloadError, match=message):
            fetch_file(spec, [source], tmp_path)
    lfs.post = lambda *_: b'{"objects": []}'
    with pytest.raises(DownloadError, match="answered what the protocol does not know"):
        fetch_file(EXACT, [address], tmp_path)
    store.files[NAME] = CONTENT[::-1]


def test_an_lfs_address_that_leaves_the_web_is_refused(store: Site, tmp_path: Path) -> None:
    for site in lfs_server(store, href="file:///etc/passwd"):
        with pytest.raises(DownloadError, match="which is not on the web"):
            fetch_file(EXACT, [f"lfs+{site.url}/owner/repository.git"], tmp_path)


def test_a_pointer_is_not_taken_for_the_file(lfs: Site, tmp_path: Path) -> None:
    with pytest.raises(DownloadError, match="answered with a git-lfs pointer instead of the file"):
        fetch_file(UNKNOWN, [lfs.url], tmp_path)


def test_a_store_of_fsspec_is_read_in_ranges_and_resumed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import fsspec

    memory = fsspec.filesystem("memory")
    memory.pipe("/models/jukebox/model.bin", CONTENT)
    monkeypatch.setattr(fetch, "source_for", ObjectSource)
    monkeypatch.setattr(transfer, "RANGES_FROM", 50_000)
    monkeypatch.setattr(ranges, "SMALLEST_BLOCK", 50_000)
    base = "memory://models/jukebox"
    assert fetch_file(EXACT, [base], tmp_path / "a").read_bytes() == CONTENT
    (tmp_path / "b").mkdir()
    (tmp_path / "b" / f"{NAME}.part").write_bytes(CONTENT[:100_000])
    assert fetch_file(EXACT, [base], tmp_path / "b").read_bytes() == CONTENT
    memory.pipe("/models/jukebox/model.bin", CONTENT[::-1])
    with pytest.raises(DownloadError, match=f"{base}: sent a file with sha256"):
        fetch_file(EXACT, [base], tmp_path / "c")
    with pytest.raises(DownloadError, match=f"{base}: has no such file"):
        fetch_file(FileSpec(path="none"), [base], tmp_path)


@pytest.mark.parametrize(("address", "package"), [("gs://b/x", "gcsfs"), ("az://b/x", "adlfs")])
def test_a_store_whose_package_is_missing_is_an_error(address: str, package: str, tmp_path: Path) -> None:
    if importlib.util.find_spec(package):
        pytest.skip(f"{package} is installed")
    with pytest.raises(DownloadError, match=f"pip install {package}"):
        fetch_file(EXACT, [address], tmp_path)


@pytest.mark.parametrize("address", ["hf://owner", "hf:owner/name", "hf://a/b/c", "lfs+https:x", "s3:bucket"])
def test_a_wrong_address_of_a_host_is_an_error(address: str) -> None:
    with pytest.raises(ConfigError, match="source"):
        source_for(address)


def test_addresses_show_no_secrets() -> None:
    assert source_for("lfs+https://me:pw@host/a.git").name == "lfs+https://host/a.git"
    assert source_for("hf://a/b").remote
    assert source_for("s3://a/b").remote


def test_user_and_password_in_an_address_are_sent(store: Site, tmp_path: Path) -> None:
    fetch_file(EXACT, [store.url.replace("//", "//me:p%40ss@")], tmp_path)
    assert store.seen[0]["Authorization"] == "Basic bWU6cEBzcw=="
    assert "p@ss" not in json.dumps(Records(tmp_path).read()[NAME].source)
