"""Speed of the VQ-VAE and the code conditioner against the peer's: official sizes, random weights, interleaved rounds.

``python -m benchmarks.sound --help``. Each side is a separate process (`benchmarks.workers.process`); for the peer,
librosa is replaced by an empty module, as nothing measured here uses it. The machine's rate of matrix products is
measured in the same run.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import sys
import time
from contextlib import ExitStack
from importlib import import_module
from types import ModuleType
from typing import TYPE_CHECKING, Any

import torch

from benchmarks.fast import matmul_rate
from benchmarks.fill import fill
from benchmarks.full_size import machine
from benchmarks.workers.peer import has_peer, install
from benchmarks.workers.process import Worker, serve
from jukebox_core.families.jukebox.engines.native import pack_convolutions
from jukebox_core.families.jukebox.model.conditioners import CodeConditioner
from jukebox_core.families.jukebox.model.streaming import tap_major
from jukebox_core.families.jukebox.model.vqvae import VQVAE
from jukebox_core.models.presets import load_preset
from jukebox_core.runtime.device import COMPUTE_DTYPES, DTYPES

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

PRECISIONS = ("float32", "bfloat16", "int8")  # of the upsamplers' conditioners
MODEL = "1b_lyrics"  # its VQ-VAE and upsamplers are those of all released models


class _Side:
    """One side of the comparison: named pieces of work that are timed on request."""

    def __init__(self, threads: int, seconds: float, above: int | None) -> None:
        torch.set_num_threads(threads)
        torch.set_grad_enabled(mode=False)
        self.config = load_preset(MODEL).config
        self.samples = int(seconds * self.config.vqvae.sample_rate) // 128 * 128
        generator = torch.Generator().manual_seed(0)
        self.audio_BT = torch.randn(1, self.samples, generator=generator) / 10
        self.codes_BT = torch.randint(2048, (1, self.samples // 8), generator=generator)
        self.above_BU = torch.randint(2048, (1, above or self.config.priors[1].context // 4), generator=generator)
        self.works = self.build()

    def build(self) -> dict[str, Callable[[], Any]]:
        """Returns the pieces of work by name."""
        raise NotImplementedError

    def time(self, work: str) -> dict[str, float]:
        """Returns the seconds of one execution of `work`."""
        began = time.perf_counter()
        self.works[work]()
        return {"seconds": time.perf_counter() - began}


class _Ours(_Side):
    def build(self) -> dict[str, Callable[[], Any]]:
        vqvae = VQVAE(self.config.vqvae)
        fill(vqvae)
        for level in vqvae.levels:
            level.codebook.normal_()
        tap_major(vqvae)
        pack_convolutions(vqvae)
        works: dict[str, Callable[[], Any]] = {
            "encode, all levels": lambda: vqvae.encode(self.audio_BT),
            "decode, level 0": lambda: vqvae.decode(self.codes_BT, 0),
        }
        sizes = self.config.priors[1]
        assert sizes.upsample is not None
        for dtype in PRECISIONS:
            made = CodeConditioner(sizes.upsample, sizes.transformer.width, bins=2048, times=2, stride=2)
            fill(made)
            made.upsampler.to(COMPUTE_DTYPES[dtype])
            tap_major(made)
            pack_convolutions(made, DTYPES[dtype])
            works[f"condition, {dtype}"] = lambda made=made: made(self.above_BU)  # type: ignore[misc]
        return works


class _Peer(_Side):
    def build(self) -> dict[str, Callable[[], Any]]:
        package = ModuleType("jukebox_infer")  # replaces its own, which imports more
        package.__path__ = [str(install() / "jukebox_infer")]
        sys.modules |= {"jukebox_infer": package, "librosa": ModuleType("librosa")}
        sizes, above = self.config.vqvae, self.config.priors[1]
        assert above.upsample is not None
        vqvae = import_module("jukebox_infer.vqvae.vqvae").VQVAE(
            (self.samples, 1), sizes.levels, sizes.downs, sizes.strides, sizes.embedding_width, sizes.bins,
            0.99, 0.02, 0.0, 1.0, multipliers=sizes.multipliers, width=sizes.width, depth=sizes.depth, m_conv=1.0,
            dilation_growth_rate=sizes.dilation_growth, reverse_decoder_dilation=True,
        ).eval()  # fmt: skip
        fill(vqvae)
        for block in vqvae.bottleneck.level_blocks:
            block.k.normal_()
        conditioner = import_module("jukebox_infer.prior.conditioners").Conditioner(
            (self.above_BU.shape[1],), sizes.bins, 2, 2, above.transformer.width, 1.0, zero_out=False, res_scale=True,
            width=above.upsample.width, depth=above.upsample.depth, m_conv=1.0,
            dilation_growth_rate=above.upsample.dilation_growth, dilation_cycle=above.upsample.dilation_cycle,
        ).eval()  # fmt: skip
        fill(conditioner)
        return {
            "encode, all levels": lambda: vqvae.encode(self.audio_BT[:, :, None]),
            "decode, level 0": lambda: vqvae.decode([self.codes_BT], 0, 1),
            # On a CPU the peer computes in float32 only.
            **{f"condition, {dtype}": lambda: conditioner(self.above_BU) for dtype in PRECISIONS},
        }


WORKS = ("encode, all levels", "decode, level 0", *(f"condition, {dtype}" for dtype in PRECISIONS))
SIDES = {"ours": _Ours, "peer": _Peer}


def quick() -> dict[str, Any]:
    """Measures two seconds of audio and an eighth of a window, within seconds: shares, not figures of whole windows."""
    return run(seconds=2.0, turns=1, threads=os.cpu_count() or 1, above=256, peer=has_peer())


def run(
    *, seconds: float = 20.0, turns: int = 3, threads: int = 1, above: int | None = None, peer: bool = True
) -> dict[str, Any]:
    """Measures all work on both sides in interleaved rounds; returns the machine, and a row of figures for each work.

    Args:
        seconds: length of the audio that is encoded and decoded.
        turns: rounds, after one warm-up round.
        threads: CPU threads of torch.
        above: number of upper codes of the conditioning; None: those of a window.
        peer: measure the peer too.
    """
    rows = []
    with ExitStack() as stack:
        sides = {
            side: stack.enter_context(
                Worker(
                    ["-m", "benchmarks.sound", side], path=[install()] if side == "peer" else [], threads=threads,
                    seconds=seconds, above=above,
                )
            )
            for side in (SIDES if peer else ["ours"])
        }  # fmt: skip
        for work in WORKS:
            times: dict[str, list[float]] = {side: [] for side in sides}
            for turn in range(turns + 1):
                for side, worker in sides.items():
                    took = worker.ask("time", work=work)["seconds"]
                    times[side] += [took] if turn else []
            rows.append(_row(work, times))
            print(line(rows[-1]), file=sys.stderr, flush=True)
    rates = {str(dtype): matmul_rate(threads, dtype) for dtype in (torch.float32, torch.bfloat16)}
    return {
        "benchmark": "sound", "machine": machine(), "seconds": seconds, "above": above, "threads": threads,
        "matmul_flop_per_s": rates, "rows": rows,
    }  # fmt: skip


def _row(work: str, times: dict[str, list[float]]) -> dict[str, Any]:
    row: dict[str, Any] = {"work": work, "share": None}
    for side, taken in times.items():
        row |= {f"{side}_s": statistics.median(taken), f"{side}_spread": [min(taken), max(taken)]}
    if "peer" in times:
        row["share"] = row["ours_s"] / row["peer_s"]
    return row


def line(row: dict[str, Any]) -> str:
    """Returns a row of the table."""
    medians = [f"{row[f'{side}_s']:7.2f} s" if f"{side}_s" in row else f"{'':9}" for side in SIDES]
    ranges = ["{:.2f}-{:.2f}".format(*row[f"{side}_spread"]) if f"{side}_s" in row else "" for side in SIDES]
    share = "" if row["share"] is None else f"{row['share']:.2f}"
    return f"{row['work']:20} {medians[0]} {medians[1]} {share:>6}  {ranges[0]:>13} {ranges[1]:>13}"


def table(result: dict[str, Any]) -> str:
    """Returns the figures of `run` as text."""
    head = f"{'work':20} {'ours':>9} {'peer':>9} {'share':>6}  {'ours, range':>13} {'peer, range':>13}"
    return "\n".join([head, *(line(row) for row in result["rows"])])


def main(arguments: Sequence[str] | None = None) -> None:
    """Runs the measurement, prints a table, and one line of JSON last; with `side`, serves as its worker."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.sound", description=run.__doc__)
    parser.add_argument("side", nargs="?", choices=[*SIDES], help=argparse.SUPPRESS)
    parser.add_argument("--seconds", type=float, default=20.0, help="length of the audio (%(default)s)")
    parser.add_argument("--turns", type=int, default=3, help="rounds (%(default)s)")
    parser.add_argument("--above", type=int, help="number of upper codes; by default those of a window")
    parser.add_argument("--no-peer", dest="peer", action="store_false", help="ours alone")
    parser.add_argument("--threads", type=int, default=os.cpu_count(), help="CPU threads of torch")
    given = vars(parser.parse_args(arguments))
    side = given.pop("side")
    if side:
        serve(SIDES[side])
        return
    result = run(**given)
    print(table(result))
    print(json.dumps(result))


if __name__ == "__main__":
    main()
