"""Which server processes count as leaked: those of this Prefect home whose owner has ended, and no others."""

from __future__ import annotations

import os
import subprocess
import sys
from contextlib import ExitStack
from typing import TYPE_CHECKING

from jukebox_core.base.processes import name_of, own_name
from pipelines.orchestration import reconcile
from pipelines.orchestration.prefect_home import OWNER

if TYPE_CHECKING:
    from pathlib import Path

    import pytest


def test_only_servers_of_this_home_with_a_dead_owner_are_stopped(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ended = subprocess.Popen([sys.executable, "-c", "pass"])
    dead = name_of(ended.pid)
    ended.wait()
    home = str(tmp_path / "home")
    monkeypatch.setenv("PREFECT_HOME", home)
    app = "prefect.server.api.server:create_app"
    ours = {"PREFECT__SERVER_EPHEMERAL": "1", "PREFECT_HOME": home, OWNER: dead}
    with ExitStack() as stack:

        def start(argument: str, **changed: str) -> int:
            command = [sys.executable, "-c", "print(flush=True); import time; time.sleep(120)", argument]
            environment = {**os.environ, **ours, **changed}
            process = subprocess.Popen(command, env=environment, stdout=subprocess.PIPE)
            stack.callback(process.wait)
            stack.callback(process.kill)
            assert process.stdout is not None
            stack.callback(process.stdout.close)
            process.stdout.readline()  # its command line and environment are in place
            return process.pid

        leaked = start(app)
        start("something.else:create_app")
        start(app, PREFECT_HOME=str(tmp_path / "other"))
        start(app, PREFECT__SERVER_EPHEMERAL="0")
        start(app, **{OWNER: own_name()})
        assert reconcile.stop_leaked_servers() == [leaked]
