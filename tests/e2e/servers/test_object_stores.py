"""Models from S3, Google Cloud Storage and Azure, each from a server on loopback that speaks as the real one does.

moto comes with the development packages. The others are run where they are installed: ``pip install gcsfs
gcp-storage-emulator`` for Google's, ``pip install adlfs`` and ``npm install --global azurite`` for Azure's.
"""

from __future__ import annotations

import hashlib
import random
import shutil
import socket
import subprocess
import sys
import time
from contextlib import contextmanager
from typing import TYPE_CHECKING

import pytest

from jukebox_core.errors import DownloadError
from jukebox_core.models.config import FileSpec
from jukebox_core.models.download import fetch, ranges, transfer
from jukebox_core.models.download.fetch import fetch_file
from jukebox_core.models.records import Records
from tests.helpers.servers.servers import S3Server

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

pytestmark = pytest.mark.slow

CONTENT = random.Random(2).randbytes(900_000) + b"."  # Google's emulator takes a line's end at the end for its own
NAME = "5b/model.bin"
EXACT = FileSpec(path=NAME, bytes=len(CONTENT), sha256=hashlib.sha256(CONTENT).hexdigest())
UNKNOWN = FileSpec(path=NAME)

# The account and key that Azure's emulator is documented to have, everywhere.
AZURITE_ACCOUNT = "devstoreaccount1"
AZURITE_KEY = "Eby8vdM02xNOcqFlqUwJPLlmEtlCDXJ1OUzFT50uSRZ6IFsuFq2UVErCz4I6tq/K1SZFPTOtr/KBHBeksoGMGw=="


def free_port() -> int:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port: int = free.getsockname()[1]
        return port


@contextmanager
def running(command: list[str], port: int, log: Path) -> Iterator[None]:
    """A server in a process of its own, once it answers."""
    with log.open("wb") as output, subprocess.Popen(command, stdout=output, stderr=output) as process:
        try:
            for _ in range(600):
                with socket.socket() as probe:
                    if probe.connect_ex(("127.0.0.1", port)) == 0:
                        break
                assert process.poll() is None, log.read_text()
                time.sleep(0.1)
            yield
        finally:
            process.kill()


@contextmanager
def s3(folder: Path, patch: pytest.MonkeyPatch) -> Iterator[str]:
    pytest.importorskip("s3fs")
    pytest.importorskip("moto.server")
    server = S3Server(folder / "log")
    for name, value in server.environment.items():
        patch.setenv(name, value)
    yield "s3://models/jukebox"
    server.stop()


@contextmanager
def gs(folder: Path, patch: pytest.MonkeyPatch) -> Iterator[str]:
    port = free_port()
    patch.setenv("STORAGE_EMULATOR_HOST", f"http://127.0.0.1:{port}")  # read when gcsfs is imported
    patch.setenv("NO_GCE_CHECK", "true")  # ask no metadata server for credentials
    pytest.importorskip("gcsfs")
    pytest.importorskip("gcp_storage_emulator")
    command = [
        sys.executable,
        "-m",
        "gcp_storage_emulator",
        "start",
        "--host=127.0.0.1",
        f"--port={port}",
        "--in-memory",
    ]
    with running(command, port, folder / "log"):
        yield "gs://models/jukebox"


@contextmanager
def az(folder: Path, patch: pytest.MonkeyPatch) -> Iterator[str]:
    pytest.importorskip("adlfs")
    program = shutil.which("azurite-blob")
    if program is None:
        pytest.skip("azurite-blob is not installed")
    port = free_port()
    connection = {
        "DefaultEndpointsProtocol": "http",
        "AccountName": AZURITE_ACCOUNT,
        "AccountKey": AZURITE_KEY,
        "BlobEndpoint": f"http://127.0.0.1:{port}/{AZURITE_ACCOUNT}",
    }
    patch.setenv("AZURE_STORAGE_CONNECTION_STRING", ";".join(f"{name}={value}" for name, value in connection.items()))
    options = ["--blobHost", "127.0.0.1", "--blobPort", str(port), "--inMemoryPersistence", "--skipApiVersionCheck"]
    with running([program, *options, "--disableTelemetry", "--silent"], port, folder / "log"):
        yield "az://models/jukebox"


@pytest.fixture(params=[s3, gs, az], ids=lambda kind: kind.__name__)
def bucket(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """A prefix in a bucket with one file below it."""
    import fsspec

    monkeypatch.setenv("no_proxy", "*")
    monkeypatch.setattr(fetch, "PAUSES", ())
    with request.param(tmp_path, monkeypatch) as base:
        fsspec.get_filesystem_class(request.param.__name__).clear_instance_cache()
        store, path = fsspec.core.url_to_fs(base)
        store.mkdir(path.partition("/")[0])
        store.pipe(f"{path}/{NAME}", CONTENT)
        yield base


def test_an_object_store_is_a_source(bucket: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert fetch_file(EXACT, [bucket], tmp_path / "whole").read_bytes() == CONTENT
    assert Records(tmp_path / "whole").read()[NAME].source == bucket
    monkeypatch.setattr(transfer, "RANGES_FROM", 50_000)
    monkeypatch.setattr(ranges, "SMALLEST_BLOCK", 200_000)
    assert fetch_file(UNKNOWN, [bucket], tmp_path / "ranges").read_bytes() == CONTENT
    (tmp_path / "broken/5b").mkdir(parents=True)
    (tmp_path / "broken" / f"{NAME}.part").write_bytes(CONTENT[:300_000])
    assert fetch_file(EXACT, [bucket], tmp_path / "broken").read_bytes() == CONTENT
    with pytest.raises(DownloadError, match=f"{bucket}: has no such file"):
        fetch_file(FileSpec(path="none"), [bucket], tmp_path)
    with pytest.raises(DownloadError, match="offline=true leaves no source"):
        fetch_file(EXACT, [bucket], tmp_path / "offline", offline=True)
