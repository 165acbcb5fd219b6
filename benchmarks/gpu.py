"""One command for a machine with a CUDA GPU: are the fast ways right there, and how fast are they?

It checks every engine against plain float32 on small priors, then measures decode steps and prefill of the official
sizes beside the peer and the floor (`benchmarks.fast`), and adds up what 20 seconds of music on all levels take. Within
8 minutes; ``python -m benchmarks.gpu``. No figure of it has been recorded yet: the project has had no GPU.
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
from benchmarks.peer import install
from jukebox_core.families.jukebox.presets import load_preset

if TYPE_CHECKING:
    from collections.abc import Sequence

PARITY = ("tests/unit/test_tensor_steps.py", "tests/parity/test_sampling_golden.py")
ENGINES = ("eager:float16", "graph:float16", "graph:bfloat16", "compiled:float16")
SECONDS, BUDGET = 20, 8 * 60


def parity() -> bool:
    """Returns whether the tests of steps by a tensor's position, and of the golden priors, pass here."""
    command = [sys.executable, "-m", "pytest", "-q", "-m", "not slow", "--engine", "graph", *PARITY]
    return subprocess.run(command, check=False, stdout=sys.stderr, timeout=BUDGET / 2).returncode == 0


def music_seconds(rows: Sequence[dict[str, Any]], engine: str, batch: int) -> float | None:
    """Returns what the steps of `SECONDS` of 1b_lyrics music on all levels take, without conditioning and sound."""
    config, total = load_preset("1b_lyrics").config, 0.0
    for part, levels in (("top", (2,)), ("upsampler", (1, 0))):
        found = [r for r in rows if (r["part"], r["work"], r["batch"], r["engine"]) == (part, "decode", batch, engine)]
        if not found:
            return None
        tokens = sum(SECONDS * config.vqvae.sample_rate / config.vqvae.hops[level] for level in levels)
        total += tokens * found[0]["ms"] / 1e3
    return total


def run(device: str = "cuda", engines: Sequence[str] = ENGINES, **options: Any) -> dict[str, Any]:
    """Measures as much as fits into the time there is; returns where it ran, whether it is right, and the rows."""
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
    for part in ("upsampler", "top"):
        for engine in engines:  # one after the other: each needs memory for its weights and caches
            if time.monotonic() - began > BUDGET / 2:
                print(f"no time left for {part} by {engine}", file=sys.stderr)
                continue
            settings["peer"] = peer and engine == engines[0]
            measured = fast.measure(part, engines=[engine], threads=threads, device=device, **settings)
            rows += measured
            print(fast.table(measured), file=sys.stderr, flush=True)
    for row in rows:
        theirs = [r for r in rows if r["engine"] == "peer" and all(r[n] == row[n] for n in ("part", "work", "batch"))]
        row["ratio"] = theirs[0]["ms"] / row["ms"] if theirs else None
    music = {f"{engine} x{batch}": music_seconds(rows, engine, batch) for engine in engines for batch in (1, 16)}
    return {
        "benchmark": "gpu",
        "machine": fast.machine(),
        "device": torch.cuda.get_device_name() if device == "cuda" else device,
        "cuda": torch.version.cuda,
        "read_gb_per_s": fast.read_bandwidth(threads, device) / 1e9,
        "rows": rows,
        "music_s": music,
        "seconds": time.monotonic() - began,
    }


def main(arguments: Sequence[str] | None = None) -> None:
    """Checks and measures; prints a table, and one line of JSON last."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.gpu", description=__doc__)
    parser.add_argument("--no-parity", dest="parity", action="store_false", help="measure only")
    chosen = parser.parse_args(arguments)
    if not torch.cuda.is_available():
        raise SystemExit("there is no CUDA device here; python -m benchmarks.fast measures the CPU")
    right = parity() if chosen.parity else None
    result = {**run(), "parity": right}
    print(fast.table(result["rows"]))
    for name, seconds in result["music_s"].items():
        print(f"{SECONDS} s of 1b_lyrics music, {name}: {'not measured' if seconds is None else f'{seconds:.0f} s'}")
    print(json.dumps(result))


if __name__ == "__main__":
    main()
