"""One command for a machine with a CUDA GPU: correctness and speed of all engines.

It checks every engine against plain float32 on small priors; measures decode steps and prefill of the official sizes
and of the top prior of 5b_lyrics against the peer and the lower bound (`benchmarks.fast`); adds up the steps of 20
seconds of music on all levels; and samples them, as far as time allows. Within 8 minutes;
``python -m benchmarks.gpu``. No figures have been recorded yet.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import time
from typing import TYPE_CHECKING, Any

import torch

from benchmarks import fast
from benchmarks.full_size import label_row
from benchmarks.workers.ours import random_prior
from benchmarks.workers.peer import install
from jukebox_core.families.jukebox.conditioning.lengths import window_hop
from jukebox_core.families.jukebox.sampling.config import SamplingConfig
from jukebox_core.models.presets import load_preset
from jukebox_core.sampling.noise import CounterNoise
from jukebox_core.tokens.plan import plan_windows
from tests.helpers.models.level_oracle import sample_level

if TYPE_CHECKING:
    from collections.abc import Sequence

PARITY = ("tests/unit/families/jukebox/engines/test_static_steps.py", "tests/parity/test_sampling_golden.py")
ENGINES = ("eager:float16", "graph:float16", "compiled:float16", "graph:bfloat16")
WORKS: tuple[tuple[str, str, dict[str, Any]], ...] = (
    ("upsampler", "upsampler", {}),
    ("top", "top", {}),
    ("5b top", "top", {"model": "5b_lyrics", "batches": [1], "prefill": 0}),
)
SECONDS, BUDGET = 20, 8 * 60


def parity() -> bool:
    """Returns whether the tests of static steps and of the golden priors pass on this GPU."""
    command = [sys.executable, "-m", "pytest", "-q", "-m", "not slow", "--engine", "graph", *PARITY]
    return subprocess.run(command, check=False, stdout=sys.stderr, timeout=BUDGET / 2).returncode == 0


def music_seconds(rows: Sequence[dict[str, Any]], engine: str, batch: int) -> float | None:
    """Returns the time of all decode steps of `SECONDS` of 1b_lyrics music, without conditioning and VQ-VAE."""
    config, total = load_preset("1b_lyrics").config, 0.0
    for part, levels in (("top", (2,)), ("upsampler", (1, 0))):
        found = [r for r in rows if (r["part"], r["work"], r["batch"], r["engine"]) == (part, "decode", batch, engine)]
        if not found:
            return None
        tokens = sum(SECONDS * config.vqvae.sample_rate / config.vqvae.hops[level] for level in levels)
        total += tokens * found[0]["ms"] / 1e3
    return total


def music(model: str, engine: str, device: str, seconds: float, until: float) -> list[dict[str, Any]]:
    """Samples `seconds` of one song with random weights, level by level, until a deadline.

    Returns the seconds of each level's windows: conditioning, prefill, steps and draws. After the deadline `until`, by
    the monotonic clock, no further window is sampled; `whole_s` extrapolates to all tokens.
    """
    config, place = load_preset(model).config, torch.device(device)
    how, dtype = engine.split(":")
    tokens, rows = {}, []
    for level in range(config.top, -1, -1):
        count = int(seconds * config.vqvae.sample_rate) // config.vqvae.hops[config.top]
        count *= config.vqvae.hops[config.top] // config.vqvae.hops[level]
        sampling = SamplingConfig().level(level)
        prior, sizes = random_prior(config, level, device, how, dtype), config.priors[level]
        factor = config.upsampling_factor(level) if level < config.top else 1
        labels_1N = torch.tensor([label_row(config, level)])
        windows = plan_windows(count, sizes.context, window_hop(config, level, sampling.hop_fraction))
        codes_1T, made = torch.zeros(1, 0, dtype=torch.int64), 0
        began = time.monotonic()
        for window in windows:
            if made and time.monotonic() > until:
                break
            codes_1T = sample_level(
                prior,
                [window],
                codes_1T,
                labels=lambda *_, row=labels_1N: row,
                above_BT=tokens.get(level + 1),
                factor=factor,
                sampling=sampling,
                noise=lambda _, at=level: CounterNoise(0, at, [0], place),
                batch_size=1,
            )
            made = codes_1T.shape[1]
        took = time.monotonic() - began
        rows.append({"level": level, "tokens": count, "sampled": made, "s": took, "whole_s": took * count / made})
        tokens[level] = torch.nn.functional.pad(codes_1T, (0, count - made))
        del prior
    return rows


def run(
    device: str = "cuda",
    engines: Sequence[str] = ENGINES,
    *,
    seconds: float = SECONDS,
    within: tuple[float, float] = (BUDGET / 2, BUDGET),
    **options: Any,
) -> dict[str, Any]:
    """Measures as much as fits into the time limit; returns the machine and the rows.

    Args:
        device: of the models.
        engines: each as `engine:dtype`; the last one samples the music.
        seconds: of music.
        within: seconds after which no further steps are measured, and no further window is sampled.
        options: of `fast.measure`.
    """
    began, threads = time.monotonic(), os.cpu_count() or 1
    settings: dict[str, Any] = {
        "model": "1b_lyrics",
        "batches": [1, 16],
        "steps": 64,
        "rounds": 2,
        "prefill": 2048,
        "depth": None,
        "peer": True,
    }
    settings |= options
    peer = settings["peer"] and install().is_dir()
    rows: list[dict[str, Any]] = []
    print(fast.HEADER, file=sys.stderr, flush=True)
    for name, part, more in WORKS:
        for engine in engines:  # one at a time: each needs memory for weights and caches
            if time.monotonic() - began > within[0]:
                print(f"no time left for {name} by {engine}", file=sys.stderr)
                continue
            chosen = settings | more | options
            chosen["peer"] = peer and engine == engines[0] and not more  # it has the sizes of one top prior
            for row in fast.measure(part, engines=[engine], threads=threads, device=device, **chosen):
                rows.append(row | {"part": name})
                print(fast.line(rows[-1]), file=sys.stderr, flush=True)
    for row in rows:
        theirs = [r for r in rows if r["engine"] == "peer" and all(r[n] == row[n] for n in ("part", "work", "batch"))]
        row["ratio"] = theirs[0]["ms"] / row["ms"] if theirs else None
    steps = {f"{engine} x{batch}": music_seconds(rows, engine, batch) for engine in engines for batch in (1, 16)}
    return {
        "benchmark": "gpu",
        "machine": fast.machine(),
        "device": torch.cuda.get_device_name() if device == "cuda" else device,
        "cuda": torch.version.cuda,
        "read_gb_per_s": fast.read_bandwidth(threads, device) / 1e9,
        "rows": rows,
        "steps_s": steps,
        "music": music(settings["model"], engines[-1], device, seconds, began + within[1]),
        "seconds": time.monotonic() - began,
    }


def main(arguments: Sequence[str] | None = None) -> None:
    """Checks and measures; prints a table, and one line of JSON last."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.gpu", description=__doc__)
    parser.add_argument("--no-parity", dest="parity", action="store_false", help="measure only")
    chosen = parser.parse_args(arguments)
    if not torch.cuda.is_available():
        raise SystemExit("no CUDA device found; python -m benchmarks.fast measures the CPU")
    right = parity() if chosen.parity else None
    result = {**run(), "parity": right}
    print(fast.table(result["rows"]))
    for name, seconds in result["steps_s"].items():
        print(f"steps of {SECONDS} s of music, {name}: {'not measured' if seconds is None else f'{seconds:.0f} s'}")
    for row in result["music"]:
        print(f"level {row['level']}: {row['sampled']} of {row['tokens']} tokens in {row['s']:.0f} s")
    print(f"{SECONDS} s of music, all of it: {sum(row['whole_s'] for row in result['music']):.0f} s")
    print(json.dumps(result))


if __name__ == "__main__":
    main()
