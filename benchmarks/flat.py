"""Whether the time per token is independent of its position: in the window, and in a song of one to ten minutes.

Some layers of a prior of the official size decode at positions from the first of a window to the last, and the embedded
model's top prior samples windows at several minutes of a ten-minute song, including stores. Rounds are interleaved, so
that other load on the machine affects all positions equally, and time is CPU time of one thread.
``python -m benchmarks.flat --help``.
"""

from __future__ import annotations

import argparse
import json
import tempfile
import time
from dataclasses import replace
from pathlib import Path
from statistics import median
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from benchmarks.fast import ENGINES, REPOSITORY
from benchmarks.full_size import machine
from benchmarks.workers.process import Worker
from jukebox_core.families.jukebox.conditioning.labels import SongLabels
from jukebox_core.families.jukebox.sampling.config import SamplingConfig
from jukebox_core.families.jukebox.sampling.song_plan import SongSpec, plan_song
from jukebox_core.models.config import WeightsConfig
from jukebox_core.models.presets import load_preset
from jukebox_core.runtime.config import HardwareConfig
from jukebox_core.sampling.windows import FlushPolicy
from jukebox_core.store.spooled import open_store
from stages.fetch import fetch_weights
from stages.resident import release
from stages.sampling.sample import SamplingJob, sample_shard

if TYPE_CHECKING:
    from collections.abc import Sequence

    from jukebox_core.tokens.graph import Node

MODEL, DEPTH = "1b_lyrics", {"upsampler": 12, "top": 16}  # layers that include every type of the prior
PARTS = ("upsampler", "top", "song")
PLACES = (0.0, 0.125, 0.25, 0.5, 0.75, 1.0)  # relative positions in a window
MINUTES = (1, 4, 7, 10)


def window(part: str, engine: str, *, rounds: int, steps: int, batch: int = 1) -> dict[str, Any]:
    """Returns the median CPU time of a step at each of `PLACES`, in ms, and their relative differences."""
    context = load_preset(MODEL).config.priors[{"upsampler": 0, "top": 2}[part]].context
    last = context - steps - 2
    times: dict[float, list[float]] = {place: [] for place in PLACES}
    with Worker(
        ["-m", "benchmarks.workers.ours"], path=[REPOSITORY], model=MODEL, part=part, engine=engine, threads=1,
        depth=DEPTH[part], device="cpu",
    ) as worker:  # fmt: skip
        for _ in range(rounds):
            for place in PLACES:
                at = 1 + round(place * (last - 1))
                times[place] += worker.ask("decode", batch=batch, steps=steps, at=at, processor=True)["step_s"]
    return _row({"of": part, "engine": engine, "batch": batch}, {str(place): ts for place, ts in times.items()})


def song(*, rounds: int, folder: Path) -> dict[str, Any]:
    """Returns the median CPU time per token of the embedded model at each of `MINUTES` of a song, in ms."""
    model, top = load_preset("mini"), 2
    config, hardware = model.config, HardwareConfig(device="cpu", dtype="float32", threads=1)
    timing = config.priors[top].timing
    assert timing is not None
    timing = replace(timing, max_seconds=60.0 * (MINUTES[-1] + 1))  # mini was trained on shorter songs
    config = replace(config, priors=replace(config.priors, level_2=replace(config.priors[top], timing=timing)))
    weights = fetch_weights(model, WeightsConfig(folder=str(folder / "weights")))
    length = int(60 * (MINUTES[-1] + 0.5) * config.vqvae.sample_rate) // config.vqvae.hops[top] * config.vqvae.hops[top]
    labels = SongLabels(artist_id=0, genre_ids=(0,), lyric_tokens=(), total_length=length, offset=0)
    sampling = SamplingConfig(n_samples=1, stop_level=top)
    spec = SongSpec(
        config=config, weights=[weights[f"level_{level}"].identity for level in range(top + 1)], sampling=sampling,
        dtype="float32", sample=0, labels=[labels] * (top + 1), length=length,
    )  # fmt: skip
    nodes = plan_song(spec).nodes
    job = SamplingJob(
        family="jukebox", config=config, weights=weights, sampling=sampling, hardware=hardware,
        store=str(folder / "store"), policy=FlushPolicy(),
    )  # fmt: skip
    tokens_per_minute = 60 * config.vqvae.sample_rate / config.vqvae.hops[top]
    first = {minute: _first_after(nodes, minute * tokens_per_minute) for minute in MINUTES}
    for place in first.values():
        _seal_before(job, nodes, place, config.vqvae.bins)
    times: dict[str, list[float]] = {str(minute): [] for minute in MINUTES}
    for turn in range(rounds + 1):
        for minute, place in first.items():
            node, began = nodes[place + turn], time.thread_time()
            sample_shard(job, [node])
            if turn:  # the first loads the model
                times[str(minute)].append((time.thread_time() - began) / node.window.new)
    release()
    return _row({"of": "song", "engine": "native:float32", "batch": 1}, times)


