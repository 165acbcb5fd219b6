"""Variations in turns with the original way: official sizes, random weights, CPU.

10 s of music: 12 passes of the coarse transformer over one chunk, and 2 of the coarse-to-fine one over chunks of 3 s.
All ways have the same weights, codes and mask (every seventh step is kept), and chunks without overlap: the same music
to make. The arithmetic of a pass does not depend on how much of a chunk is masked, unless nothing is.

A turn times, for each way, one pass of each transformer over one chunk: the first pass of each is left out. Times are
scaled to the whole: the original way pads the last chunk of the coarse-to-fine transformer, ours makes a shorter one.
CPU time, which other programs on the machine disturb less, is given beside wall time. Batches of several
variations are timed in the same way.
"""

from __future__ import annotations

import argparse
import copy
import gc
import json
from dataclasses import dataclass, field, replace
from statistics import median
from time import perf_counter, process_time
from typing import TYPE_CHECKING, Any

import torch

from benchmarks.full_size import machine
from benchmarks.vamp.original import Original
from jukebox_core.families.vampnet.config import C2F, COARSE
from jukebox_core.families.vampnet.engine import converted
from jukebox_core.families.vampnet.model.transformer import VampTransformer
from jukebox_core.families.vampnet.sampling.config import VampSampling
from jukebox_core.families.vampnet.sampling.noise import CounterGridNoise, GeneratorGridNoise
from jukebox_core.families.vampnet.sampling.passes import GridState, advance, start
from jukebox_core.models.presets import load_preset

if TYPE_CHECKING:
    from collections.abc import Sequence

    from jukebox_core.families.vampnet.config import TransformerConfig, VampNetConfig
    from jukebox_core.families.vampnet.sampling.noise import GridNoise

ORIGINAL = "original"
WAYS = ("float32", "bfloat16", "int8")
GOALS = {"float32": 1.5, "bfloat16": 5.0, "int8": 5.0}
_PERIOD = 7
_SAMPLING = VampSampling()


@dataclass(slots=True)
class Way:
    """One way to fill a chunk, and the times of its passes in seconds: wall and CPU, of each turn."""

    model: VampTransformer
    parity: bool
    items: int = 1
    wall: list[float] = field(default_factory=list)
    processor: list[float] = field(default_factory=list)

    def turn(self, state: GridState, *, measured: bool) -> None:
        """Computes a pass over a chunk, and records its time."""
        walls, processors = perf_counter(), process_time()
        noise: GridNoise = CounterGridNoise(0, 1, 0, range(self.items), 0)
        if self.parity:
            noise = GeneratorGridNoise(torch.Generator().manual_seed(0))
        advance(self.model, state, _SAMPLING.coarse, noise, parity=self.parity)
        if measured:
            self.wall.append(perf_counter() - walls)
            self.processor.append(process_time() - processors)


def random_model(sizes: TransformerConfig) -> VampTransformer:
    """Returns a transformer with random weights, and random codebooks."""
    torch.manual_seed(0)
    model = VampTransformer(sizes).eval().requires_grad_(requires_grad=False)
    model.codebooks_KVD = torch.randn(sizes.n_codebooks, sizes.vocab_size, sizes.latent_dim)
    return model


def chunk_state(sizes: TransformerConfig, steps: int, items: int) -> GridState:
    """Returns a chunk before its first pass, of which every seventh step is kept."""
    generator = torch.Generator().manual_seed(1)
    codes_BKT = torch.randint(sizes.vocab_size, (items, sizes.n_codebooks, steps), generator=generator)
    mask_BKT = torch.ones_like(codes_BKT, dtype=torch.bool)
    mask_BKT[:, : sizes.n_conditioning_codebooks] = False
    if not sizes.n_conditioning_codebooks:
        mask_BKT[..., ::_PERIOD] = False
    return start(sizes, codes_BKT, mask_BKT)


