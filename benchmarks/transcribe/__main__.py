"""Transcription in turns with the original way: official size, random weights, CPU.

Random weights know no end of a segment, so every segment gets the same number of ids, in every way: by default 96, the
75th percentile of the 101 segments of notes that the golden vectors encode (their mean is 74, their median 46, segments
full of notes have 90 to 150). All ways have the same weights and the same audio. They take turns: in each turn every
way transcribes one batch of segments of the recording, of 5 in the original way, of 16 in ours. Times are scaled to the
whole recording. CPU time, which other programs on the machine disturb less, is given beside wall time.

The floor of a segment: the arithmetic of the encoder at the rate of a large product in float32, and of the decoder, or
the bytes that it reads (weights once a step and batch, keys and values of all rows) at the memory's bandwidth,
whichever takes longer. Both rates are by CPU time.
"""

from __future__ import annotations

import argparse
import copy
import gc
import json
import os
import sys
import time
from dataclasses import dataclass, field, replace
from statistics import median
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from benchmarks.full_size import machine
from benchmarks.transcribe.original import BATCH, Original
from jukebox_core.families.mt3.config import EOS_ID, TranscriptionConfig
from jukebox_core.families.mt3.engines.engines import prepare
from jukebox_core.families.mt3.model.transformer import MT3
from jukebox_core.families.mt3.transcription.transcriber import open_transcriber
from jukebox_core.models.presets import load_preset

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from numpy.typing import NDArray

    from jukebox_core.families.mt3.config import MT3Network

TOKENS = 96
ORIGINAL = "original"
# Each differs from the one before in one thing.
WAYS: dict[str, tuple[str, str, int]] = {
    "cache": ("float32", "eager", 5),
    "batch": ("float32", "eager", 16),
    "float32": ("float32", "native", 16),
    "bfloat16": ("bfloat16", "native", 16),
    "int8": ("int8", "native", 16),
}
Rows = list[list[int]]


@dataclass(slots=True)
class Way:
    """One way to transcribe, and its times."""

    segments: int  # of a turn
    run: Callable[[NDArray[np.float32]], Rows]
    wall: list[float] = field(default_factory=list)  # seconds a segment, of each turn
    processor: list[float] = field(default_factory=list)
    rows: dict[int, list[int]] = field(default_factory=dict)  # ids by segment

    def turn(self, audio: NDArray[np.float32], first: int, size: int) -> None:
        """Transcribes the next segments from `first` on, and records the time."""
        part = audio[first * size : (first + self.segments) * size - 1]  # a whole last frame would begin one more
        walls, processors = time.perf_counter(), time.process_time()
        rows = self.run(part)
        self.wall.append((time.perf_counter() - walls) / len(rows))
        self.processor.append((time.process_time() - processors) / len(rows))
        self.rows |= dict(enumerate(rows, start=first))


def random_model(network: MT3Network) -> MT3:
    """Returns a model with random weights that never ends a segment."""
    torch.manual_seed(0)
    model = MT3(network).eval().requires_grad_(requires_grad=False)
    model.head.weight[EOS_ID] = 0.0  # of the other 1,535 logits, some are always positive
    return model


def ways(model: MT3, names: Sequence[str], tokens: int) -> dict[str, Way]:
    """Returns the original way and ours."""
    front_end = open_transcriber(model).front_end
    original = Original(model)

    def as_original(audio: NDArray[np.float32]) -> Rows:
        return original.decode(front_end(torch.from_numpy(audio)), tokens + 1)

    found = {ORIGINAL: Way(BATCH, as_original)}
    for name in names:
        dtype, engine, batch = WAYS[name]
        transcriber = open_transcriber(prepare(copy.deepcopy(model), dtype, engine))
        settings = TranscriptionConfig(batch_size=batch, max_tokens=tokens + 1)

        def run(
            audio: NDArray[np.float32], opened: Any = transcriber, settings: TranscriptionConfig = settings
        ) -> Rows:
            return [each.row.ids for each in opened.transcripts(audio, settings)]

        found[name] = Way(batch, run)
    gc.collect()
    return found


