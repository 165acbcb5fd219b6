from __future__ import annotations

import hashlib
import json
import multiprocessing
import os
import shutil
import socket
import subprocess
import sys
from dataclasses import replace
from types import SimpleNamespace
from typing import TYPE_CHECKING

import pytest

from jukebox_core.errors import ConfigError, DownloadError
from jukebox_core.models import records
from jukebox_core.models.config import FileSpec, WeightsConfig
from jukebox_core.models.download import fetch, web
from jukebox_core.models.download.fetch import fetch_file
from jukebox_core.models.download.sources import source_for
from jukebox_core.models.presets import load_preset
from jukebox_core.models.records import RECORDS_NAME, Records
from jukebox_core.models.resolve import obtain_weights
from tests.helpers.servers.servers import Site, serving

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

CONTENT = bytes(range(256)) * 1000
SHA256 = hashlib.sha256(CONTENT).hexdigest()
NAME = "5b/vqvae.pth.tar"
EXACT = FileSpec(path=NAME, bytes=len(CONTENT), sha256=SHA256)
UNKNOWN = FileSpec(path=NAME)


@pytest.fixture(autouse=True)
def _without_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fetch, "PAUSES", (0.0, 0.0))
    monkeypatch.setenv("no_proxy", "*")


@pytest.fixture
def site() -> Iterator[Site]:
    with serving({NAME: CONTENT}) as running:
        yield running


def digest(spec: FileSpec, folder: Path) -> str:
    return Records(folder).verify(folder / spec.path, published=spec.sha256).sha256


def present(spec: FileSpec, folder: Path) -> bool:
    return Records(folder).holds(spec)


def leftovers(folder: Path) -> set[str]:
    """Names of files that are neither hidden nor the result."""
    return {path.name for path in folder.rglob("*") if path.is_file() and path.name[0] != "."} - {
        "vqvae.pth.tar",
        RECORDS_NAME,
    }


def test_a_file_is_fetched_verified_recorded_and_not_asked_for_again(site: Site, tmp_path: Path) -> None:
    reported: list[tuple[int, int | None]] = []
    assert not present(EXACT, tmp_path)
    path = fetch_file(EXACT, [site.url], tmp_path, progress=lambda done, total: reported.append((done, total)))
    assert path == tmp_path / NAME
    assert path.read_bytes() == CONTENT
    assert reported[-1] == (len(CONTENT), len(CONTENT))
    assert present(EXACT, tmp_path)
    assert digest(EXACT, tmp_path) == SHA256
    assert Records(tmp_path).read()[NAME].source == site.url
    assert not leftovers(tmp_path)
    assert fetch_file(EXACT, [site.url], tmp_path) == path
    assert len(site.requests) == 1


@pytest.mark.parametrize(
    ("spec", "content_length"), [(EXACT, True), (EXACT, False), (UNKNOWN, True)], ids=["exact", "unsized", "unknown"]
)
def test_a_broken_transfer_is_resumed(site: Site, tmp_path: Path, spec: FileSpec, content_length: bool) -> None:
    site.cut_after, site.content_length = 50_000, content_length
    assert fetch_file(spec, [site.url], tmp_path).read_bytes() == CONTENT
    assert [wanted for _, wanted in site.requests] == [None, *(f"bytes={n}-" for n in range(50_000, 256_000, 50_000))]


def test_a_later_call_resumes_where_an_earlier_one_gave_up(site: Site, tmp_path: Path) -> None:
    site.cut_after, site.cuts, site.statuses = 100_000, 1, []
    site.files[NAME] = CONTENT
    with pytest.raises(DownloadError, match=r"HTTP 404 .*What arrived is kept \(100,000 bytes\)"):
        fetch_file(EXACT, [site.url], tmp_path, progress=lambda *_: site.files.pop(NAME, None))
    assert leftovers(tmp_path) == {"vqvae.pth.tar.part", "vqvae.pth.tar.part.json"}
    site.files[NAME] = CONTENT
    assert fetch_file(EXACT, [site.url], tmp_path).read_bytes() == CONTENT
    assert site.requests[-1][1] == "bytes=100000-"
    assert not leftovers(tmp_path)


def test_a_server_without_range_sends_the_file_again(site: Site, tmp_path: Path) -> None:
    site.ignore_range, site.cut_after, site.cuts = True, 100_000, 1
    assert fetch_file(EXACT, [site.url], tmp_path).read_bytes() == CONTENT


