"""Graphs of models in onnxruntime: sizes, errors, and speed beside plain torch and our native engine.

``python -m benchmarks.onnx`` exports the networks of the official VampNet with random weights, one after the other, and
measures a pass over a chunk; ``--model mini_vamp`` and ``mini_mt3`` do the same with trained weights, ``mini`` measures
decode steps. Prints a table, and one line of JSON last.
"""

from __future__ import annotations

import argparse
import json
import tempfile
import time
from pathlib import Path
from statistics import median
from typing import TYPE_CHECKING, Any

import torch

from benchmarks.full_size import machine
from jukebox_core.errors import JukeboxError
from jukebox_core.export.config import ExportConfig
from jukebox_core.export.export import export_graph
from jukebox_core.export.record import read_graph_record
from jukebox_core.export.session import Session
from jukebox_core.families.vampnet.config import CodecConfig
from jukebox_core.families.vampnet.export.graphs import transformer_graph
from jukebox_core.families.vampnet.model.transformer import VampTransformer
from jukebox_core.family import open_exporting
from jukebox_core.models.config import WeightsConfig
from jukebox_core.models.presets import load_preset
from jukebox_core.models.resolve import obtain_weights
from jukebox_core.protocols import WeightFile

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from jukebox_core.export.graph import Graph

_ROUNDS = 5
_DTYPES = ("float32", "float16", "int8")


def random_transformer(name: str, model: str, layers: int | None) -> Graph:
    """Returns the graph of an official transformer with random weights, or of its first layers."""
    from dataclasses import replace

    preset = load_preset(model)
    sizes = preset.config.sizes(name)
    sizes = replace(sizes, n_layers=layers or sizes.n_layers)
    codec = preset.network.codec
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        made = VampTransformer(sizes).eval().requires_grad_(requires_grad=False)
        made.codebooks_KVD.normal_()
    rates = {"sample_rate": codec.sample_rate, "decoder_rates": (codec.hop,)}
    return transformer_graph(name, made, CodecConfig(**rates, decoder_dim=2, n_codebooks=codec.n_codebooks))


def trained(name: str, model: str) -> Graph:
    """Returns a graph of a model whose weights are here."""
    preset = load_preset(model)
    family = open_exporting(preset.family)
    roles = family.graphs(preset.config)[name]
    found = obtain_weights(preset, WeightsConfig(), roles=roles, show_progress=False)
    files = {role: WeightFile(each.path, each.identity) for role, each in found.items()}
    return family.open_graph(preset.config, name, files)


def measured(make: Callable[[], Graph], name: str, dtype: str, folder: Path, threads: int) -> dict[str, Any]:
    """Returns size, agreement and seconds of one graph; the last case is timed."""
    config, began = ExportConfig(dtype=dtype), time.perf_counter()  # type: ignore[arg-type]
    source = {"key": f"{name}-{dtype}", "model": name, "family": "benchmark", "weights": {}}
    row: dict[str, Any] = {"graph": name, "dtype": dtype}
    try:
        record = read_graph_record(export_graph(make, folder / dtype, name, config, source))
    except JukeboxError as error:
        return {**row, "refused": str(error)}
    row["export_s"] = round(time.perf_counter() - began, 1)
    row["megabytes"] = round(sum(file["bytes"] for file in record["files"].values()) / 1e6, 2)
    cases = record["report"]["cases"]
    for name_of, best in (("equal", min), ("snr_db", min), ("error", max)):
        values = [each[name_of] for each in cases if each[name_of] is not None]
        row[name_of] = best(values) if values else None
    graph = make()
    inputs = graph.draw(graph.cases[-1], torch.Generator().manual_seed(1))
    session = Session(folder / dtype / f"{graph.name}.onnx", threads=threads)
    given = {port.name: each.numpy() for port, each in zip(graph.inputs, inputs, strict=True)}
    torch.set_num_threads(threads)
    with torch.inference_mode():
        row["torch_ms"] = _milliseconds(lambda: graph.module(*inputs))
    row["onnx_ms"] = _milliseconds(lambda: session.run(given))
    return {**row, "sizes": dict(graph.cases[-1])}


def _milliseconds(work: Callable[[], Any]) -> float:
    taken = []
    for _ in range(_ROUNDS + 1):
        began = time.perf_counter()
        work()
        taken.append(1000 * (time.perf_counter() - began))
    return round(median(taken[1:]), 2)


def table(rows: Sequence[dict[str, Any]]) -> str:
    """Returns the rows as a table of a page."""
    lines = ["| graph | weights | MB | equal | error | SNR, dB | torch, ms | onnxruntime, ms |", "|---" * 8 + "|"]
    for row in rows:
        if "refused" in row:
            lines.append(f"| {row['graph']} | {row['dtype']} | refused: {row['refused'][:60]} | | | | | |")
            continue
        equal, error, snr = row["equal"], row["error"], row["snr_db"]
        shown = (
            "" if equal is None else f"{100 * equal:.2f} %",
            "" if error is None else f"{error:.1e}",
            "" if snr is None else f"{snr:.0f}",
        )
        lines.append(
            f"| {row['graph']} | {row['dtype']} | {row['megabytes']} | {' | '.join(shown)} | {row['torch_ms']} | "
            f"{row['onnx_ms']} |"
        )
    return "\n".join(lines)


def run(model: str, graphs: Sequence[str], dtypes: Sequence[str], layers: int | None, threads: int) -> dict[str, Any]:
    """Returns what was measured."""
    rows = []
    preset = load_preset(model)
    names = graphs or list(open_exporting(preset.family).graphs(preset.config))
    with tempfile.TemporaryDirectory() as folder:
        for name in names:
            for dtype in dtypes:
                random = model == "vampnet" and name in ("coarse", "c2f")
                make = (
                    (lambda name=name: random_transformer(name, model, layers))
                    if random
                    else (lambda name=name: trained(name, model))
                )
                rows.append(measured(make, name, dtype, Path(folder), threads))
                print(table(rows[-1:]).splitlines()[-1], flush=True)
    return {
        "benchmark": "onnx",
        "model": model,
        "layers": layers,
        "threads": threads,
        "machine": machine(),
        "rows": rows,
    }


def main() -> None:
    """Measures, and prints a table and JSON."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="vampnet")
    parser.add_argument("--graphs", nargs="*", default=[])
    parser.add_argument("--dtypes", nargs="*", default=list(_DTYPES), choices=_DTYPES)
    parser.add_argument("--layers", type=int, default=None, help="first layers of an official transformer")
    parser.add_argument("--threads", type=int, default=1)
    given = parser.parse_args()
    graphs = given.graphs or (["coarse", "c2f"] if given.model == "vampnet" else [])
    result = run(given.model, graphs, given.dtypes, given.layers, given.threads)
    print(table(result["rows"]), end="\n\n")
    print(json.dumps(result))


if __name__ == "__main__":
    main()
