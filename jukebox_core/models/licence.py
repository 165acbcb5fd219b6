"""Terms that must be acknowledged once before files under them are fetched. Imports no torch."""

from __future__ import annotations

import json
import os
from typing import TYPE_CHECKING

from jukebox_core.base.atomic import atomic_write
from jukebox_core.base.locks import locked
from jukebox_core.base.records import read_regular
from jukebox_core.errors import ConfigError, RecordError
from jukebox_core.models.records import now

if TYPE_CHECKING:
    from jukebox_core.models.config import ModelFiles, WeightsConfig

VARIABLE = "JUKEBOX_ACCEPT_LICENCE"
RECORD_NAME = "licences.json"


def acknowledged(files: ModelFiles, weights: WeightsConfig) -> bool:
    """Whether nothing needs to be acknowledged, or it was, for the files in the weights folder."""
    return files.terms is None or files.terms in _record(weights)


def acknowledge(files: ModelFiles, weights: WeightsConfig, how: str) -> None:
    """Records in the weights folder that the terms of `files` were acknowledged, when and `how`."""
    assert files.terms is not None, "only terms with a name are acknowledged"
    path = weights.home / RECORD_NAME
    with locked(path.with_name(f".{RECORD_NAME}.lock")):
        record = _record(weights) | {files.terms: {"licence": files.licence, "acknowledged": now(), "how": how}}
        with atomic_write(path) as file:
            file.write((json.dumps(record, indent=2) + "\n").encode())


def acknowledgement(files: ModelFiles, weights: WeightsConfig) -> dict[str, str] | None:
    """Returns which terms the files are under, when and how they were acknowledged; None if they need not be.

    For files that were brought here by other means nothing was acknowledged; the answer says so.
    """
    if files.terms is None:
        return None
    try:
        require(files, weights)
    except ConfigError:
        return {"terms": files.terms, "acknowledged": "", "how": "never: no file of the model was fetched"}
    entry = _record(weights)[files.terms]
    return {"terms": files.terms, "acknowledged": entry["acknowledged"], "how": entry["how"]}


def require(files: ModelFiles, weights: WeightsConfig) -> None:
    """Checks that the terms of `files` were acknowledged, now (by setting or environment) or before.

    Raises:
        ConfigError: they were not; the message shows them and how to acknowledge them.
    """
    if acknowledged(files, weights):
        return
    if weights.accept_licence:
        acknowledge(files, weights, "weights.accept_licence=true")
    elif os.environ.get(VARIABLE, "").lower() in ("1", "true", "yes"):
        acknowledge(files, weights, f"{VARIABLE}={os.environ[VARIABLE]}")
    else:
        raise ConfigError(
            f"nothing was fetched: the files are under terms that were not acknowledged yet: {files.licence}. "
            f"To acknowledge them, once, set weights.accept_licence=true (or {VARIABLE}=1)"
        )


def _record(weights: WeightsConfig) -> dict[str, dict[str, str]]:
    try:
        record: dict[str, dict[str, str]] = json.loads(read_regular(weights.home / RECORD_NAME, links=True))
    except (FileNotFoundError, RecordError, RecursionError, ValueError):
        return {}
    return record if isinstance(record, dict) else {}
