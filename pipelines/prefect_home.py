"""Prefect, kept to this project: its database under the run's storage, no telemetry, no noise.

Prefect reads its environment when it is imported, so this module is imported, and `use` called, before it.
"""

from __future__ import annotations

import os
from pathlib import Path


def use(storage_root: str) -> None:
    """Points Prefect at `storage_root`; what the user has set in the environment wins.

    With PREFECT_API_URL set, a server that runs already is used; otherwise Prefect starts one of its own on loopback.
    """
    home = Path(storage_root).expanduser().absolute() / ".prefect"
    defaults = {
        "PREFECT_HOME": str(home),
        "PREFECT_SERVER_EPHEMERAL_STARTUP_TIMEOUT_SECONDS": "90",  # a fresh database migrates for 15 to 22 s
        "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
        "DO_NOT_TRACK": "1",
        "PREFECT_LOGGING_LEVEL": "WARNING",
        "PREFECT_LOGGING_SERVER_LEVEL": "ERROR",
        "PREFECT_CLI_PROMPT": "false",
    }
    for name, value in defaults.items():
        os.environ.setdefault(name, value)
    Path(os.environ["PREFECT_HOME"]).mkdir(parents=True, exist_ok=True)
