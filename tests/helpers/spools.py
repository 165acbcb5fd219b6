"""Token stores behind a gate that misbehaves, their spools, and windows to store in them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from jukebox_core.base.hashing import digest
from jukebox_core.store.config import RetryConfig, SpoolConfig
from jukebox_core.store.spooled import SpooledStore, open_store

if TYPE_CHECKING:
    from pathlib import Path

    from tests.helpers.servers.servers import Gate

KEYS = [digest(index) for index in range(40)]
KEY = KEYS[0]
TOKENS = np.arange(300, dtype=np.int32)
NO_RETRIES = {"config_kwargs": {"connect_timeout": 1, "read_timeout": 1, "retries": {"total_max_attempts": 1}}}
QUICK = RetryConfig(attempts=4, first_seconds=0.02)


def options(gate: Gate) -> dict[str, Any]:
    """Returns fsspec options for requests through the gate that fail fast."""
    return {"endpoint_url": gate.url, **NO_RETRIES}


def spooled(gate: Gate, uri: str, folder: Path, **limits: float) -> SpooledStore:
    """Returns the store behind the gate, with its spool in `folder`."""
    config = SpoolConfig(folder=str(folder), **{"patience_seconds": 1.0, **limits})
    store = open_store(uri, options=options(gate), retry=QUICK, spool=config)
    assert isinstance(store, SpooledStore)
    return store


def pending_files(folder: Path) -> list[str]:
    """Returns the names of the files that are pending below a spool's folder."""
    return sorted(path.name for path in folder.rglob("*.safetensors"))
