"""The stages as Prefect tasks: names and retries. They have no tags: for each, Prefect would ask its server for a slot.

Prefect's own result cache is not used: the key of a stored result hashes all that determines it, and the stores are
looked up by that key (docs/decisions/0003).
"""

from __future__ import annotations

import functools
from copy import copy
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from prefect import Task, task
from prefect.cache_policies import NO_CACHE
from prefect.runtime import deployment

from jukebox_core.errors import DamagedError, DownloadError, StoreError
from pipelines.orchestration.stage_calls import PLAIN, Stages

if TYPE_CHECKING:
    from collections.abc import Callable

    from prefect.client.schemas.objects import State, TaskRun

UNUSED = Path(
    "results-are-not-stored"
)  # without a storage of its own, a task outside a flow run asks the server for one
RETRY_SECONDS = [10.0, 60.0, 300.0]  # before each retry; a host that is being restarted answers again by then

S = TypeVar("S", bound=Stages)


@dataclass(frozen=True, slots=True)
class _Options:
    """How Prefect runs one stage."""

    name: str | None = None  # as Prefect's pages show it; None: the stage's own, with spaces
    retried: bool = False  # a short stage that depends on a host or a store


_RUN_ONCE = _Options()  # its stored part is continued by the next run
_OPTIONS = {
    "fetch_vocabularies": _Options(retried=True),
    "fetch_weights": _Options(retried=True),
    "encode_prompt": _Options(retried=True),
    "sample_unit": _Options("sample window"),
    "extract_features": _Options("features"),
    "transcribe_unit": _Options("transcribe"),
    "decode_track": _Options(retried=True),
    "align_song": _Options("align"),
    "write_song_codes": _Options("write codes", retried=True),
    "draw_sound": _Options("draw"),
    "write_report": _Options("report"),
}


@functools.cache
def prefect_stages() -> Stages:
    """Returns the stages of making songs, codes and datasets as Prefect tasks."""
    return as_prefect_tasks(PLAIN)


def as_prefect_tasks(stages: S) -> S:
    """Returns a copy of `stages` in which each stage is a Prefect task."""
    tasks = copy(stages)
    for name in stages.names():
        setattr(tasks, name, _as_task(getattr(stages, name), name, _OPTIONS.get(name, _RUN_ONCE)))
    return tasks


def _as_task(function: Callable[..., Any], name: str, options: _Options) -> Task[..., Any]:
    shown = options.name or name.replace("_", " ")
    if not options.retried:
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