def passes(config: VampNetConfig, role: str, seconds: float, *, padded: bool) -> float:
    """Returns how many passes over a whole chunk `seconds` of music take; part of a chunk counts as its part."""
    chunk, total = config.network.chunk(role), config.network.codec.tokens_of(seconds)
    chunks = -(-total // chunk) if padded and role == C2F else total / chunk
    return chunks * (_SAMPLING.coarse if role == COARSE else _SAMPLING.c2f).steps


def measure(
    config: VampNetConfig, role: str, names: Sequence[str], threads: int, turns: int, items: int
) -> dict[str, Any]:
    """Returns seconds a pass of one transformer by way, alone and in a batch."""
    torch.set_num_threads(threads)
    model, steps = random_model(config.sizes(role)), config.network.chunk(role)
    ways = {ORIGINAL: Way(Original(model), parity=True)}
    for name in names:
        own = model if name == "float32" else copy.deepcopy(model)
        ways[name] = Way(converted(own, name), parity=False)
        if items > 1:
            ways[f"{name}, batch of {items}"] = Way(ways[name].model, parity=False, items=items)
    gc.collect()
    states = {items: chunk_state(config.sizes(role), steps, items) for items in {1, items}}
    for turn in range(turns + 1):
        for way in ways.values():
            way.turn(states[way.items], measured=turn > 0)
    return {
        name: {
            "wall": median(way.wall) / way.items,
            "cpu": median(way.processor) / way.items,
            "best": min(way.wall) / way.items,
        }
        for name, way in ways.items()
    }


def run(
    names: Sequence[str] = WAYS, threads: int = 2, seconds: float = 10.0, turns: int = 2, items: int = 4,
    layers: int | None = None,
) -> dict[str, Any]:  # fmt: skip
    """Speed of variations at the official sizes with random weights, in turns with the original way."""
    config = with_layers(load_preset("vampnet").config, layers)
    rows: dict[str, dict[str, float]] = {}
    for role in (COARSE, C2F):
        for name, times in measure(config, role, names, threads, turns, items).items():
            count = passes(config, role, seconds, padded=name == ORIGINAL)
            row = rows.setdefault(name, {"wall": 0.0, "cpu": 0.0, "best": 0.0})
            for kind, value in times.items():
                row[kind] += count * value
        gc.collect()
    original = rows[ORIGINAL]
    for name, row in rows.items():
        alone = rows[name.partition(",")[0]]
        row |= {
            "faster": original["wall"] / row["wall"],
            "faster_cpu": original["cpu"] / row["cpu"],
            "of_alone": row["wall"] / alone["wall"],
        }
    return {
        "benchmark": "vamp",
        "machine": machine(),
        "threads": threads,
        "seconds_of_music": seconds,
        "layers": layers,
        "turns": turns,
        "rows": {name: {kind: round(value, 3) for kind, value in row.items()} for name, row in rows.items()},
    }


def with_layers(config: VampNetConfig, layers: int | None) -> VampNetConfig:
    """Returns the model with fewer layers; None: as it is."""
    if layers is None:
        return config
    network = config.network
    assert network.c2f is not None, "the official model has one"
    coarse, c2f = (replace(sizes, n_layers=layers) for sizes in (network.coarse, network.c2f))
    return replace(config, network=replace(network, coarse=coarse, c2f=c2f))


def table(result: dict[str, Any]) -> str:
    """Returns the figures as lines of text: seconds for all of the music, of one variation."""
    lines = [f"{'way':<22}{'wall, s':>9}{'CPU, s':>9}{'faster':>8}{'by CPU':>8}{'of alone':>10}{'goal':>7}"]
    for name, row in result["rows"].items():
        goal = f"{GOALS[name]:g} x" if name in GOALS else "0.5" if "batch" in name else ""
        lines.append(
            f"{name:<22}{row['wall']:>9.1f}{row['cpu']:>9.1f}{row['faster']:>6.2f} x{row['faster_cpu']:>6.2f} x"
            f"{row['of_alone']:>10.2f}{goal:>7}"
        )
    return "\n".join(lines)


def main(arguments: Sequence[str] | None = None) -> None:
    """Runs the measurement; prints a table, and one line of JSON last."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.vamp", description=run.__doc__)
    parser.add_argument("--ways", dest="names", nargs="+", default=list(WAYS), choices=list(WAYS), help="ours")
    parser.add_argument("--threads", type=int, default=2, help="CPU threads (%(default)s)")
    parser.add_argument("--seconds", type=float, default=10.0, help="length of the music (%(default)s)")
    parser.add_argument("--turns", type=int, default=2, help="turns of every way (%(default)s)")
    parser.add_argument("--items", type=int, default=4, help="variations of a batch (%(default)s); 1: none")
    parser.add_argument("--layers", type=int, help="reduced number of layers")
    result = run(**vars(parser.parse_args(arguments)))
    print(table(result))
    print(json.dumps(result))


if __name__ == "__main__":
    main()