def _first_after(nodes: Sequence[Node], token: float) -> int:
    return next(place for place, node in enumerate(nodes) if node.window.known >= token)


def _seal_before(job: SamplingJob, nodes: Sequence[Node], place: int, bins: int) -> None:
    """Stores random tokens for the windows that the one at `place` depends on."""
    store, generator = open_store(job.store), np.random.default_rng(place)
    read = {span.key for span in nodes[place].inputs["reads"]}
    for node in nodes[:place]:
        if node.key in read and not store.sealed(node.key):
            drawn = generator.integers(bins, size=node.window.new, dtype=np.int32)
            store.seal(node.key, drawn, first=node.window.known, causes=node.causes)


def _row(row: dict[str, Any], times: dict[str, list[float]]) -> dict[str, Any]:
    typical = {place: 1e3 * median(each) for place, each in times.items()}
    figures = [*typical.values()]
    mean = sum(figures) / len(figures)
    return row | {
        "ms": typical,
        "first_to_last": figures[-1] / figures[0] - 1,
        "apart": (max(figures) - min(figures)) / mean,
    }


def run(
    *, parts: Sequence[str] = PARTS, engines: Sequence[str] = ENGINES, rounds: int = 15,
    steps: int = 4,
) -> dict[str, Any]:  # fmt: skip
    """Measures windows of every part with every engine, and the song; returns the machine and the rows."""
    torch.set_num_threads(1)
    rows = []
    for part in parts:
        if part == "song":
            with tempfile.TemporaryDirectory(prefix="flat-") as folder:
                rows.append(song(rounds=max(2, rounds // 3), folder=Path(folder)))
            print(line(rows[-1]), flush=True)
            continue
        for engine in engines:
            rows.append(window(part, engine, rounds=rounds, steps=steps))
            print(line(rows[-1]), flush=True)
    return {"benchmark": "flat", "machine": machine(), "places": PLACES, "minutes": MINUTES, "rows": rows}


def line(row: dict[str, Any]) -> str:
    """Returns a row of the table: ms per token at each place, last over first, and the relative range."""
    figures = " ".join(f"{ms:8.3f}" for ms in row["ms"].values())
    return f"{row['of']:10} {row['engine']:16} {row['first_to_last']:+7.1%} {row['apart']:6.1%}  {figures}"


def main(arguments: Sequence[str] | None = None) -> None:
    """Runs the measurement; prints a table, and one line of JSON last."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.flat", description=run.__doc__)
    parser.add_argument("--parts", nargs="+", default=PARTS, choices=PARTS)
    parser.add_argument("--engines", nargs="+", default=ENGINES)
    parser.add_argument("--rounds", type=int, default=15, help="rounds over all places")
    parser.add_argument("--steps", type=int, default=4, help="steps per round")
    print(f"{'of':10} {'engine':16} {'last':>7} {'apart':>6}  ms at each place", flush=True)
    print(json.dumps(run(**vars(parser.parse_args(arguments)))))


if __name__ == "__main__":
    main()
