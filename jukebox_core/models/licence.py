"""Terms that must be acknowledged once before files under them are fetched. Imports no torch."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import TYPE_CHECKING

from jukebox_core.base.atomic import atomic_write
from jukebox_core.base.locks import locked
from jukebox_core.errors import ConfigError
from jukebox_core.models.digests import now

if TYPE_CHECKING:
    from jukebox_core.models.config import ModelFiles, WeightsConfig

VARIABLE = "JUKEBOX_ACCEPT_LICENCE"
RECORD_NAME = "licences.json"


def acknowledged(terms: str | None, folder: Path) -> bool:
    """Whether nothing needs to be acknowledged, or it was, for the files in ``folder``."""
    return terms is None or terms in _record(folder)


def acknowledge(files: ModelFiles, folder: Path, how: str) -> None:
    """Notes in ``folder`` that the terms of ``files`` were acknowledged, when and how."""
    assert files.terms is not None, "only terms with a name are acknowledged"
    with locked(folder / f".{RECORD_NAME}.lock"):
        record = _record(folder) | {files.terms: {"licence": files.licence, "acknowledged": now(), "how": how}}
        with atomic_write(folder / RECORD_NAME) as file:
            file.write((json.dumps(record, indent=2) + "\n").encode())


def acknowledgement(files: ModelFiles, weights: WeightsConfig) -> dict[str, str] | None:
    """Which terms the files are under, when and how they were acknowledged; None if they need not be.

    Files that were brought here by other means were never asked about; that is told too.
    """
    if files.terms is None:
        return None
    folder = Path(weights.folder).expanduser()
    try:
        require(files, weights, folder)
    except ConfigError:
        return {"terms": files.terms, "acknowledged": "", "how": "never: no file of the model was fetched"}
    noted = _record(folder)[files.terms]
    return {"terms": files.terms, "acknowledged": noted["acknowledged"], "how": noted["how"]}


def require(files: ModelFiles, weights: WeightsConfig, folder: Path) -> None:
    """Lets a download begin if its terms were acknowledged, now or before.

    Raises:
        ConfigError: they were not; the message shows them and how to acknowledge them.
    """
    if acknowledged(files.terms, folder):
        return
    if weights.accept_licence:
        acknowledge(files, folder, "weights.accept_licence=true")
    elif os.environ.get(VARIABLE, "").lower() in ("1", "true", "yes"):
        acknowledge(files, folder, f"{VARIABLE}={os.environ[VARIABLE]}")
    else:
        raise ConfigError(
            f"nothing was fetched: the files are under terms that were not acknowledged yet: {files.licence}. "
            f"To acknowledge them, once, set weights.accept_licence=true (or {VARIABLE}=1)"
        )


def _record(folder: Path) -> dict[str, dict[str, str]]:
    try:
        record: dict[str, dict[str, str]] = json.loads((folder / RECORD_NAME).read_text())
    except (FileNotFoundError, ValueError):
        return {}
    return record if isinstance(record, dict) else {}
