"""Start-up time and memory of a prior: the first start, later ones, and the lower bound of reading the file.

A checkpoint in OpenAI's format is written (`upstream_files`), and each start is a new process. The first converts the
weights and stores the prepared ones; later starts read those (decision 15), with the page cache dropped (*cold*) or not
(*warm*), interleaved with a process that only reads the same bytes. ``python -m benchmarks.start --help``.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import tempfile
import time
from dataclasses import asdict
from pathlib import Path
from statistics import median
from typing import TYPE_CHECKING, Any

import torch

from benchmarks.full_size import Case, Memory, check_disk, forget_cached, fresh_process, machine, sample, write
from jukebox_core.families.jukebox.checkpoints import prepared
from jukebox_core.families.jukebox.checkpoints.prepared import Source, sampling_prior
from jukebox_core.families.jukebox.config import level_of
from jukebox_core.models.checkpoints.prepared import prepared_files
from jukebox_core.models.presets import load_preset
from jukebox_core.runtime.device import DTYPES

if TYPE_CHECKING:
    from collections.abc import Sequence

    from jukebox_core.families.jukebox.model.cache import TransformerCache

_IDENTITY = "0" * 64  # stands for the file's digest, to save hashing gigabytes


def start(case: Case, path: Path, library: Path, engine: str, least: int) -> dict[str, Any]:
    """Loads the prior and samples with it; returns seconds, and bytes of memory at each point."""
    prepared.MIN_BYTES = least
    torch.set_num_threads(case.threads)
    config, base = load_preset(case.model).config, Memory.now()
    device, began, worked = torch.device("cpu"), time.perf_counter(), time.thread_time()
    source = Source(path, _IDENTITY, library)
    prior = sampling_prior(config, level_of(case.role), source, device=device, dtype=case.dtype, engine=engine)
    took = {"ready_s": time.perf_counter() - began, "ready_cpu_s": time.thread_time() - worked}
    loaded, made, new_cache = Memory.now(), [], prior.body.transformer.new_cache

    def full_cache(*arguments: Any, **named: Any) -> TransformerCache:
        """Allocates all memory of the cache at once, as at the end of a window."""
        made.append(new_cache(*arguments, **named))
        for layer in made[-1].layers:
            layer.kv.zero_()
        return made[-1]

    prior.body.transformer.new_cache = full_cache  # type: ignore[method-assign]
    figures = sample(prior, config, case)
    return took | {
        "base": asdict(base),
        "loaded": asdict(loaded),
        "used": asdict(Memory.now()),
        "cache_bytes": made[-1].nbytes,
        **figures,
    }


def read(path: Path) -> dict[str, float]:
    """Reads a file into memory; returns the seconds."""
    began, worked = time.perf_counter(), time.thread_time()
    path.read_bytes()
    return {"read_s": time.perf_counter() - began, "read_cpu_s": time.thread_time() - worked}


def run(
    model: str, role: str, dtypes: Sequence[str], engine: str, least: int, *, rounds: int, known: int, new: int,
    threads: int, scratch: str | None,
) -> dict[str, Any]:  # fmt: skip
    """Measures one role in every precision; returns the machine, and a row of figures for each."""
    rows = []
    with tempfile.TemporaryDirectory(prefix="start-", dir=scratch) as folder:
        path = Path(folder) / f"{role}.pth.tar"
        check_disk(model, role, path)
        fresh_process(write, model, role, "zip", path)
        for dtype in dtypes:
            library = Path(folder) / dtype
            case = Case(model=model, role=role, format="zip", dtype=dtype, known=known, new=new, threads=threads)
            starting = (case, path, library, engine, least)
            first = fresh_process(start, *starting)
            (kept,) = prepared_files(library)
            turns: dict[str, list[dict[str, Any]]] = {"cold": [], "warm": []}
            for kind in [*turns] * rounds:
                found = {}
                for measured in (start, read):
                    if kind == "cold":
                        forget_cached(kept)
                    found |= fresh_process(measured, *(starting if measured is start else (kept,)))
                turns[kind].append(found)
            rows.append(_row(case, first, kept.stat().st_size, turns))
            print(line(rows[-1]), file=sys.stderr, flush=True)
            kept.unlink()
    return {"benchmark": "start", "machine": machine(), "engine": engine, "rows": rows}


def _row(case: Case, first: dict[str, Any], size: int, turns: dict[str, list[dict[str, Any]]]) -> dict[str, Any]:
    row: dict[str, Any] = asdict(case) | {"file_bytes": size, "first_s": first["ready_s"]}
    for kind, found in turns.items():
        for name in ("ready_s", "read_s", "ready_cpu_s", "read_cpu_s"):
            row[f"{kind}_{name}"] = median(each[name] for each in found)
        row[f"{kind}_share"] = median(each["ready_s"] / each["read_s"] for each in found)
    last = turns["warm"][-1]
    return row | {name: last[name] for name in ("base", "loaded", "used", "cache_bytes")}


HEADER = (
    f"{'role':8} {'dtype':9} {'file':>9} {'first':>7} {'cold':>7} {'read':>7} {'share':>5} {'warm':>7} {'read':>7} "
    f"{'share':>5} {'loaded':>9} {'used':>9} {'cache':>7}"
)


def line(row: dict[str, Any]) -> str:
    """Returns a row of the table: seconds, and MB of 10^6 bytes; `loaded` and `used` are peaks up to that point."""
    file, loaded, used, cache = (
        f"{size / 1e6:,.1f}"
        for size in (row["file_bytes"], row["loaded"]["peak"], row["used"]["peak"], row["cache_bytes"])
    )
    times = " ".join(
        f"{row[f'{kind}_ready_s']:6.2f}s {row[f'{kind}_read_s']:6.2f}s {row[f'{kind}_share']:5.2f}"
        for kind in ("cold", "warm")
    )
    return f"{row['role']:8} {row['dtype']:9} {file:>9} {row['first_s']:6.1f}s {times} {loaded:>9} {used:>9} {cache:>7}"


def table(result: dict[str, Any]) -> str:
    """Returns the figures of `run` as text."""
    return "\n".join([HEADER, *(line(row) for row in result["rows"])])


def main(arguments: Sequence[str] | None = None) -> None:
    """Runs the measurement; prints a table, and one line of JSON last."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.start", description=run.__doc__)
    parser.add_argument("--model", default="1b_lyrics", help="a model of conf/model/")
    parser.add_argument("--role", default="level_2")
    parser.add_argument("--dtypes", nargs="+", default=["bfloat16", "int8"], choices=list(DTYPES))
    parser.add_argument("--engine", default="native")
    parser.add_argument("--least", type=int, default=prepared.MIN_BYTES, help="smallest file that is prepared")
    parser.add_argument("--rounds", type=int, default=3, help="starts of each kind")
    parser.add_argument("--known", type=int, default=64, help="tokens read before the first new one")
    parser.add_argument("--new", type=int, default=4, help="tokens sampled, two or more")
    parser.add_argument("--threads", type=int, default=os.cpu_count(), help="CPU threads of torch")
    parser.add_argument("--scratch", help="folder with room for two files; a temporary one by default")
    result = run(**vars(parser.parse_args(arguments)))
    print(table(result))
    print(json.dumps(result))


if __name__ == "__main__":
    main()
