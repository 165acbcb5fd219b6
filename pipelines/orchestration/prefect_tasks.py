"""The stages as Prefect tasks: names and retries. They have no tags: for each, Prefect would ask its server for a slot.

Prefect's own result cache is not used: the key of a stored result hashes all that determines it, and the stores are
looked up by that key (docs/decisions/0003).
"""

from __future__ import annotations

import functools
from copy import copy
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from prefect import Task, task
from prefect.cache_policies import NO_CACHE
from prefect.runtime import deployment

from jukebox_core.errors import DamagedError, DownloadError, StoreError
from pipelines.orchestration.stage_calls import Stages, shown_name

if TYPE_CHECKING:
    from collections.abc import Callable

    from prefect.client.schemas.objects import State, TaskRun

UNUSED = Path(
    "results-are-not-stored"
)  # without a storage of its own, a task outside a flow run asks the server for one
RETRY_SECONDS = [10.0, 60.0, 300.0]  # before each retry; a host that is being restarted answers again by then

S = TypeVar("S", bound=Stages)


_RETRIED = frozenset(
    {"fetch_vocabularies", "fetch_weights", "encode_prompt", "decode_track", "write_song_codes"}
)  # short stages that depend on a host or a store; the stored part of any other is continued by the next run


@functools.cache
def as_prefect_tasks(stages: S) -> S:
    """Returns a copy of `stages` in which each stage is a Prefect task, made once."""
    tasks = copy(stages)
    for name in stages.names():
        setattr(tasks, name, _as_task(getattr(stages, name), shown_name(name), retried=name in _RETRIED))
    return tasks


def _as_task(function: Callable[..., Any], shown: str, *, retried: bool) -> Task[..., Any]:
    if not retried:
        return task(name=shown, cache_policy=NO_CACHE, persist_result=False, result_storage=UNUSED)(function)
    return task(
        name=shown,
        cache_policy=NO_CACHE,
        persist_result=False,
        result_storage=UNUSED,
        retries=len(RETRY_SECONDS),
        retry_delay_seconds=RETRY_SECONDS,
        retry_jitter_factor=0.2,
        retry_condition_fn=_is_transient,
    )(function)


def _is_transient(_task: Task[..., Any], _run: TaskRun, state: State[Any]) -> bool:
    """Whether a stage of a deployment failed for want of a host or a store; on a command line the user retries."""
    if deployment.id is None:
        return False
    error = state.result(raise_on_failure=False)
    return isinstance(error, (DownloadError, StoreError)) and not isinstance(error, DamagedError)
