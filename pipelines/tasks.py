"""The stages as Prefect tasks. Stages themselves are plain functions: here is said how Prefect runs them.

Prefect's own result cache is not used: a task's result is a stored thing whose key says all that caused it, and the
stores are asked for it directly (docs/decisions/0003).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, ParamSpec, TypeVar

from prefect import Task, task
from prefect.cache_policies import NO_CACHE

from stages import decode, encode, fetch, label, render, report, shard

if TYPE_CHECKING:
    from collections.abc import Callable

P = ParamSpec("P")
R = TypeVar("R")


def _task(function: Callable[P, R], name: str) -> Task[P, R]:
    return task(name=name, cache_policy=NO_CACHE, persist_result=False)(function)


fetch_vocabularies = _task(fetch.fetch_vocabularies, "fetch vocabularies")
fetch_weights = _task(fetch.fetch_weights, "fetch weights")
label_songs = _task(label.label_songs, "label")
encode_prompt = _task(encode.encode_prompt, "encode prompt")
encode_file = _task(encode.encode_file, "encode file")
sample_unit = _task(shard.sample_unit, "sample window")
decode_track = _task(decode.decode_track, "decode track")
decode_file = _task(decode.decode_file, "decode file")
write_song_codes = _task(render.write_song_codes, "write codes")
draw_sound = _task(render.draw_sound, "draw")
write_report = _task(report.write_report, "report")
