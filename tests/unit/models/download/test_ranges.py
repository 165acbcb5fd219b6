from __future__ import annotations

import hashlib
import json
import random
import time
from contextlib import contextmanager
from typing import TYPE_CHECKING

import pytest

from jukebox_core.errors import DownloadError
from jukebox_core.models.config import FileSpec
from jukebox_core.models.download import fetch, part, ranges, transfer, web
from jukebox_core.models.download.fetch import fetch_file
from jukebox_core.models.download.part import Part, gaps, merged
from tests.helpers.servers.servers import Site, serving

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

CONTENT = random.Random(1).randbytes(400_000)
SHA256 = hashlib.sha256(CONTENT).hexdigest()
NAME = "5b/prior.bin"
EXACT = FileSpec(path=NAME, bytes=len(CONTENT), sha256=SHA256)
UNKNOWN = FileSpec(path=NAME)
BLOCK = 10_000


@pytest.fixture(autouse=True)
def _small_blocks_without_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fetch, "PAUSES", (0.0, 0.0))
    monkeypatch.setattr(transfer, "RANGES_FROM", 50_000)
    monkeypatch.setattr(ranges, "SMALLEST_BLOCK", BLOCK)
    monkeypatch.setattr(ranges, "LARGEST_BLOCK", BLOCK)
    monkeypatch.setenv("no_proxy", "*")


@pytest.fixture
def site() -> Iterator[Site]:
    with serving({NAME: CONTENT}) as running:
        running.accept_ranges = True
        yield running


def ranges_of(site: Site) -> list[str | None]:
    return [wanted for _, wanted in site.requests]


def test_spans_are_merged_and_their_gaps_found() -> None:
    assert merged([(5, 7), (0, 2), (2, 3), (6, 9), (4, 4)]) == [(0, 3), (5, 9)]
    assert gaps([(5, 9), (0, 3)], 12) == [(3, 5), (9, 12)]
    assert gaps([], 3) == [(0, 3)]
    assert gaps([(0, 3)], 3) == []


def test_blocks_cover_what_is_missing_in_order() -> None:
    found = ranges.blocks([(0, 100), (150, 200)], 35_000, 4)
    assert found[:2] == [(100, 150), (200, 10_200)]
    assert found[-1][1] == 35_000


@pytest.mark.parametrize("spec", [EXACT, UNKNOWN], ids=["exact", "unknown"])
def test_a_large_file_comes_over_several_connections(site: Site, tmp_path: Path, spec: FileSpec) -> None:
    reported: list[int] = []
    path = fetch_file(spec, [site.url], tmp_path, progress=lambda done, _: reported.append(done))
    assert path.read_bytes() == CONTENT
    assert len(site.requests) == len(CONTENT) // BLOCK
    assert reported == sorted(reported)
    assert reported[-1] == len(CONTENT)
    assert not list(tmp_path.rglob("*.part*"))


def test_one_connection_or_a_small_file_is_one_request(site: Site, tmp_path: Path) -> None:
    fetch_file(EXACT, [site.url], tmp_path, connections=1)
    assert ranges_of(site) == [None]


def test_a_server_without_ranges_gets_one_request(site: Site, tmp_path: Path) -> None:
    site.accept_ranges = False
    fetch_file(EXACT, [site.url], tmp_path)
    assert ranges_of(site) == [None]


def test_content_without_version_or_digest_is_not_joined_from_ranges(site: Site, tmp_path: Path) -> None:
    site.etag = None
    fetch_file(UNKNOWN, [site.url], tmp_path)
    assert ranges_of(site) == [None]


def test_broken_connections_are_resumed(site: Site, tmp_path: Path) -> None:
    site.cut_after, site.cuts = 4_000, 12
    assert fetch_file(UNKNOWN, [site.url], tmp_path).read_bytes() == CONTENT


def test_a_server_that_ignores_ranges_after_all_does_no_harm(site: Site, tmp_path: Path) -> None:
    site.ignore_range = True
    assert fetch_file(EXACT, [site.url], tmp_path).read_bytes() == CONTENT