def test_a_server_that_always_breaks_is_given_up(site: Site, tmp_path: Path) -> None:
    site.ignore_range, site.cut_after = True, 100_000
    with pytest.raises(DownloadError, match=r"broke off after 100,000 of 256,000 bytes"):
        fetch_file(EXACT, [site.url], tmp_path)
    assert len(site.requests) < 20


def test_a_silent_server_is_a_break_not_a_wait(site: Site, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(web, "READ_TIMEOUT", 0.3)
    site.stall_after = 70_000
    assert fetch_file(EXACT, [site.url], tmp_path).read_bytes() == CONTENT
    assert site.requests[1][1] == "bytes=70000-"


def test_a_complete_part_is_verified_and_named(site: Site, tmp_path: Path) -> None:
    (tmp_path / "5b").mkdir()
    (tmp_path / f"{NAME}.part").write_bytes(CONTENT)
    assert fetch_file(EXACT, [site.url], tmp_path).read_bytes() == CONTENT


@pytest.mark.parametrize("part", [b"wrong" * 100, CONTENT + b"too long"])
def test_a_wrong_part_is_detected_and_fetched_again(site: Site, tmp_path: Path, part: bytes) -> None:
    (tmp_path / "5b").mkdir()
    (tmp_path / f"{NAME}.part").write_bytes(part)
    assert fetch_file(EXACT, [site.url], tmp_path).read_bytes() == CONTENT


def test_parts_of_different_versions_are_not_joined(site: Site, tmp_path: Path) -> None:
    site.cut_after, site.cuts = 100_000, 1

    def replace(*_: object) -> None:
        site.files[NAME], site.etag = CONTENT[::-1], "v2"

    assert fetch_file(UNKNOWN, [site.url], tmp_path, progress=replace).read_bytes() == CONTENT[::-1]


def test_sources_are_tried_in_order_and_the_error_has_their_answers(site: Site, tmp_path: Path) -> None:
    with serving({}) as empty, serving({NAME: b"\n<html>sign in</html>"}) as portal, serving({NAME: b"x"}) as wrong:
        gone = "http://127.0.0.1:9"
        failing = [empty.url, portal.url, wrong.url, gone, f"file://{tmp_path}/none", "package:data/none"]
        with pytest.raises(DownloadError) as caught:
            fetch_file(FileSpec(path=NAME), [empty.url, portal.url], tmp_path / "a")
        assert f"{empty.url}: HTTP 404 Not Found; {portal.url}: answered with a web page" in str(caught.value)
        assert not leftovers(tmp_path / "a")
        with pytest.raises(DownloadError) as caught:
            fetch_file(EXACT, failing, tmp_path / "b")
        for words in (
            f"{wrong.url}: offers 1 bytes, but the file has 256,000",
            f"{gone}: no answer ([Errno 111] Connection refused)",
            f"file://{tmp_path}/none: has no such file",
            "package:data/none: has no such file",
            "put the file at",
        ):
            assert words in str(caught.value)
        assert fetch_file(EXACT, [*failing, site.url], tmp_path / "c").read_bytes() == CONTENT
        assert len(empty.requests) == 3  # once a call: a missing file stays missing


def test_without_a_network_nothing_is_asked_twice(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[object] = []

    def unknown(host: object, *_: object, **__: object) -> None:
        asked.append(host)
        raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")

    monkeypatch.setattr(fetch, "PAUSES", (1000.0,))
    monkeypatch.setattr(socket, "getaddrinfo", unknown)
    with pytest.raises(DownloadError, match="Name or service not known"):
        fetch_file(EXACT, ["https://one.example", "https://two.example"], tmp_path)
    assert asked == ["one.example", "two.example"]


def test_a_busy_server_is_asked_again_but_not_forever(site: Site, tmp_path: Path) -> None:
    site.statuses = [503, 429]
    assert fetch_file(EXACT, [site.url], tmp_path / "a").read_bytes() == CONTENT
    site.statuses = [503] * 50
    with pytest.raises(DownloadError, match="HTTP 503"):
        fetch_file(EXACT, [site.url], tmp_path / "b")
    assert len(site.statuses) == 47


def test_a_busy_server_is_not_given_up_while_bytes_arrive(site: Site, tmp_path: Path) -> None:
    site.cut_after, site.statuses = 40_000, [0, 503] * 7  # more rounds than there are pauses
    assert fetch_file(EXACT, [site.url], tmp_path).read_bytes() == CONTENT


def test_an_answer_without_end_is_cut_off(site: Site, tmp_path: Path) -> None:
    site.files[NAME], site.content_length = CONTENT * 40, False
    most = 0

    def watch(done: int, _: int | None) -> None:
        nonlocal most
        most = max(most, done)

    with pytest.raises(DownloadError, match="bytes, but the file has 256,000"):
        fetch_file(EXACT, [site.url], tmp_path, progress=watch)
    assert len(CONTENT) < most < 8 * len(CONTENT)
    assert not leftovers(tmp_path)


def test_a_wrong_digest_moves_on_to_the_next_source(site: Site, tmp_path: Path) -> None:
    with serving({NAME: CONTENT[::-1]}) as forged:
        with pytest.raises(
            DownloadError, match=f"sha256 {hashlib.sha256(CONTENT[::-1]).hexdigest()}, but {SHA256} was"
        ):
            fetch_file(EXACT, [forged.url], tmp_path)
        assert not (tmp_path / NAME).exists()
        assert fetch_file(EXACT, [forged.url, site.url], tmp_path).read_bytes() == CONTENT
        assert len(forged.requests) == 2


@pytest.mark.parametrize(
    ("share", "accepted"), [(1.0, True), (1.004, True), (0.996, True), (1.006, False), (0.99, False)]
)
@pytest.mark.parametrize("content_length", [True, False])
def test_approximate_sizes_are_bounds(
    site: Site, tmp_path: Path, share: float, accepted: bool, content_length: bool
) -> None:
    site.content_length = content_length
    spec = FileSpec(path=NAME, about_bytes=round(len(CONTENT) * share))
    if accepted:
        assert fetch_file(spec, [site.url], tmp_path).read_bytes() == CONTENT
        assert present(spec, tmp_path)
    else:
        with pytest.raises(DownloadError, match=r"but the file has about .* \(within 0\.5%\)"):
            fetch_file(spec, [site.url], tmp_path)
        assert not present(spec, tmp_path)


def test_an_unknown_digest_is_trusted_once_and_compared_ever_after(site: Site, tmp_path: Path) -> None:
    path = fetch_file(UNKNOWN, [site.url], tmp_path)
    assert json.loads((tmp_path / RECORDS_NAME).read_text())[NAME]["sha256"] == SHA256
    path.unlink()
    site.files[NAME] = CONTENT[:-1] + b"!"
    with pytest.raises(DownloadError, match=f"but {SHA256} is recorded in .*{RECORDS_NAME}"):
        fetch_file(UNKNOWN, [site.url], tmp_path)
    site.files[NAME] = CONTENT
    assert fetch_file(UNKNOWN, [site.url], tmp_path).read_bytes() == CONTENT


def test_a_file_in_place_is_adopted_or_set_aside(site: Site, tmp_path: Path) -> None:
    (tmp_path / "5b").mkdir()
    path = tmp_path / NAME
    path.write_bytes(CONTENT)
    assert fetch_file(EXACT, [site.url], tmp_path) == path
    assert Records(tmp_path).read()[NAME].source == "found in place"
    assert not site.requests
    path.write_bytes(CONTENT[::-1])  # the same size, other content
    with pytest.raises(DownloadError, match=f"it must be {SHA256}, as published; delete the file"):
        digest(EXACT, tmp_path)
    assert fetch_file(EXACT, [site.url], tmp_path).read_bytes() == CONTENT
    assert (tmp_path / f"{NAME}.damaged").read_bytes() == CONTENT[::-1]


def test_the_digest_is_computed_once_and_again_when_the_file_changes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "a").write_bytes(CONTENT)
    spec, hashed = FileSpec(path="a"), []
    original = records.digest_file
    monkeypatch.setattr(records, "digest_file", lambda path: hashed.append(path) or original(path))
    assert digest(spec, tmp_path) == digest(spec, tmp_path) == SHA256
    assert len(hashed) == 1
    os.utime(tmp_path / "a", ns=(1, 1))
    assert digest(spec, tmp_path) == digest(spec, tmp_path) == SHA256
    assert len(hashed) == 2
    with pytest.raises(DownloadError, match="is not there; fetch"):
        digest(UNKNOWN, tmp_path)


def test_offline_asks_only_this_machine(site: Site, tmp_path: Path) -> None:
    with pytest.raises(DownloadError, match=r"is not in .* offline=true leaves no source .*weights\.offline=false"):
        fetch_file(EXACT, [site.url], tmp_path / "a", offline=True)
    shelf = tmp_path / "shelf" / "5b"
    shelf.mkdir(parents=True)
    (shelf / "vqvae.pth.tar").write_bytes(CONTENT)
    for address in (f"file://{shelf.parent}", str(shelf.parent)):
        folder = tmp_path / address.partition(":")[0].strip("/")
        assert fetch_file(EXACT, [site.url, address], folder, offline=True).read_bytes() == CONTENT
    assert not site.requests


def test_weights_of_an_earlier_version_of_the_program_are_refused_as_such(tmp_path: Path) -> None:
    mini = load_preset("mini")
    former = replace(mini.files.weights["level_2"], path="mini/level_2-00000000.safetensors", sha256="0" * 64)
    model = replace(mini, files=replace(mini.files, weights={**mini.files.weights, "level_2": former}))
    with pytest.raises(DownloadError) as caught:
        obtain_weights(model, WeightsConfig(folder=str(tmp_path)))
    message = str(caught.value)
    assert message.startswith("mini/level_2-00000000.safetensors is not part of this version of the program")
    assert "the weights that come with it have changed since" in message
    assert f"put the earlier file at {tmp_path / former.path}" in message
    assert "model=mini" in message


def test_files_shipped_with_the_program_are_a_source(tmp_path: Path) -> None:
    path = fetch_file(FileSpec(path="config.py"), ["package:models"], tmp_path)
    assert b"class FileSpec" in path.read_bytes()


def test_a_full_disk_is_an_error_before_the_first_byte(
    site: Site, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(shutil, "disk_usage", lambda _: SimpleNamespace(free=len(CONTENT) - 1))
    with pytest.raises(DownloadError, match=r"needs [\d.]+ k?B more but .* has [\d.]+ k?B free; make room"):
        fetch_file(UNKNOWN, [site.url], tmp_path)
    assert not leftovers(tmp_path)


def test_a_folder_that_cannot_be_written_is_an_error(site: Site, tmp_path: Path) -> None:
    (tmp_path / "5b").write_text("a file where the folder should be")
    with pytest.raises(
        DownloadError, match=r"5b.* cannot be written: .* no folder is in its path; move that away"
    ) as e:
        fetch_file(EXACT, [site.url], tmp_path)
    assert str(e.value).count("written") == 1, "the reason and the remedy are said once"
    assert str(e.value).endswith("; weights.folder names the place")


def test_damaged_records_are_an_error(tmp_path: Path) -> None:
    (tmp_path / RECORDS_NAME).write_text("{")
    (tmp_path / "a").write_bytes(CONTENT)
    with pytest.raises(DownloadError, match=r"is damaged .*; delete it"):
        present(FileSpec(path="a"), tmp_path)


def _fetch_in_process(url: str, folder: str) -> None:
    fetch_file(UNKNOWN, [url], folder)


def test_processes_that_want_the_same_file_share_one_transfer(site: Site, tmp_path: Path) -> None:
    site.delay = 0.5
    spawn = multiprocessing.get_context("spawn")
    processes = [spawn.Process(target=_fetch_in_process, args=(site.url, str(tmp_path))) for _ in range(2)]
    for process in processes:
        process.start()
    for process in processes:
        process.join(60)
    assert [process.exitcode for process in processes] == [0, 0]
    assert len(site.requests) == 1
    assert (tmp_path / NAME).read_bytes() == CONTENT


@pytest.mark.parametrize("address", ["htps://example.org", "seed:1", "ftp://x", "relative/folder", "package:", ""])
def test_an_unknown_kind_of_source_is_refused(address: str) -> None:
    with pytest.raises(ConfigError, match="cannot be fetched from; begin with one of https:, http:, file:, package:"):
        source_for(address)


def test_secrets_in_an_address_are_used_but_not_shown(site: Site, tmp_path: Path) -> None:
    source = source_for("https://user:pass@example.org/models?sig=secret")
    assert source.name == "https://example.org/models"
    fetch_file(EXACT, [f"{site.url}/?sig=secret"], tmp_path)
    assert site.requests == [(f"/{NAME}?sig=secret", None)]
    assert "secret" not in (tmp_path / RECORDS_NAME).read_text()


def test_fetching_does_not_import_torch() -> None:
    code = "import sys, jukebox_core.models.download.fetch, jukebox_core.audio.files; sys.exit('torch' in sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True)
