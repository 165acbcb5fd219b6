"""Sampling speed: our engines, the peer, and the machine's lower bound, in interleaved rounds of one run.

A decode step reads every weight once, so its lower bound is the size of the weights over the memory bandwidth. Models
have the official sizes and random weights. Each runs in its own process (`benchmarks.workers.process`), and rounds are
interleaved, so that other load on the machine affects all equally. ``python -m benchmarks.fast --help``.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import time
from contextlib import ExitStack
from pathlib import Path
from statistics import median, quantiles
from typing import TYPE_CHECKING, Any

import torch

from benchmarks.full_size import machine
from benchmarks.workers.peer import has_peer, install
from benchmarks.workers.process import Worker

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence

REPOSITORY = Path(__file__).parents[1]
ENGINES = ("native:float32", "native:bfloat16", "native:int8")


_LONG_SECONDS = 0.1  # of a product: its rate does not depend on its size any more


def read_bandwidth(threads: int, device: str = "cpu", gigabytes: float = 1.0) -> float:
    """Returns the memory bandwidth of a reduction over a large array, in bytes per second; the best of six runs."""
    torch.set_num_threads(threads)
    data = torch.ones(int(gigabytes * 1e9 / 4), device=device)
    return data.nbytes / min(_seconds(lambda: torch.dot(data, data), device) for _ in range(6))


def matmul_rate(threads: int, dtype: torch.dtype, device: str = "cpu", largest: int = 2048) -> float:
    """Returns the rate of a large matrix product, in floating-point operations per second; the best of four runs.

    A CPU without instructions for `dtype` computes a thousand times fewer of them: there a smaller product is measured.
    """
    torch.set_num_threads(threads)
    size = 256
    while True:
        left, right = torch.randn(2, size, size, device=device).to(dtype)
        best = min(_seconds(lambda a=left, b=right: a @ b, device) for _ in range(4))  # type: ignore[misc]
        if size >= largest or best > _LONG_SECONDS:
            return 2 * size**3 / best
        size *= 2


def _seconds(work: Callable[[], Any], device: str) -> float:
    began = time.perf_counter()
    work()
    if device != "cpu":
        torch.cuda.synchronize()
    return time.perf_counter() - began


def measure(
    part: str,
    *,
    model: str,
    engines: Sequence[str],
    batches: Sequence[int],
    steps: int,
    rounds: int,
    prefill: int,
    peer: bool,
    threads: int,
    depth: int | None,
    device: str = "cpu",
) -> Iterator[dict[str, Any]]:
    """Yields a row for each engine (as `dtype`) and kind of work: medians, spread, and ratios."""
    bandwidth = read_bandwidth(threads, device)
    with ExitStack() as stack:
        workers = {
            engine: stack.enter_context(
                Worker(
                    ["-m", "benchmarks.workers.ours"],
                    path=[REPOSITORY],
                    model=model,
                    part=part,
                    engine=engine,
                    threads=threads,
                    depth=depth,
                    device=device,
                )
            )
            for engine in engines
        }
        if peer:
            command = ["-m", "benchmarks.workers.peer"]
            workers["peer"] = stack.enter_context(
                Worker(command, path=[REPOSITORY, install()], part=part, threads=threads, depth=depth, device=device)
            )
        built = {name: worker.built for name, worker in workers.items()}
        for batch in batches:
            times: dict[str, list[float]] = {name: [] for name in workers}
            for _ in range(rounds):
                for name, worker in workers.items():
                    times[name] += worker.ask("decode", batch=batch, steps=steps)["step_s"]
            bandwidth = max(bandwidth, read_bandwidth(threads, device))  # load can only lower the measurement
            for name in workers:
                yield row(part, "decode", batch, name, times[name], times.get("peer"), built[name], bandwidth)
        if prefill:
            read = {
                name: [worker.ask("prefill", batch=1, tokens=prefill, chunk=512)["seconds"] / prefill]
                for name, worker in workers.items()
            }
            for name in workers:
                yield row(part, "prefill", 1, name, read[name], read.get("peer"), built[name], bandwidth)


def row(
    part: str,
    work: str,
    batch: int,
    name: str,
    times: list[float],
    peer: list[float] | None,
    built: Any,
    bandwidth: float,
) -> dict[str, Any]:
    """Returns the figures of one engine for one kind of work; tokens are summed over the batch."""
    typical = median(times)
    cuts = quantiles(times, n=10) if len(times) > 1 else [typical] * 9
    floor = built["step_bytes"] / bandwidth if built and work == "decode" else None
    return {
        "part": part,
        "work": work,
        "batch": batch,
        "engine": name,
        "tokens_per_s": batch / typical,
        "ms": 1e3 * typical,
        "spread": (cuts[-1] - cuts[0]) / typical,
        "ratio": median(peer) / typical if peer else None,
        "floor_ms": 1e3 * floor if floor else None,
        "share_of_floor": floor / typical if floor else None,
        "gflop_per_s": built["token_flop"] * batch / typical / 1e9 if built else None,
    }


HEADER = (
    f"{'part':10} {'work':8} {'batch':>5} {'engine':17} {'tokens/s':>8} {'ms':>8} {'spread':>6} {'x peer':>7} "
    f"{'floor ms':>8} {'share':>6} {'GFLOP/s':>8}"
)


def table(rows: Iterable[dict[str, Any]]) -> str:
    """Returns the rows as text: ms per step or prefill token; spread: 10th to 90th percentile over the median."""
    return "\n".join([HEADER, *map(line, rows)])


def line(found: dict[str, Any]) -> str:
    """Returns a row of the table."""
    ratio, floor, share, rate = (
        "" if found[name] is None else text.format(found[name])
        for name, text in (
            ("ratio", "{:.1f}"), ("floor_ms", "{:.1f}"), ("share_of_floor", "{:.0%}"), ("gflop_per_s", "{:.0f}"),
        )
    )  # fmt: skip
    return (
        f"{found['part']:10} {found['work']:8} {found['batch']:5} {found['engine']:17} "
        f"{found['tokens_per_s']:8.2f} {found['ms']:8.2f} {found['spread']:6.1%} "
        f"{ratio:>7} {floor:>8} {share:>6} {rate:>8}"
    )


def run(parts: Sequence[str], *, threads: int, **options: Any) -> dict[str, Any]:
    """Measures the machine and every part; returns the machine, its rates, and the rows of `measure`."""
    rates = {
        "read_gb_per_s": read_bandwidth(threads) / 1e9,
        "float32_gflop_per_s": matmul_rate(threads, torch.float32) / 1e9,
        "bfloat16_gflop_per_s": matmul_rate(threads, torch.bfloat16) / 1e9,
    }
    print(rates, file=sys.stderr, flush=True)
    rows = []
    for part in parts:
        print(HEADER, file=sys.stderr, flush=True)
        for found in measure(part, threads=threads, **options):
            print(line(found), file=sys.stderr, flush=True)
            rows.append(found)
    return {"benchmark": "fast", "machine": machine(), "threads": threads, "rates": rates, "rows": rows}


def quick() -> dict[str, Any]:
    """Measures a few layers of an upsampler of the official size, in seconds: shares and ratios, not speeds."""
    return run(
        ["upsampler"],
        threads=os.cpu_count() or 1,
        model="1b_lyrics",
        engines=ENGINES,
        batches=[1, 16],
        steps=6,
        rounds=2,
        prefill=128,
        peer=has_peer(),
        depth=3,
    )


def main(arguments: Sequence[str] | None = None) -> None:
    """Runs the measurement; prints a table, and one line of JSON last."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.fast", description=run.__doc__)
    parser.add_argument("--model", default="1b_lyrics", help="sizes of our model; the peer has the official ones")
    parser.add_argument("--depth", type=int, help="reduced number of layers")
    parser.add_argument("--parts", nargs="+", default=["upsampler", "top"], choices=["upsampler", "top"])
    parser.add_argument("--engines", nargs="+", default=ENGINES)
    parser.add_argument("--batches", nargs="+", type=int, default=[1, 16])
    parser.add_argument("--steps", type=int, default=10, help="steps per round")
    parser.add_argument("--rounds", type=int, default=3, help="interleaved rounds")
    parser.add_argument("--prefill", type=int, default=0, help="tokens of the prefill; 0: none")
    parser.add_argument("--no-peer", dest="peer", action="store_false", help="ours alone")
    parser.add_argument("--threads", type=int, default=os.cpu_count(), help="CPU threads")
    result = run(**vars(parser.parse_args(arguments)))
    print(table(result["rows"]))
    print(json.dumps(result))


if __name__ == "__main__":
    main()