def operations(network: MT3Network, tokens: int) -> dict[str, float]:
    """Returns arithmetic (FLOP) and bytes of a segment, in float32."""
    sizes, frames = network.transformer, network.front_end.segment_frames
    inner = sizes.heads * sizes.head_width
    attention, mlp = 4 * sizes.width * inner, 3 * sizes.width * sizes.mlp_width
    encoder = 2 * frames * sizes.encoder_depth * (attention + mlp) + 4 * sizes.encoder_depth * inner * frames**2
    source = 4 * frames * sizes.decoder_depth * sizes.width * inner  # keys and values of the encoded frames, once
    weights = sizes.decoder_depth * (attention + attention // 2 + mlp) + sizes.embeddings * sizes.width
    attended_keys = sizes.decoder_depth * inner
    attended = attended_keys * (frames + tokens / 2)  # numbers in the keys of a step
    return {
        "encoder_flop": encoder + source,
        "decoder_flop": tokens * (2 * weights + 4 * attended),
        "weight_bytes": 4 * tokens * weights,
        "cache_bytes": 4 * tokens * 2 * attended,
        "original_flop": encoder
        + tokens * source
        + sum(2 * length * (weights + 2 * attended_keys * (frames + length)) for length in range(1, tokens + 1)),
    }


def machine_rates(threads: int) -> dict[str, float]:
    """Returns the memory's bandwidth and the rate of a large product, of all threads, by CPU time; the best of six."""
    data, square = torch.ones(25_000_000), torch.randn(1024, 1024)

    def fastest(work: Callable[[], object], amount: float) -> float:
        found = []
        for _ in range(6):
            began = time.process_time()
            work()
            found.append((time.process_time() - began) / threads)
        return amount / min(found)

    return {
        "bytes_per_s": fastest(lambda: torch.dot(data, data), data.nbytes),
        "float32_flop_per_s": fastest(lambda: square @ square, 2 * 1024**3),
    }


def floor_seconds(work: dict[str, float], rates: dict[str, float], batch: int, bytes_each: float) -> float:
    """Returns the least time of a segment, with weights of `bytes_each` and keys and values of at least two bytes."""
    flop, bandwidth = rates["float32_flop_per_s"], rates["bytes_per_s"]
    read = work["weight_bytes"] * bytes_each / 4 / batch + work["cache_bytes"] * max(2.0, bytes_each) / 4
    return work["encoder_flop"] / flop + max(work["decoder_flop"] / flop, read / bandwidth)


def measure(
    network: MT3Network, names: Sequence[str], *, threads: int, seconds: float, tokens: int, turns: int
) -> list[dict[str, Any]]:
    """Returns a row for each way: seconds for the whole recording, and ratios."""
    torch.set_num_threads(threads)
    rates = machine_rates(threads)
    size = network.front_end.segment_samples
    segments = int(seconds * network.front_end.sample_rate) // size + 1
    audio = np.random.default_rng(0).normal(0, 0.1, (segments + 64) * size).astype(np.float32)
    contenders = ways(random_model(network), names, tokens)
    for turn in range(turns):
        for name, way in contenders.items():
            way.turn(audio, turn * way.segments % segments, size)
            print(
                f"{threads} threads, turn {turn + 1}, {name}: {way.wall[-1]:.3f} s a segment, "
                f"{way.processor[-1]:.3f} of CPU",
                file=sys.stderr,
            )
    rates = {name: max(rate, rates[name]) for name, rate in machine_rates(threads).items()}  # load can only lower them
    work, peer = operations(network, tokens), contenders[ORIGINAL]
    rows = []
    for name, way in contenders.items():
        dtype, engine, batch = WAYS.get(name, ("float32", "original", BATCH))
        least = floor_seconds(work, rates, batch, {"float32": 4.0, "bfloat16": 2.0, "int8": 1.0}[dtype])
        both = [(way.rows[each], peer.rows[each]) for each in way.rows.keys() & peer.rows.keys()]
        same = sum(ours == theirs for one in both for ours, theirs in zip(*one, strict=True))
        wall, processor = median(way.wall) * segments, median(way.processor) * segments
        rows.append(
            {
                "way": name,
                "threads": threads,
                "dtype": dtype,
                "engine": engine,
                "batch": batch,
                "segments": segments,
                "measured_segments": way.segments * turns,
                "wall_s": wall,
                "cpu_s": processor,
                "times_real_time": seconds / wall,
                "wall_ratio": median(peer.wall) / median(way.wall),
                "cpu_ratio": median(peer.processor) / median(way.processor),
                "rates": rates,
                "spread": [min(way.wall) * segments, max(way.wall) * segments],
                "floor_s": least * segments,
                "same_ids": same / sum(len(ours) for ours, _ in both),
            }
        )
    return rows


def table(result: dict[str, Any]) -> str:
    """Returns the rows as text."""
    names = ("threads", "batch", "wall s", "CPU s", "x real", "x wall", "x CPU", "floor s", "same ids")
    lines = [f"{'way':10} " + " ".join(f"{name:>8}" for name in names)]
    lines += [
        f"{each['way']:10} {each['threads']:8} {each['batch']:8} {each['wall_s']:8.1f} {each['cpu_s']:8.1f} "
        f"{each['times_real_time']:8.2f} {each['wall_ratio']:8.1f} {each['cpu_ratio']:8.1f} {each['floor_s']:8.1f} "
        f"{each['same_ids']:8.1%}"
        for each in result["rows"]
    ]
    return "\n".join(lines)


def run(
    *, names: Sequence[str], threads: Sequence[int], seconds: float, tokens: int, turns: int, layers: int | None
) -> dict[str, Any]:
    """Measures with each number of threads; returns the machine, its load, and a row for each way."""
    network = load_preset("mt3").config.network
    if layers is not None:
        network = replace(network, transformer=replace(network.transformer, encoder_depth=layers, decoder_depth=layers))
    network = replace(network, transformer=replace(network.transformer, positions="port"))
    before = os.getloadavg()
    rows = [
        row
        for count in threads
        for row in measure(network, names, threads=count, seconds=seconds, tokens=tokens, turns=turns)
    ]
    return {
        "benchmark": "transcribe",
        "machine": machine(),
        "load": {"before": before, "after": os.getloadavg()},
        "seconds": seconds,
        "tokens": tokens,
        "layers": layers,
        "segment": operations(network, tokens),
        "rows": rows,
    }


def main(arguments: Sequence[str] | None = None) -> None:
    """Runs the measurement; prints a table, and one line of JSON last."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.transcribe", description=run.__doc__)
    parser.add_argument("--ways", dest="names", nargs="+", default=list(WAYS), choices=list(WAYS), help="ours")
    parser.add_argument("--threads", nargs="+", type=int, default=[2, 1], help="CPU threads")
    parser.add_argument("--seconds", type=float, default=300.0, help="length of the recording")
    parser.add_argument("--tokens", type=int, default=TOKENS, help="ids of each segment")
    parser.add_argument("--turns", type=int, default=10, help="turns of every way; 10 batches of 16 cover 300 s")
    parser.add_argument("--layers", type=int, help="reduced number of layers")
    parser.add_argument("--quick", action="store_true", help="two turns, one thread, float32 and int8")
    options = vars(parser.parse_args(arguments))
    if options.pop("quick"):
        options |= {"names": ["float32", "int8"], "threads": [1], "turns": 2}
    result = run(**options)
    print(table(result))
    print(json.dumps(result))


if __name__ == "__main__":
    main()
