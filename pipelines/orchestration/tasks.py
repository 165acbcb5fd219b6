"""The stages as Prefect tasks. Stages themselves are plain functions: here is said how Prefect runs them.

Prefect's own result cache is not used: a task's result is a stored thing whose key says all that caused it, and the
stores are asked for it directly (docs/decisions/0003).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ParamSpec, TypeVar

from prefect import Task, task
from prefect.cache_policies import NO_CACHE
from prefect.runtime import deployment

from jukebox_core.errors import DamagedError, DownloadError, StoreError
from stages import fetch
from stages.sampling import label, shard
from stages.sound import decode, encode, render, report
from stages.training import dataset

if TYPE_CHECKING:
    from collections.abc import Callable

    from prefect.client.schemas.objects import State, TaskRun

RETRY_SECONDS = [10.0, 60.0, 300.0]  # before each further try; a host that is being restarted is back by then
P = ParamSpec("P")
R = TypeVar("R")


def _may_pass(_task: Task[..., Any], _run: TaskRun, state: State[Any]) -> bool:
    """Whether a stage failed for want of a host or a store, with nobody there to try again."""
    if deployment.id is None:
        return False
    error = state.result(raise_on_failure=False)
    return isinstance(error, (DownloadError, StoreError)) and not isinstance(error, DamagedError)


def run_once(function: Callable[P, R], name: str, *tags: str) -> Task[P, R]:
    """Returns a stage that runs once: what it has stored is taken up by whoever runs it next.

    Prefect can be given limits for `tags`: how many tasks that bear one go at a time, over all runs of a server.
    """
    return task(name=name, cache_policy=NO_CACHE, persist_result=False, tags=tags)(function)


def _fetching(function: Callable[P, R], name: str) -> Task[P, R]:
    """Returns a short stage that depends on a host or a store, which a deployment tries again with longer waits."""
    return task(
        name=name,
        cache_policy=NO_CACHE,
        persist_result=False,
        retries=len(RETRY_SECONDS),
        retry_delay_seconds=RETRY_SECONDS,
        retry_jitter_factor=0.2,
        retry_condition_fn=_may_pass,
    )(function)


fetch_vocabularies = _fetching(fetch.fetch_vocabularies, "fetch vocabularies")
fetch_weights = _fetching(fetch.fetch_fitting_weights, "fetch weights")
label_songs = run_once(label.label_songs, "label")
encode_prompt = _fetching(encode.encode_prompt, "encode prompt")
encode_file = run_once(encode.encode_file, "encode file")
find_songs = run_once(dataset.find_songs, "find songs")
check_labels = run_once(dataset.check_labels, "check labels")
check_songs = run_once(dataset.check_songs, "check songs")
encode_songs = run_once(dataset.encode_songs, "encode songs")
sample_unit = run_once(shard.sample_unit, "sample window", "jukebox-sample")
decode_track = _fetching(decode.decode_track, "decode track")
decode_file = run_once(decode.decode_file, "decode file")
write_song_codes = _fetching(render.write_song_codes, "write codes")
draw_sound = run_once(render.draw_sound, "draw")
write_report = run_once(report.write_report, "report")
