"""Downloads end to end: killed, corrupted, offline, from a mirror; each against a server on loopback."""

from __future__ import annotations

import hashlib
import random
import signal
import subprocess
import sys
import time
from dataclasses import replace
from typing import TYPE_CHECKING

import pytest

from jukebox_core.errors import DownloadError
from jukebox_core.models.config import FileSpec
from jukebox_core.models.download import fetch, ranges, transfer, web
from jukebox_core.models.download.fetch import fetch_file
from jukebox_core.models.download.part import Part
from jukebox_core.models.records import Records
from pipelines.settings.compose import GENERATE, compose
from stages.fetch import fetch_vocabularies, fetch_weights
from tests.helpers.servers.servers import Site, serving

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

NAME = "5b/prior_level_2.pth.tar"
SERVERS_BUFFERS = 16 << 20  # bytes that both ends of loopback connections may buffer, unread by the client


@pytest.fixture(autouse=True)
def _no_proxy(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("no_proxy", "*")
    monkeypatch.delenv("HF_HUB_OFFLINE", raising=False)


FETCH = """
import sys
from jukebox_core.models.config import FileSpec
from jukebox_core.models.download.fetch import fetch_file
from jukebox_core.models.records import Records
url, folder, size, sha256, connections = sys.argv[1:]
spec = FileSpec(path="5b/prior_level_2.pth.tar", bytes=int(size), sha256=sha256 or None)
fetch_file(spec, [url], folder, connections=int(connections))
"""


@pytest.mark.slow
@pytest.mark.parametrize("known", [True, False], ids=["published digest", "unknown digest"])
@pytest.mark.parametrize("connections", [1, 4])
def test_a_kill_at_half_costs_next_to_nothing(tmp_path: Path, connections: int, known: bool) -> None:
    content = random.Random(3).randbytes(160 << 20)
    sha256 = hashlib.sha256(content).hexdigest()
    with serving({NAME: content}) as site:
        site.accept_ranges, site.rate = True, (20 << 20) / connections
        command = [
            sys.executable,
            "-c",
            FETCH,
            site.url,
            str(tmp_path),
            str(len(content)),
            sha256 if known else "",
            str(connections),
        ]
        process = subprocess.Popen(command)
        part = tmp_path / f"{NAME}.part"
        deadline = time.monotonic() + 120
        while not part.exists() or part.stat().st_blocks * 512 < len(content) // 2:
            assert time.monotonic() < deadline
            assert process.poll() is None
            time.sleep(0.005)
        process.send_signal(signal.SIGKILL)
        process.wait()
        assert not (tmp_path / NAME).exists()
        kept = Part(part)
        received = part.read_bytes()
        arrived = (
            sum(received[at : at + 4096] == content[at : at + 4096] for at in range(0, len(received), 4096)) * 4096
        )
        assert arrived > len(content) // 2 - (1 << 20)
        assert all(received[start:stop] == content[start:stop] for start, stop in kept.spans)
        again = arrived - kept.size
        print(
            f"connections {connections}: {again:,} of {len(content):,} bytes fetched again, {again / len(content):.2%}"
        )
        assert again <= len(content) // 100
        site.rate, site.sent = None, 0
        subprocess.run(command, check=True)
        assert (tmp_path / NAME).read_bytes() == content
        assert site.sent <= len(content) - kept.size + SERVERS_BUFFERS


FAULTS = (
    "cut",
    "stall",
    "page",
    "short",
    "long",
    "etag",
    "flip",
    "no ranges",
    "busy",
    "gone",
    "silent size",
    "wrong part",
)


def misbehave(site: Site, fault: str, content: bytes, rng: random.Random) -> None:
    site.files[NAME], site.etag = content, "v1"
    site.statuses, site.cut_after, site.stall_after, site.flip_bit = [], None, None, None
    site.ignore_range, site.content_length, site.accept_ranges = False, True, rng.random() < 0.7
    if fault == "cut":
        site.cut_after, site.cuts = rng.randrange(1, 60_000), rng.randrange(1, 6)
    elif fault == "stall":
        site.stall_after = rng.randrange(60_000)
    elif fault == "page":
        site.files[NAME] = b"<!DOCTYPE html><html>" + b"x" * (len(content) - 21)
    elif fault == "short":
        site.files[NAME] = content[: rng.randrange(1, len(content))]
    elif fault == "long":
        site.files[NAME] = content + rng.randbytes(rng.randrange(1, 9999))
    elif fault == "flip":
        site.flip_bit = rng.randrange(8 * len(content))
    elif fault == "no ranges":
        site.ignore_range, site.accept_ranges, site.cut_after, site.cuts = True, True, 50_000, 1
    elif fault == "busy":
        site.statuses = [rng.choice([429, 500, 503]) for _ in range(rng.randrange(1, 5))]
    elif fault == "gone":
        site.statuses = [404]
    elif fault == "silent size":
        site.content_length, site.accept_ranges = False, False
        site.files[NAME] = content[: rng.randrange(1, len(content))]


@pytest.mark.slow
def test_a_hundred_faults_install_nothing_bad(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    rng, good, refused = random.Random(4), 0, 0
    monkeypatch.setattr(fetch, "PAUSES", (0.0,))
    monkeypatch.setattr(web, "READ_TIMEOUT", 0.2)
    monkeypatch.setattr(transfer, "RANGES_FROM", 60_000)
    monkeypatch.setattr(ranges, "SMALLEST_BLOCK", 20_000)
    content, before = rng.randbytes(150_000), rng.randbytes(150_000)
    published = FileSpec(path=NAME, bytes=len(content), sha256=hashlib.sha256(content).hexdigest())
    with serving({NAME: content}) as site:
        for number in range(108):
            fault, folder = FAULTS[number % len(FAULTS)], tmp_path / str(number)
            spec = published
            if rng.random() < 0.5:  # never published: recorded at first use, then fetched again
                spec = FileSpec(path=NAME)
                misbehave(site, "", content, rng)
                fetch_file(spec, [site.url], folder)
                (folder / NAME).unlink()
            if fault == "wrong part":
                (folder / NAME).parent.mkdir(parents=True, exist_ok=True)
                (folder / f"{NAME}.part").write_bytes(before[: rng.randrange(150_000)])
            misbehave(site, fault, content, rng)

            def swap(done: int, _: int | None, fault: str = fault) -> None:
                if fault == "etag" and done > 50_000 and site.etag == "v1":
                    site.files[NAME], site.etag = before, "v2"
                    site.cut_after, site.cuts = 10_000, 2

            try:
                fetch_file(spec, [site.url], folder, connections=rng.choice([1, 3]), progress=swap)
            except DownloadError:
                refused += 1
                assert not (folder / NAME).exists(), fault
            else:
                good += 1
                assert (folder / NAME).read_bytes() == content, fault
            misbehave(site, "", content, rng)
            assert fetch_file(spec, [site.url], folder).read_bytes() == content  # and it recovers
    print(f"108 faults: {good} survived, {refused} refused, 0 bad files installed")
    assert good >= 30
    assert refused >= 30


def test_no_single_bit_gets_through(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    rng = random.Random(5)
    monkeypatch.setattr(fetch, "PAUSES", ())
    content = rng.randbytes(30_000)
    spec = FileSpec(path=NAME, bytes=len(content), sha256=hashlib.sha256(content).hexdigest())
    with serving({NAME: content}) as site:
        for bit in [0, 8 * len(content) - 1, *(rng.randrange(8 * len(content)) for _ in range(40))]:
            site.flip_bit = bit
            with pytest.raises(DownloadError, match="was published"):
                fetch_file(spec, [site.url], tmp_path)
            assert not (tmp_path / NAME).exists()


@pytest.fixture
def zoo(golden: Path, shared: Path) -> Iterator[Site]:
    """The golden models and the vocabularies in the official layout."""
    models, ids = golden / "zoo/models", shared / "vocab"
    if not models.is_dir():
        pytest.skip(f"{models} is absent")
    files = {str(path.relative_to(models)): path.read_bytes() for path in models.rglob("*.pth.tar")}
    files |= {f"ids/{path.name}": path.read_bytes() for path in ids.glob("*.txt")}
    with serving(files) as site:
        site.accept_ranges = True
        yield site


@pytest.mark.slow
def test_a_substitute_replaces_the_files_of_an_unchanged_entry(zoo: Site, tmp_path: Path) -> None:
    common = ["model=1b_lyrics", "seconds=30", f"weights.folder={tmp_path}", "weights.accept_licence=true"]
    settings = compose(GENERATE, [*common, f"weights.substitute={zoo.url}", "weights.elsewhere=[]"])
    model = settings.model
    found = fetch_weights(model, settings.weights)
    assert {role: handle.sha256 for role, handle in found.items()}.keys() == set(model.files.weights)
    assert all(handle.read().suffix == ".safetensors" for handle in found.values())
    names = fetch_vocabularies(model, settings.weights)
    assert names["artists_v3"].sha256 == model.files.vocabularies["artists_v3"].sha256
    [apart] = (tmp_path / "substitutes").iterdir()
    assert {name for name in Records(apart).read() if name.endswith(".tar")} == {
        s.path for s in model.files.weights.values()
    }
    asked = len(zoo.requests)
    assert fetch_weights(model, settings.weights) == found
    assert len(zoo.requests) == asked
    original = apart / "5b/vqvae.pth.tar"
    recorded = Records(apart).read()["5b/vqvae.pth.tar"].sha256
    original.unlink()
    original.with_suffix("").with_suffix(".safetensors").unlink()
    zoo.files["5b/vqvae.pth.tar"] = zoo.files["5b/vqvae.pth.tar"][::-1]
    with pytest.raises(DownloadError, match=recorded):  # trusted on first use, compared ever after
        fetch_weights(model, settings.weights, roles=("vqvae",))


@pytest.mark.slow
def test_a_mirror_with_other_content_is_not_believed(
    zoo: Site, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(fetch, "PAUSES", ())
    settings = compose(
        GENERATE,
        [
            "model=1b_lyrics",
            "seconds=30",
            f"weights.folder={tmp_path}",
            "weights.accept_licence=true",
            f"weights.mirrors=[{zoo.url}]",
        ],
    )
    files = settings.model.files
    local = {**{f: getattr(files, f) for f in ("weights", "vocabularies", "licence", "terms", "whole")}}
    lonely = type(files)(weight_sources=(zoo.url,), vocabulary_sources=(zoo.url,), **local)
    model = replace(settings.model, files=lonely)
    with pytest.raises(DownloadError, match=r"offers 628,555 bytes, but the file has 7,726,329"):
        fetch_weights(model, settings.weights, roles=("vqvae",))


MEASURED = (
    FETCH
    + """
print(next(line.split()[1] for line in open("/proc/self/status") if line.startswith("VmHWM")))
"""
)


@pytest.mark.slow
def test_memory_does_not_grow_with_the_file(tmp_path: Path) -> None:
    peaks = []
    for megabytes in (8, 160):
        content = random.Random(megabytes).randbytes(1 << 20) * megabytes
        with serving({NAME: content}) as site:
            site.accept_ranges = True
            given = [site.url, str(tmp_path / str(megabytes)), str(len(content)), "", "4"]
            done = subprocess.run([sys.executable, "-c", MEASURED, *given], check=True, capture_output=True, text=True)
            peaks.append(int(done.stdout) * 1024)
    print(f"peak memory: {peaks[0]:,} bytes for 8 MB, {peaks[1]:,} bytes for 160 MB")
    assert peaks[1] - peaks[0] < 24 << 20