def test_a_silent_connection_is_a_break(site: Site, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(web, "READ_TIMEOUT", 0.3)
    site.stall_after = 3_000
    assert fetch_file(EXACT, [site.url], tmp_path).read_bytes() == CONTENT


def test_what_a_kill_can_cost_does_not_depend_on_how_busy_the_machine_is(
    site: Site, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ranges, "_CHUNK", BLOCK // 2)
    path, costs = tmp_path / f"{NAME}.part", []

    def delay(*_: object) -> None:
        """Delays the thread that hashes; counts the bytes that a kill would then cost: random content is not zero."""
        time.sleep(0.1)
        noted = Part(path).size if path.with_name(f"{path.name}.json").exists() else 0
        content = path.read_bytes() if path.exists() else b""
        costs.append(sum(100 for at in range(0, len(content), 100) if any(content[at : at + 100])) - noted)

    site.rate = 100_000.0
    fetch_file(EXACT, [site.url], tmp_path, progress=delay)
    assert len(costs) > 5
    assert max(costs) <= len(CONTENT) // ranges._NOTES + 4 * BLOCK // 2 + 1_000


def test_a_file_that_changes_half_way_is_fetched_again(site: Site, tmp_path: Path) -> None:
    other = CONTENT[::-1]

    def replace(done: int, _: int | None) -> None:
        if done > 100_000 and site.etag == "v1":
            site.files[NAME], site.etag = other, "v2"

    site.rate = 300_000.0
    assert fetch_file(UNKNOWN, [site.url], tmp_path, progress=replace).read_bytes() == other


@contextmanager
def interrupted(site: Site, folder: Path) -> Iterator[Part]:
    """A part with gaps, as a kill leaves it."""
    path = folder / f"{NAME}.part"
    path.parent.mkdir(parents=True)
    there = bytearray(len(CONTENT))
    for start, stop in ((0, 100_000), (200_000, 250_000)):
        there[start:stop] = CONTENT[start:stop]
    path.write_bytes(there)
    left = Part(path)
    left.spans, left.origin = [(0, 100_000), (200_000, 250_000)], f"{site.url} v1"
    left.note()
    yield left


@pytest.mark.parametrize("spec", [EXACT, UNKNOWN], ids=["exact", "unknown"])
def test_gaps_are_filled_and_nothing_is_fetched_twice(site: Site, tmp_path: Path, spec: FileSpec) -> None:
    with interrupted(site, tmp_path):
        pass
    assert fetch_file(spec, [site.url], tmp_path).read_bytes() == CONTENT
    spans = [tuple(map(int, wanted.removeprefix("bytes=").split("-"))) for wanted in ranges_of(site)[1:] if wanted]
    assert ranges_of(site)[0] == "bytes=100000-"
    assert sum(stop - start + 1 for start, stop in spans) + BLOCK == 250_000


def test_what_a_power_loss_may_have_taken_is_fetched_again(
    site: Site, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with interrupted(site, tmp_path) as left:
        pass
    note = json.loads(left.note_path.read_text())
    left.note_path.write_text(json.dumps(note | {"boot": "another", "synced": [[0, 50_000]]}))
    assert Part(left.path).spans == [(0, 50_000)]
    left.note_path.write_text("{")
    assert Part(left.path).spans == []
    monkeypatch.setattr(part, "SYNC_SECONDS", 0.0)
    assert fetch_file(UNKNOWN, [site.url], tmp_path).read_bytes() == CONTENT


def test_a_part_with_gaps_is_cut_for_a_source_that_only_streams(site: Site, tmp_path: Path) -> None:
    with interrupted(site, tmp_path):
        pass
    shelf = tmp_path / "shelf" / "5b"
    shelf.mkdir(parents=True)
    (shelf / "prior.bin").write_bytes(CONTENT)
    assert fetch_file(EXACT, [str(shelf.parent)], tmp_path).read_bytes() == CONTENT


def test_a_damaged_connection_never_ends_in_a_file(site: Site, tmp_path: Path) -> None:
    site.flip_bit = 8 * 123_456 + 3
    with pytest.raises(DownloadError, match=f"but {SHA256} was published"):
        fetch_file(EXACT, [site.url], tmp_path)
    assert not (tmp_path / NAME).exists()
    assert (tmp_path / f"{NAME}.damaged").stat().st_size == len(CONTENT)
