"""The cost of looking for numbers that are not finite: ``python -m benchmarks.finite``.

In loading: priors are loaded with the check and without it, in turns. In the first start with a file of weights: they
are loaded, prepared for sampling, and kept so for later starts, which check nothing, since the copy is bound by digests
to what was checked. In steps: the CPU time of the checks within that of the steps that they belong to. All of it is CPU
time, which other load on the machine alters little.
Prints a table, and one line of JSON last. Models have the official sizes, a few layers and random weights: in a step of
all layers the share is smaller.
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
from unittest import mock

import torch

from benchmarks.fill import fill
from benchmarks.full_size import machine
from benchmarks.workers.ours import Ours
from jukebox_core.families.jukebox.checkpoints.loading import load_prior
from jukebox_core.families.jukebox.checkpoints.prepared import Source, sampling_prior
from jukebox_core.families.jukebox.model.prior import Prior
from jukebox_core.families.jukebox.sampling.decoder import WindowDecoder
from jukebox_core.models.checkpoints import checkpoint
from jukebox_core.models.checkpoints.checkpoint import save_safetensors
from jukebox_core.models.presets import load_preset

if TYPE_CHECKING:
    from collections.abc import Sequence

    from torch import Tensor

    from jukebox_core.families.jukebox.config import JukeboxConfig

PARTS = {"mini": None, "1b_lyrics": 8}  # layers; None: all


def _copy(source: Tensor, target: Tensor) -> bool:
    target.copy_(source)
    return True


def loading(
    model: str, depth: int | None, dtype: str, rounds: int, scratch: str | None = None, *, first: bool = False
) -> dict[str, Any]:
    """Returns the CPU seconds of loading a prior with the check and without it, medians of turns, and their ratio.

    With `first`, those of all that the first start with a file does before it samples.
    """
    config, level = _with_depth(load_preset(model).config, depth), 2
    with tempfile.TemporaryDirectory(prefix="finite-", dir=scratch) as folder:
        path = Path(folder) / "prior.safetensors"
        prior = Prior(config.priors[level], config.vqvae)
        fill(prior)
        save_safetensors(prior, path)
        size = path.stat().st_size
        del prior
        times: dict[bool, list[float]] = {True: [], False: []}
        for turn in range(2 * rounds + 2):
            with (
                mock.patch.object(checkpoint, "copy_finite", checkpoint.copy_finite if turn % 2 else _copy),
                tempfile.TemporaryDirectory(dir=folder) as library,
            ):
                began = time.process_time()
                if first:
                    source = Source(path, "0" * 64, Path(library))
                    sampling_prior(config, level, source, device=torch.device("cpu"), dtype=dtype, engine="native")
                else:
                    load_prior(config, level, path, dtype=dtype)
                times[bool(turn % 2)].append(time.process_time() - began)
    # The first turn of each reads the file from the disk. Noise only adds: the shares of neighbours show the spread.
    pairs = [on / off - 1 for on, off in zip(times[True][1:], times[False][1:], strict=True)]
    with_it, without = median(times[True][1:]), median(times[False][1:])
    return {
        "what": "first start" if first else "loading", "model": model, "layers": depth, "dtype": dtype, "bytes": size,
        "with_s": with_it, "without_s": without, "share": with_it / without - 1, "spread": [min(pairs), max(pairs)],
    }  # fmt: skip


def steps(model: str, depth: int | None, engine: str, batch: int, count: int, rounds: int) -> dict[str, Any]:
    """Returns the CPU seconds of decode steps, of the checks within them, and the share of these, medians."""
    ours = Ours(model, "top", engine, 1, depth, "cpu")
    looked = 0.0
    check = WindowDecoder.check_logits

    def timed(decoder: WindowDecoder) -> None:
        nonlocal looked
        began = time.thread_time()
        check(decoder)
        looked += time.thread_time() - began

    shares, step_s = [], []
    with mock.patch.object(WindowDecoder, "check_logits", timed):
        for _ in range(rounds):
            looked, began = 0.0, time.thread_time()
            ours.decode(batch, count)
            whole = time.thread_time() - began
            shares.append(looked / (whole - looked))
            step_s.append(whole / (2 * count))  # steps run twice
    return {
        "what": "steps", "model": model, "layers": depth, "engine": engine, "batch": batch, "ms": 1e3 * median(step_s),
        "share": median(shares), "spread": [min(shares), max(shares)],
    }  # fmt: skip


def _with_depth(config: JukeboxConfig, depth: int | None) -> JukeboxConfig:
    if depth is None:
        return config
    priors = tuple(
        replace(each, transformer=replace(each.transformer, depth=min(depth, each.transformer.depth)))
        for each in config.priors
    )
    return replace(config, priors=priors)


def run(models: Sequence[str], rounds: int, count: int, scratch: str | None) -> dict[str, Any]:
    """Measures every model; returns the machine and the rows."""
    torch.set_num_threads(1)
    rows = [
        loading(model, PARTS.get(model, 8), dtype, rounds, scratch, first=first)
        for model in models
        for dtype in ("float32", "bfloat16")
        for first in (False, True)
    ]
    for batch in (1, 4):
        rows += [steps(model, PARTS.get(model, 8), "native:float32", batch, count, rounds) for model in models]
    return {"benchmark": "finite", "machine": machine(), "rows": rows}


def line(row: dict[str, Any]) -> str:
    """Returns a row of the table."""
    low, high = row["spread"]
    loads = row["what"] != "steps"
    how = row["dtype"] if loads else f"{row['engine']} x{row['batch']}"
    size = f"{row['with_s']:.3f} s" if loads else f"{row['ms']:.2f} ms"
    layers = "all" if row["layers"] is None else row["layers"]
    return (
        f"{row['what']:11} {row['model']:10} layers {layers!s:4} {how:18} {size:>10}  share {row['share']:7.3%}  "
        f"({low:.2%} to {high:.2%})"
    )


def main(arguments: Sequence[str] | None = None) -> None:
    """Runs the measurement; prints a table, and one line of JSON last."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.finite", description=__doc__)
    parser.add_argument("--models", nargs="+", default=[*PARTS], help="models of conf/model/ of the Jukebox family")
    parser.add_argument("--rounds", type=int, default=9, help="turns")
    parser.add_argument("--count", type=int, default=256, help="steps of a turn: two checks or more")
    parser.add_argument("--scratch", help="folder with room for a file of weights; a temporary one by default")
    result = run(**vars(parser.parse_args(arguments)))
    print("\n".join(map(line, result["rows"])))
    print(json.dumps(result))


if __name__ == "__main__":
    main()
