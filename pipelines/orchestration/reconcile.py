"""Reconciles Prefect with killed processes at the next start: their runs would otherwise never end.

A flow run is tagged with the process that runs it; only runs of processes of this machine that have ended are touched.
Never fails a run.
"""

from __future__ import annotations

import logging
import os
from pathlib import Path
from typing import TYPE_CHECKING

from jukebox_core.base.processes import is_dead, own_name

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from uuid import UUID

    from prefect.client.orchestration import SyncPrefectClient
    from prefect.client.schemas.objects import FlowRun

log = logging.getLogger("jukebox")

TAG = "jukebox"
RESTARTS = 3  # a deployed run whose process was killed more often is not restarted automatically
_PROCESS = "process:"


def process_tag(process: str) -> str:
    """Returns the tag of a flow run that a process, named as in `jukebox_core.base.processes`, runs."""
    return _PROCESS + process


def tags() -> list[str]:
    """Returns the tags of a flow run that this process runs."""
    return [TAG, process_tag(own_name())]


def claim(client: SyncPrefectClient, run: FlowRun) -> None:
    """Tags a flow run that exists already as one that this process runs."""
    others = [tag for tag in run.tags if tag != TAG and not tag.startswith(_PROCESS)]
    client.update_flow_run(run.id, tags=[*others, *tags()])


def reconcile(*, restart: bool = False) -> int:
    """Marks runs of killed processes of this machine as crashed, with their tasks; returns how many; idempotent.

    Args:
        restart: reschedule those of deployments, as ``jukebox serve`` does; they continue from their stored tokens.
    """
    try:
        return _reconcile(restart=restart)
    except Exception:
        log.debug("stale runs in Prefect could not be reconciled", exc_info=True)
        return 0


def _reconcile(*, restart: bool) -> int:
    from prefect.client.orchestration import get_client
    from prefect.client.schemas.filters import FlowRunFilter
    from prefect.states import AwaitingRetry, Completed, Crashed, Failed

    ended = _noted_ends()
    states = {"COMPLETED": Completed, "FAILED": Failed}
    unfinished = {"state": {"type": {"any_": ["RUNNING", "PENDING", "CANCELLING"]}}, "tags": {"all_": [TAG]}}
    with get_client(sync_client=True) as client:
        found = client.read_flow_runs(flow_run_filter=FlowRunFilter.model_validate(unfinished))
        stale = [run for run in found if any(is_dead(name) for name in _processes(run.tags))]
        for run in stale:
            _crash_tasks(client, run.id)
            note = ended.get(str(run.id))
            if note in states:
                client.set_flow_run_state(run.id, states[note](message="recorded later"), force=True)
                continue
            client.set_flow_run_state(run.id, Crashed(message="its process was killed"), force=True)
            log.info("run %s in Prefect was left by a killed process: marked as crashed", run.name)
            if restart and run.deployment_id is not None and run.run_count <= RESTARTS:
                client.set_flow_run_state(run.id, AwaitingRetry(message="continues from its stored tokens"), force=True)
    for name in ended:
        (_notes() / name).unlink(missing_ok=True)
    return len(stale)


def note_end(run: str, state: str) -> None:
    """Notes the `state`, COMPLETED or FAILED, of a flow run whose server does not answer; `reconcile` records it.

    Raises:
        OSError: the note cannot be written.
    """
    _notes().mkdir(parents=True, exist_ok=True)
    (_notes() / run).write_text(state, "ascii")


def _notes() -> Path:
    return Path(os.environ["PREFECT_HOME"]) / "ended"


def _noted_ends() -> dict[str, str]:
    """Returns the noted states by flow run."""
    if not _notes().is_dir():
        return {}
    return {path.name: path.read_bytes()[:20].decode("latin-1") for path in _notes().iterdir() if path.is_file()}


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
