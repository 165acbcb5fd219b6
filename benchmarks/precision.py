"""Effect of lower precision on a trained model: loss on held-out songs, and agreement of the most likely codes.

The songs are those of `benchmarks.mini`, encoded by the VQ-VAE. Each precision is loaded as in a run.
``python -m benchmarks.precision --help``; the last line printed is JSON.
"""

from __future__ import annotations

import argparse
import json
import math
import os
from typing import TYPE_CHECKING, Any, Literal, get_args

import torch
import torch.nn.functional as F  # noqa: N812 - the field's usual name

from benchmarks.full_size import machine
from benchmarks.mini.subject import Subject, label_row, window_starts
from jukebox_core.api.model import load_model
from jukebox_core.runtime.config import HardwareConfig

if TYPE_CHECKING:
    from collections.abc import Sequence

    from torch import Tensor

Precision = Literal["bfloat16", "float16", "int8"]


def run(model: str = "mini", *, songs: int = 8, threads: int = 1, levels: Sequence[int] = ()) -> dict[str, Any]:
    """Compares every precision with float32 on all whole windows of the songs; returns a row of figures for each.

    Args:
        model: name, or path, of a model trained on composed songs.
        songs: number of composed songs.
        threads: CPU threads of torch.
        levels: levels to measure; by default all.
    """
    subject, rows = Subject(model, songs, threads), []
    for level in levels or range(subject.config.top, -1, -1):
        exact_bits, exact_best = evaluate(subject, level, "float32")
        row = {"level": level, "tokens": exact_best.numel(), "float32_bits": exact_bits}
        for dtype in get_args(Precision):
            bits, best = evaluate(subject, level, dtype)
            agreement = float((best == exact_best).float().mean())
            rows.append(row | {"dtype": dtype, "bits": bits, "change": bits / exact_bits - 1, "agreement": agreement})
    return {
        "benchmark": "precision", "machine": machine(), "model": model, "weights": subject.digests, "songs": songs,
        "rows": rows,
    }  # fmt: skip


@torch.inference_mode()
def evaluate(subject: Subject, level: int, dtype: Precision | Literal["float32"]) -> tuple[float, Tensor]:
    """Returns the bits per token of a level's prior in `dtype`, and its most likely codes, int64 [tokens]."""
    hardware = HardwareConfig(device="cpu", dtype=dtype, threads=subject.threads)
    prior, config = load_model(subject.model, hardware=hardware).prior(level), subject.config
    above = subject.codes(level + 1) if level < config.top else None
    factor = config.upsampling_factor(level) if above else 1
    losses, best = [], []
    for number, codes in enumerate(subject.codes(level)):
        for start in window_starts(subject, len(codes), level):
            codes_BT = torch.from_numpy(codes[start : start + prior.config.context])[None]
            over = slice(start // factor, (start + prior.config.context) // factor)
            above_BU = torch.from_numpy(above[number][over])[None] if above else None
            condition = prior.condition(torch.tensor([label_row(subject, number, start, level)]), above_BU)
            logits_TV = prior(codes_BT, condition)[0, prior.config.lyric_positions :]
            losses.append(F.cross_entropy(logits_TV, codes_BT[0] + prior.shift, reduction="none"))
            best.append(logits_TV.argmax(-1))
    return float(torch.cat(losses).double().mean()) / math.log(2), torch.cat(best)


def table(result: dict[str, Any]) -> str:
    """Returns the figures of `run` as text."""
    head = f"{'level':>5} {'dtype':9} {'float32':>8} {'bits':>8} {'change':>8} {'likeliest agrees':>16}"
    rows = [
        f"{row['level']:5} {row['dtype']:9} {row['float32_bits']:8.4f} {row['bits']:8.4f} {row['change']:+8.3%} "
        f"{row['agreement']:16.1%}"
        for row in result["rows"]
    ]
    return "\n".join([head, *rows])


def main(arguments: Sequence[str] | None = None) -> None:
    """Runs the measurement; prints a table, and one line of JSON last."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.precision", description=run.__doc__)
    parser.add_argument("--model", default="mini", help="a model that was trained on composed songs")
    parser.add_argument("--songs", type=int, default=8, help="number of composed songs (%(default)s)")
    parser.add_argument("--levels", type=int, nargs="+", default=(), help="levels to measure; all by default")
    parser.add_argument("--threads", type=int, default=os.cpu_count(), help="CPU threads of torch")
    result = run(**vars(parser.parse_args(arguments)))
    print(table(result))
    print(json.dumps(result))


if __name__ == "__main__":
    main()
