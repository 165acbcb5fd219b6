"""Objects on local disk: failing disks, files of killed processes, and durability when a call returns."""

from __future__ import annotations

import contextlib
import errno
import os
import random
import subprocess
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING

import fsspec
import numpy as np
import pytest

from jukebox_core.base.hashing import digest
from jukebox_core.errors import StoreError
from jukebox_core.store.config import RetryConfig
from jukebox_core.store.store import TokenStore

if TYPE_CHECKING:
    from collections.abc import Iterator

KEY, OTHER = digest("one"), digest("other")
CAUSES = {"level": 2, "parents": [OTHER]}
TOKENS = np.arange(300, dtype=np.int32)


def _files(root: Path) -> list[str]:
    return sorted(path.relative_to(root).as_posix() for path in root.rglob("*") if path.is_file())


def _name(key: str) -> str:
    return f"windows/{key[:2]}/{key}.safetensors"


def test_unknown_scheme() -> None:
    with pytest.raises(StoreError, match="closest: 's3'"):
        TokenStore("s33://bucket/folder")


@pytest.mark.parametrize(("uri", "meant"), [("s3:/bucket/folder", "s3://bucket/folder"), ("gs:bucket", "gs://bucket")])
def test_an_address_without_its_slashes_is_no_folder(uri: str, meant: str) -> None:
    with pytest.raises(StoreError, match=f"{uri} is neither a folder nor an address; write {meant}$"):
        TokenStore(uri)


def test_s3_without_its_package(monkeypatch: pytest.MonkeyPatch) -> None:
    def url_to_fs(*args: object, **kwargs: object) -> None:
        raise ImportError("Install s3fs to access S3")

    monkeypatch.setattr(fsspec.core, "url_to_fs", url_to_fs)
    with pytest.raises(StoreError, match=r"pip install 'jukebox-pipelines\[s3\]'"):
        TokenStore("s3://bucket/folder")


@pytest.mark.parametrize(
    ("code", "message"),
    [
        (errno.ENOSPC, "no space left in .*free some"),
        (errno.EDQUOT, "no space left in"),
        (errno.EACCES, "access to .* was refused"),
        (errno.EROFS, "access to .* was refused"),
        (errno.EIO, "cannot be reached"),
        (errno.EINVAL, "cannot be used"),
    ],
)
def test_probe_explains_a_disk_that_fails(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, code: int, message: str
) -> None:
    def fail(descriptor: int) -> None:
        raise OSError(code, os.strerror(code))

    store = TokenStore(tmp_path, retry=RetryConfig(attempts=2, first_seconds=0.01))
    store.seal(KEY, TOKENS, first=0, causes=CAUSES)
    monkeypatch.setattr(os, "fsync", fail)
    with pytest.raises(StoreError, match=message):
        store.probe()
    with pytest.raises(StoreError, match=message):
        store.write_partial(OTHER, TOKENS, first=0, causes=CAUSES)
    assert _files(tmp_path) == [_name(KEY)]  # nothing half written, not even a temporary file


