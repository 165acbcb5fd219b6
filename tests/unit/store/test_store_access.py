"""Buckets that cannot be used: permanent failures are not retried, and their messages name the remedy."""

from __future__ import annotations

import os
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest

from jukebox_core.errors import StoreError, UnreachableError
from jukebox_core.store.store import TokenStore
from tests.helpers.servers.servers import S3Server
from tests.helpers.spools import KEY, QUICK, TOKENS, options

if TYPE_CHECKING:
    from pathlib import Path

    from tests.helpers.servers.servers import Gate


def test_a_permanent_failure_is_not_retried(s3_gate: Gate, gated_uri: str) -> None:
    store = TokenStore(gated_uri, options=options(s3_gate), retry=QUICK)
    s3_gate.mode = "403"
    s3_gate.requests.clear()
    with pytest.raises(StoreError, match=r"access to s3://.* was refused.*credentials") as refused:
        store.write_partial(KEY, TOKENS, first=0, causes={})
    assert not isinstance(refused.value, UnreachableError)
    assert len(s3_gate.requests) == 1
    s3_gate.mode = "pass"
    missing = TokenStore("s3://nowhere/x", options=options(s3_gate), retry=QUICK)
    s3_gate.requests.clear()
    with pytest.raises(StoreError, match="create the bucket"):
        missing.seal(KEY, TOKENS, first=0, causes={})
    assert len(s3_gate.requests) == 1


def _probe(uri: str, environment: dict[str, str]) -> str:
    code = f"from jukebox_core.store.spooled import open_store; open_store({uri!r}).probe()"
    done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=False)
    return done.stderr.strip().splitlines()[-1] if done.stderr else ""


@pytest.mark.slow
def test_the_endpoint_may_be_in_the_environment_and_credentials_must_be(
    s3_configured: S3Server, tmp_path: Path
) -> None:
    plain = {name: value for name, value in os.environ.items() if not name.startswith("AWS_")}
    plain |= {"HOME": str(tmp_path), "JUKEBOX_SPOOL": str(tmp_path), "AWS_EC2_METADATA_DISABLED": "true"}
    assert _probe("s3://store/x", plain | s3_configured.environment) == ""
    without = plain | {"AWS_ENDPOINT_URL": s3_configured.url}
    assert "no credentials for s3://store/x" in (message := _probe("s3://store/x", without))
    assert "AWS_PROFILE" in message
    assert "AWS_PROFILE" in _probe("s3://store/x", without | {"AWS_PROFILE": "nobody"})


@pytest.mark.slow
def test_a_server_that_checks_credentials_refuses_clearly(tmp_path: Path) -> None:
    server = S3Server(tmp_path / "log")
    try:
        server.make_bucket("store")
        server.ask("POST", "/moto-api/reset-auth", b"0")
        environment = os.environ | server.environment | {"JUKEBOX_SPOOL": str(tmp_path)}
        message = _probe("s3://store/x", environment)
        assert "access to s3://store/x was refused" in message
        assert "credentials" in message
    finally:
        server.stop()


def test_a_store_of_a_newer_layout_is_refused(s3_gate: Gate, gated_uri: str) -> None:
    store = TokenStore(gated_uri, options=options(s3_gate))
    store.probe()
    store.probe()
    store._objects.replace("store.json", b'{"schema": 2}')
    with pytest.raises(StoreError, match=r"schema 2, newer than the 1 known here; update this program"):
        store.probe()
    store._objects.replace("store.json", b"nonsense")
    with pytest.raises(StoreError, match="choose another place"):
        store.probe()
