"""Error of features in lower precision: activations of every layer against those in float32, of the same codes.

The relative error is the norm of the difference over the norm of the layer, of all rows; the cosine is the mean over
rows; of a mean over time both are of that mean. ``python -m benchmarks.features.rounding --help``; JSON in the last
line.
"""

from __future__ import annotations

import argparse
import json
from typing import TYPE_CHECKING, Any, get_args

import numpy as np

from benchmarks.full_size import machine
from benchmarks.precision import Precision
from jukebox_core import HardwareConfig, load_model
from jukebox_core.composer.album import plan_album, render_score
from jukebox_core.composer.config import AlbumConfig

if TYPE_CHECKING:
    import os
    from collections.abc import Sequence

    from numpy.typing import NDArray

SEED = 161_803  # of an album that no training set uses


def run(
    model: str | os.PathLike[str] = "mini", *, songs: int = 2, seconds: float = 6.0, threads: int = 1
) -> dict[str, Any]:
    """Compares every layer of the top prior in each precision with float32; returns a row of figures for each.

    Args:
        model: name, or path, of a model.
        songs: number of composed songs that are heard.
        seconds: length of each.
        threads: CPU threads of torch.
    """

    def opened(dtype: str) -> Any:
        return load_model(model, hardware=HardwareConfig(device="cpu", dtype=dtype, threads=threads))  # type: ignore[arg-type]

    exact = opened("float32")
    top, rate = exact.config.top, exact.config.sample_rate
    album = AlbumConfig(songs=songs, seconds=max(4.0, seconds), seed=SEED, sample_rate=rate)
    sounds = [render_score(track.compose(), album)[: int(seconds * rate), 0] for track in plan_album(album)]
    layers = tuple(range(1, exact.config.priors[top].transformer.depth + 1))
    codes = [exact.encode(sound, [top]) for sound in sounds]

    def activations(subject: Any) -> list[Any]:
        return [subject.features(from_codes=each, layers=layers, pooling="none") for each in codes]

    expected, rows = activations(exact), []
    for dtype in get_args(Precision):
        found = activations(opened(dtype))
        for layer in layers:
            pairs = [(np.float64(a[layer]), np.float64(b[layer])) for a, b in zip(found, expected, strict=True)]
            error, cosine = compare(*(np.concatenate(side) for side in zip(*pairs, strict=True)))
            means = [np.stack([each.mean(0) for each in side]) for side in zip(*pairs, strict=True)]
            mean_error, mean_cosine = compare(*means)
            rows.append(
                {
                    "dtype": dtype, "layer": layer, "error": error, "cosine": cosine, "mean_error": mean_error,
                    "mean_cosine": mean_cosine,
                }
            )  # fmt: skip
    return {
        "benchmark": "rounding", "machine": machine(), "model": str(model), "songs": songs, "seconds": seconds,
        "rows": rows,
    }  # fmt: skip


def compare(found: NDArray[np.float64], expected: NDArray[np.float64]) -> tuple[float, float]:
    """Returns the relative error and the mean cosine of rows [T, W]."""
    norms = np.linalg.norm(found, axis=1) * np.linalg.norm(expected, axis=1)
    error = np.linalg.norm(found - expected) / np.linalg.norm(expected)
    return float(error), float(((found * expected).sum(1) / norms).mean())


def table(result: dict[str, Any]) -> str:
    """Returns the figures of `run` as the table of docs/features.md."""
    lines = [
        "| layer | " + " | ".join(f"{dtype}: rows | mean" for dtype in get_args(Precision)) + " |",
        "|" + "---|" * (1 + 2 * len(get_args(Precision))),
    ]
    for layer in sorted({row["layer"] for row in result["rows"]}):
        cells = [
            f"{100 * row[kind]:.2g} %"
            for row in result["rows"]
            if row["layer"] == layer
            for kind in ("error", "mean_error")
        ]
        lines.append(f"| {layer} | " + " | ".join(cells) + " |")
    return "\n".join(lines)


def main(arguments: Sequence[str] | None = None) -> None:
    """Runs the measurement; prints a table, and one line of JSON last."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.features.rounding", description=run.__doc__)
    parser.add_argument("--model", default="mini", help="name or file of a model (%(default)s)")
    parser.add_argument("--songs", type=int, default=2, help="number of composed songs (%(default)s)")
    parser.add_argument("--seconds", type=float, default=6.0, help="length of each (%(default)s)")
    parser.add_argument("--threads", type=int, default=1, help="CPU threads of torch")
    result = run(**vars(parser.parse_args(arguments)))
    print(table(result))
    print(json.dumps(result))


if __name__ == "__main__":
    main()