def test_a_disk_without_inodes_is_distinguished_from_one_without_space(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    def fail(descriptor: int) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    found = list(os.statvfs(tmp_path))
    found[7] = 0  # f_favail
    monkeypatch.setattr(os, "statvfs", lambda _: os.statvfs_result(found))
    monkeypatch.setattr(os, "fsync", fail)
    with pytest.raises(StoreError, match=r"no inodes left in .*free some"):
        TokenStore(tmp_path).probe()


def test_probe_names_a_root_that_is_a_file(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(StoreError, match=r"file/store is no folder, or lies below a file .*choose another place"):
        TokenStore(tmp_path / "file" / "store").probe()


def test_a_local_store_has_an_absolute_path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    store = TokenStore("outputs/tokens")
    monkeypatch.chdir("/")
    store.seal(KEY, TOKENS, first=0, causes=CAUSES)
    assert store.uri == str(tmp_path / "outputs" / "tokens")
    assert TokenStore(store.uri).sealed(KEY)


def test_probe_removes_temporary_files_of_killed_processes(tmp_path: Path) -> None:
    store = TokenStore(tmp_path)
    store.probe()
    old, fresh = tmp_path / "tmp" / "old", tmp_path / "tmp" / "fresh"
    for path in (old, fresh):
        path.touch()
    os.utime(old, (time.time() - 7200,) * 2)
    store.probe()
    assert sorted((tmp_path / "tmp").iterdir()) == [fresh]


def test_a_disk_without_hard_links(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def link(source: object, target: object) -> None:
        raise OSError(errno.EOPNOTSUPP, "no links here")

    monkeypatch.setattr(os, "link", link)
    store = TokenStore(tmp_path)
    store.seal(KEY, TOKENS, first=0, causes=CAUSES)
    store.seal(KEY, TOKENS + 1, first=0, causes=CAUSES)
    assert np.array_equal(store.read(KEY).tokens, TOKENS)
    assert _files(tmp_path) == [_name(KEY)]


def test_file_and_folder_are_synchronised_before_a_seal_returns(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    synchronised: list[str] = []
    real = os.fsync

    def fsync(descriptor: int) -> None:
        synchronised.append(Path(f"/proc/self/fd/{descriptor}").readlink().relative_to(tmp_path).as_posix())
        real(descriptor)

    if not Path("/proc/self/fd").is_dir():
        pytest.skip("needs /proc")
    store = TokenStore(tmp_path)
    monkeypatch.setattr(os, "fsync", fsync)
    store.seal(KEY, TOKENS, first=0, causes=CAUSES)
    assert synchronised[1].startswith("tmp/")
    assert [*synchronised[:1], *synchronised[2:]] == [".", ".", "windows", f"windows/{KEY[:2]}"]


_WRITER = """
import sys, itertools, numpy as np
from jukebox_core.base.hashing import digest
from jukebox_core.store.store import TokenStore
store, start = TokenStore(sys.argv[1]), int(sys.argv[2])
print("ready", flush=True)
for index in itertools.count(start):
    key, tokens = digest(index % 40), np.arange(4000) * (index % 40)
    for count in (1000, 4000):
        store.write_partial(key, tokens[:count], first=index % 40, causes={"index": index % 40})
    store.seal(key, tokens, first=index % 40, causes={"index": index % 40})
"""


@pytest.mark.slow
def test_processes_killed_at_random_never_leave_half_a_window(tmp_path: Path) -> None:
    chance = random.Random(1)
    store = TokenStore(tmp_path)
    reads = 0
    for _ in range(6):
        writers = [
            subprocess.Popen(
                [sys.executable, "-c", _WRITER, str(tmp_path), str(chance.randrange(40))], stdout=subprocess.PIPE
            )
            for _ in range(2)
        ]
        try:
            for writer in writers:
                assert writer.stdout is not None
                assert writer.stdout.readline() == b"ready\n"
            until = time.monotonic() + chance.uniform(0.05, 0.6)
            while time.monotonic() < until:
                reads += _read_all(store)
        finally:
            for writer in writers:
                writer.kill()
                writer.wait()
                assert writer.stdout is not None
                writer.stdout.close()
        _read_all(store)
    assert reads > 100
    assert len(store.keys()) > 5
    assert not (tmp_path / "damaged").exists()


def _read_all(store: TokenStore) -> int:
    """Reads every window of the writers' 40 in the store, sealed or not, and checks its content."""
    found = 0
    for index in range(40):
        key = digest(index)
        partial = store.read_partial(key)
        for stored in ([partial] if partial else []) + ([store.read(key)] if store.sealed(key) else []):
            assert np.array_equal(stored.tokens, np.arange(len(stored.tokens)) * index)
            assert len(stored.tokens) in (1000, 4000)
            found += 1
    return found


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A disk of one megabyte."""
    made = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", str(tmp_path)], capture_output=True)
    if made.returncode:
        pytest.skip(f"cannot mount a small disk here ({made.stderr.decode().strip()})")
    yield tmp_path
    subprocess.run(["umount", str(tmp_path)], check=True)


def test_a_disk_that_fills_up_harms_nothing(small_disk: Path) -> None:
    store, ballast = TokenStore(small_disk / "store"), small_disk / "ballast"
    store.probe()
    store.seal(KEY, TOKENS, first=0, causes=CAUSES)
    store.write_partial(OTHER, TOKENS[:100], first=0, causes=CAUSES)
    with contextlib.suppress(OSError):
        ballast.write_bytes(b"x" * 2**21)
    before = _files(small_disk)
    big = np.arange(8192)
    for act in (
        store.probe,
        lambda: store.write_partial(OTHER, big, first=0, causes=CAUSES),
        lambda: store.seal(OTHER, big, first=0, causes=CAUSES),
        lambda: store.write_partial(digest("third"), big, first=0, causes=CAUSES),
    ):
        with pytest.raises(StoreError, match=r"no space left in .*free some"):
            act()
    assert _files(small_disk) == before
    assert np.array_equal(store.read(KEY).tokens, TOKENS)
    partial = store.read_partial(OTHER)
    assert partial is not None
    assert len(partial.tokens) == 100
    ballast.unlink()
    store.probe()
    store.seal(OTHER, big, first=0, causes=CAUSES)
    assert store.keys() == sorted([KEY, OTHER])


def test_a_transient_failure_of_a_disk_is_retried(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    real, failures = os.fsync, [errno.EIO, errno.ESTALE]

    def fsync(descriptor: int) -> None:
        if failures:
            raise OSError(failures.pop(), "now and then")
        real(descriptor)

    monkeypatch.setattr(os, "fsync", fsync)
    store = TokenStore(tmp_path, retry=RetryConfig(first_seconds=0.01))
    store.seal(KEY, TOKENS, first=0, causes=CAUSES)
    assert _files(tmp_path) == [_name(KEY)]
