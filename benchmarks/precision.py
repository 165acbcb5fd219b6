"""What lower precision costs a trained model: bits a token of songs that it never heard, and other likeliest codes.

The songs are those of `benchmarks.mini`, as the VQ-VAE encodes them. Each precision is loaded as a run would load it.
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
from benchmarks.mini import Subject, label_row, window_starts
from jukebox_core.api import load_model
from jukebox_core.runtime.config import HardwareConfig

if TYPE_CHECKING:
    from collections.abc import Sequence

    from torch import Tensor

Precision = Literal["bfloat16", "float16", "int8"]


def run(model: str = "mini", *, songs: int = 8, threads: int = 1) -> dict[str, Any]:
    """Measures every precision beside float32 on all whole windows of the songs; returns a row of figures for each."""
    subject = Subject(model, songs, threads)
    exact_bits, exact_best = told(subject, "float32")
    rows = []
    for dtype in get_args(Precision):
        bits, best = told(subject, dtype)
        agreement = float((best == exact_best).float().mean())
        rows.append({"dtype": dtype, "bits": bits, "change": bits / exact_bits - 1, "agreement": agreement})
    return {
        "benchmark": "precision", "machine": machine(), "model": model, "weights": subject.digests, "songs": songs,
        "tokens": exact_best.numel(), "float32_bits": exact_bits, "rows": rows,
    }  # fmt: skip


@torch.inference_mode()
def told(subject: Subject, dtype: Precision | Literal["float32"]) -> tuple[float, Tensor]:
    """Returns the top prior's bits a token in `dtype`, and its likeliest code at every position, int64 [tokens]."""
    hardware = HardwareConfig(device="cpu", dtype=dtype, threads=subject.threads)
    prior = load_model(subject.model, hardware=hardware).prior(subject.config.top)
    losses, best = [], []
    for number, codes in enumerate(subject.top_codes):
        for start in window_starts(subject, len(codes)):
            codes_BT = torch.from_numpy(codes[start : start + prior.config.context])[None]
            condition = prior.condition(torch.tensor([label_row(subject, number, start)]))
            logits_TV = prior(codes_BT, condition)[0, prior.config.lyric_positions :]
            losses.append(F.cross_entropy(logits_TV, codes_BT[0] + prior.shift, reduction="none"))
            best.append(logits_TV.argmax(-1))
    return float(torch.cat(losses).double().mean()) / math.log(2), torch.cat(best)


def table(result: dict[str, Any]) -> str:
    """Returns the figures of `run` as text."""
    lines = [
        f"{'dtype':9} {'bits':>7} {'change':>8} {'likeliest agrees':>16}",
        f"float32   {result['float32_bits']:7.4f}",
    ]
    rows = [
        f"{row['dtype']:9} {row['bits']:7.4f} {row['change']:+8.3%} {row['agreement']:16.1%}" for row in result["rows"]
    ]
    return "\n".join([*lines, *rows])


def main(arguments: Sequence[str] | None = None) -> None:
    """Runs the measurement; prints a table, and one line of JSON last."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.precision", description=run.__doc__)
    parser.add_argument("--model", default="mini", help="a model that was trained on the program's own songs")
    parser.add_argument("--songs", type=int, default=8, help="composed for it (%(default)s)")
    parser.add_argument("--threads", type=int, default=os.cpu_count(), help="CPU threads of torch")
    result = run(**vars(parser.parse_args(arguments)))
    print(table(result))
    print(json.dumps(result))


if __name__ == "__main__":
    main()
