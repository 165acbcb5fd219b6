"""What killed processes leave in Prefect, put right at the next start: runs that never end, servers that nobody uses.

A flow run is tagged with the process that runs it, and a server's environment names the process it was started for;
only what belongs to a process of this machine that has ended is touched. Nothing here may fail a run.
"""

from __future__ import annotations

import logging
import os
import signal
from pathlib import Path
from typing import TYPE_CHECKING

from jukebox_core.base.processes import is_dead, own_name
from pipelines.orchestration.prefect_home import OWNER

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from uuid import UUID

    from prefect.client.orchestration import SyncPrefectClient
    from prefect.client.schemas.objects import FlowRun

log = logging.getLogger("jukebox")

TAG = "jukebox"
RESTARTS = 3  # a deployed run whose process was killed so often is not started again by itself
_PROCESS = "process:"


def tags() -> list[str]:
    """Returns the tags of a flow run that this process runs."""
    return [TAG, _PROCESS + own_name()]


def claim(client: SyncPrefectClient, run: FlowRun) -> None:
    """Tags a flow run that exists already as one that this process runs."""
    others = [tag for tag in run.tags if tag != TAG and not tag.startswith(_PROCESS)]
    client.update_flow_run(run.id, tags=[*others, *tags()])


def stop_leaked_servers() -> list[int]:
    """Ends servers of this Prefect home whose process was killed before it could end them; returns their numbers."""
    leaked = [pid for pid, owner in _servers(os.environ["PREFECT_HOME"]) if is_dead(owner)]
    for pid in leaked:
        try:
            os.kill(pid, signal.SIGTERM)
        except OSError as error:
            log.debug("server %d cannot be ended: %s", pid, error)
        else:
            log.info("ended a server of Prefect that a killed process had left (%d)", pid)
    return leaked


def _servers(home: str) -> Iterator[tuple[int, str]]:
    """Yields number and owner of each server process that Prefect started by itself for `home`."""
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            command = (folder / "cmdline").read_bytes()
            if b"prefect.server.api.server:create_app" not in command:
                continue
            pairs = (folder / "environ").read_bytes().split(b"\0")
        except OSError:  # it ended meanwhile, or is another user's
            continue
        environment = dict(pair.decode("utf-8", "replace").partition("=")[::2] for pair in pairs)
        if environment.get("PREFECT__SERVER_EPHEMERAL") == "1" and environment.get("PREFECT_HOME") == home:
            yield int(folder.name), environment.get(OWNER, "")


def reconcile(*, restart: bool = False) -> int:
    """Marks runs of killed processes of this machine as crashed, with their tasks; returns how many there were.

    Args:
        restart: schedule those of deployments again, as ``jukebox serve`` does: they go on from their stored tokens.
    """
    try:
        return _reconcile(restart=restart)
    except Exception:
        log.debug("stale runs in Prefect were left as they are", exc_info=True)
        return 0


def _reconcile(*, restart: bool) -> int:
    from prefect.client.orchestration import get_client
    from prefect.client.schemas.filters import FlowRunFilter
    from prefect.states import AwaitingRetry, Crashed

    unfinished = {"state": {"type": {"any_": ["RUNNING", "PENDING", "CANCELLING"]}}, "tags": {"all_": [TAG]}}
    with get_client(sync_client=True) as client:
        found = client.read_flow_runs(flow_run_filter=FlowRunFilter.model_validate(unfinished))
        stale = [run for run in found if any(is_dead(name) for name in _processes(run.tags))]
        for run in stale:
            _crash_tasks(client, run.id)
            client.set_flow_run_state(run.id, Crashed(message="its process was killed"), force=True)
            log.info("run %s in Prefect was left by a killed process: marked as crashed", run.name)
            if restart and run.deployment_id is not None and run.run_count <= RESTARTS:
                client.set_flow_run_state(run.id, AwaitingRetry(message="goes on from its stored tokens"), force=True)
    return len(stale)


def _crash_tasks(client: SyncPrefectClient, run: UUID) -> None:
    from prefect.client.schemas.filters import FlowRunFilter, TaskRunFilter
    from prefect.states import Crashed

    left = client.read_task_runs(
        flow_run_filter=FlowRunFilter.model_validate({"id": {"any_": [run]}}),
        task_run_filter=TaskRunFilter.model_validate({"state": {"type": {"any_": ["RUNNING", "PENDING"]}}}),
    )
    for task in left:
        client.set_task_run_state(task.id, Crashed(message="its process was killed"), force=True)


def _processes(tags: Iterable[str]) -> Iterator[str]:
    return (tag.removeprefix(_PROCESS) for tag in tags if tag.startswith(_PROCESS))
