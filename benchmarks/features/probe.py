"""Linear probes of genre and artist on composed songs: accuracy by layer of a prior, and of codes, as a picture.

A ridge classifier is fitted on standardised features of three quarters of the songs and tested on the last, four times.
Its regularisation is chosen by leave-one-out among the songs that it is fitted on. ``python -m
benchmarks.features.probe --help``; JSON in the last line.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from benchmarks.full_size import machine
from jukebox_core import HardwareConfig, load_model
from jukebox_core.composer.album import plan_album, render_score
from jukebox_core.composer.config import AlbumConfig
from jukebox_core.features.clips import peak_normalised

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from numpy.typing import NDArray

    Values = NDArray[np.float64]

FOLDS, STRENGTHS = 4, (1.0, 10.0, 100.0, 1e3, 1e4, 1e5)
COLOURS = {"genre": "#c2410c", "artist": "#1d4ed8"}
LEFT, TOP, WIDE, HIGH = 46, 14, 420, 200  # of the picture's axes


def probe(values_NW: Values, labels_N: NDArray[np.str_]) -> float:
    """Returns the share of right answers of a ridge classifier on songs that it was not fitted on."""
    names = np.unique(labels_N)
    wanted_NC, fold_N = (labels_N[:, None] == names) - 1 / len(names), np.arange(len(labels_N)) % FOLDS
    right = 0
    for fold in range(FOLDS):
        known, held_out = fold_N != fold, fold_N == fold
        middle, spread = values_NW[known].mean(0), values_NW[known].std(0) + 1e-6
        scaled = (values_NW - middle) / spread
        weights = fitted(scaled[known], wanted_NC[known])
        right += int((names[(scaled[held_out] @ weights).argmax(1)] == labels_N[held_out]).sum())
    return right / len(labels_N)


def fitted(values_NW: Values, wanted_NC: Values) -> Values:
    """Returns the weights [W, C] of a ridge regression, with the strength whose leave-one-out answers are best."""
    u_NK, s_K, vt_KW = np.linalg.svd(values_NW, full_matrices=False)
    best, chosen = -1.0, STRENGTHS[0]
    for strength in STRENGTHS:
        shrink_K = s_K**2 / (s_K**2 + strength)
        guessed_NC = (u_NK * shrink_K) @ (u_NK.T @ wanted_NC)
        own_N = ((u_NK**2) * shrink_K).sum(1)[:, None]
        left_out_NC = (guessed_NC - own_N * wanted_NC) / (1 - own_N + 1e-9)
        share = float((left_out_NC.argmax(1) == wanted_NC.argmax(1)).mean())
        if share > best:
            best, chosen = share, strength
    result: Values = vt_KW.T @ ((s_K / (s_K**2 + chosen))[:, None] * (u_NK.T @ wanted_NC))
    return result


def run(model: str = "mini", *, songs: int, seconds: float, seed: int = 5, threads: int = 1) -> dict[str, Any]:
    """Composes songs, takes their features, and returns the accuracy of every kind of them for genre and artist."""
    opened: Any = load_model(model, hardware=HardwareConfig(device="cpu", dtype="float32", threads=threads))
    config, labels = opened.config, list[tuple[str, str]]()
    found: dict[str, list[Values]] = {}
    layers = range(1, config.priors[config.top].transformer.depth + 1)
    album = AlbumConfig(songs=songs, seconds=max(4.0, 2 * seconds), seed=seed, sample_rate=config.sample_rate)
    for track in plan_album(album):
        score = track.compose()
        labels.append((score.genre, score.artist))
        codes = opened.encode(
            peak_normalised(render_score(score, album)[: int(seconds * config.sample_rate), 0]), range(config.top + 1)
        )
        rows = opened.features(from_codes=codes, layers=layers, pooling="none")
        for layer in layers:
            of_layer = np.float64(rows[layer])
            found.setdefault(f"layer {layer}: mean", []).append(of_layer.mean(0))
            found.setdefault(f"layer {layer}: mean and deviation", []).append(
                np.concatenate([of_layer.mean(0), of_layer.std(0)])
            )
        for level, tokens in codes.items():
            share = np.bincount(np.ravel(tokens), minlength=config.bins) / np.size(tokens)
            found.setdefault(f"codes of level {level}: how often each occurs", []).append(np.sqrt(share))
    values = {name: np.stack(each) for name, each in found.items()}
    deviations = [name for name in values if name.endswith("deviation")]
    values["all layers: mean and deviation"] = np.concatenate([values[name] for name in deviations], axis=1)
    values["all layers and codes"] = np.concatenate([*values.values()], axis=1)
    columns = {"genre": np.array([genre for genre, _ in labels]), "artist": np.array([artist for _, artist in labels])}
    rows_found = [
        {"of": name, **{what: probe(each, column) for what, column in columns.items()}} for name, each in values.items()
    ]
    chance = {what: 1 / len(np.unique(column)) for what, column in columns.items()}
    return {
        "benchmark": "probe", "machine": machine(), "model": model, "songs": songs, "seconds": seconds, "seed": seed,
        "chance": chance, "rows": rows_found,
    }  # fmt: skip


def picture(result: Mapping[str, Any]) -> str:
    """Returns accuracy by layer, of means and deviations, as an SVG picture."""
    rows = [row for row in result["rows"] if row["of"].startswith("layer ") and row["of"].endswith("deviation")]
    step = WIDE / max(1, len(rows) - 1)
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {LEFT + WIDE + 70} {TOP + HIGH + 40}" '
        'font-family="sans-serif" font-size="12">',
        f"<title>Accuracy of linear probes by layer of {result['model']}</title>",
        f'<rect width="{LEFT + WIDE + 70}" height="{TOP + HIGH + 40}" fill="#fff"/>',
    ]
    for percent in range(0, 101, 25):
        y = TOP + HIGH * (1 - percent / 100)
        parts.append(f'<path d="M{LEFT} {y:.1f}h{WIDE}" stroke="#ccc"/><text x="4" y="{y + 4:.1f}">{percent} %</text>')
    parts += [f'<text x="{LEFT + n * step - 4:.1f}" y="{TOP + HIGH + 18}">{n + 1}</text>' for n in range(len(rows))]
    parts.append(f'<text x="{LEFT + WIDE / 2 - 15:.0f}" y="{TOP + HIGH + 34}">layer</text>')
    for what, colour in COLOURS.items():
        points = [(LEFT + number * step, TOP + HIGH * (1 - row[what])) for number, row in enumerate(rows)]
        line = " ".join(f"{x:.1f},{y:.1f}" for x, y in points)
        parts.append(f'<polyline points="{line}" fill="none" stroke="{colour}" stroke-width="2"/>')
        parts.append(f'<text x="{LEFT + WIDE + 6}" y="{points[-1][1] + 4:.1f}" fill="{colour}">{what}</text>')
        chance = TOP + HIGH * (1 - result["chance"][what])
        parts.append(f'<path d="M{LEFT} {chance:.1f}h{WIDE}" stroke="{colour}" stroke-dasharray="3 4"/>')
    return "\n".join([*parts, "</svg>\n"])


def table(result: Mapping[str, Any]) -> str:
    """Returns the figures of `run` as a table."""
    lines = ["| features | genre | artist |", "|---|---|---|"]
    lines += [f"| {row['of']} | {row['genre']:.0%} | {row['artist']:.0%} |" for row in result["rows"]]
    return "\n".join([*lines, "| chance | {genre:.0%} | {artist:.0%} |".format(**result["chance"])])


def main(arguments: Sequence[str] | None = None) -> None:
    """Runs the measurement; prints a table, writes a picture, and prints one line of JSON last."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.features.probe", description=run.__doc__)
    parser.add_argument("--model", default="mini", help="name or file of a model (%(default)s)")
    parser.add_argument("--songs", type=int, default=96, help="number of composed songs (%(default)s)")
    parser.add_argument("--seconds", type=float, default=8.0, help="length that is heard of each (%(default)s)")
    parser.add_argument("--seed", type=int, default=5, help="of the songs (%(default)s)")
    parser.add_argument("--threads", type=int, default=1, help="CPU threads of torch")
    parser.add_argument("--picture", default="probe.svg", help="file of the picture (%(default)s)")
    chosen = vars(parser.parse_args(arguments))
    drawn = Path(chosen.pop("picture"))
    result = run(**chosen)
    drawn.write_text(picture(result), encoding="utf-8")
    print(table(result))
    print(json.dumps(result))


if __name__ == "__main__":
    main()
