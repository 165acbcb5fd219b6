"""Speed and memory of features: a window of the official 5b to layer 36, jukemirlib's way and ours; clips of a folder.

Weights are random, sizes official. Each turn of the window is a process of its own, one after the other in rounds, so
that peaks of memory are its own and other load of the machine meets all alike. CPU seconds are measured beside wall
seconds: on a machine that others use, these are what can be compared. The floor is the arithmetic of the window over
the fastest matrix product of this machine. ``python -m benchmarks.features --help``; JSON in the last line.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import tempfile
import time
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from pathlib import Path
from statistics import median
from typing import TYPE_CHECKING, Any, cast
from unittest.mock import patch

import numpy as np
import torch

from benchmarks.fast import matmul_rate
from benchmarks.features.layers import Layers
from benchmarks.fill import fill
from benchmarks.full_size import Memory, fresh_process, label_row, machine
from jukebox_core.audio.files import write_audio
from jukebox_core.families.jukebox.checkpoints.loading import build_prior, build_vqvae, first_layers
from jukebox_core.families.jukebox.engines.engines import prepare, prepare_vqvae, quantise_projections
from jukebox_core.families.jukebox.engines.native import NativeFeedForward
from jukebox_core.families.jukebox.features.extractor import PriorExtractor, keep_float32, window_engine
from jukebox_core.families.jukebox.model.layers import Projection
from jukebox_core.families.jukebox.model.streaming import tap_major
from jukebox_core.families.jukebox.sampling.codec import VQVAECodec
from jukebox_core.features.extract import extract
from jukebox_core.features.networks import connect
from jukebox_core.features.pooling import RowPool
from jukebox_core.features.presets import load_recipe
from jukebox_core.models.presets import load_preset
from jukebox_core.protocols import WindowConditioning
from jukebox_core.runtime.allocator import release_freed_memory
from jukebox_core.runtime.config import HardwareConfig
from jukebox_core.runtime.native.convolution import PackedConvolution, PackedResidual, PackedStrided
from jukebox_core.runtime.native.matrices import PackedProjection
from jukebox_core.runtime.quantise import Int8Projection
from stages.features.extract import FeatureJob, FeatureNode, read_ahead

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from jukebox_core.families.jukebox.config import JukeboxConfig
    from jukebox_core.features.extract import Recording

PEER, PRECISIONS = "jukemirlib's way", ("float32", "bfloat16", "int8")
GOALS = {"bfloat16": 5.0, "int8": 8.0}  # times as fast as the peer
SPARE = 1.5e9  # bytes beside the weights of the layers
SIZES = {"float32": 4, "bfloat16": 2, "int8": 1}
PRODUCTS = (
    Projection, Int8Projection, PackedProjection, PackedConvolution, PackedResidual, PackedStrided, NativeFeedForward
)  # fmt: skip
PLAIN_PRODUCTS = (torch.nn.Conv1d, torch.nn.ConvTranspose1d)


def cut(model: str, layers: int) -> JukeboxConfig:
    """Returns the sizes of a model whose top prior has `layers` layers."""
    config: JukeboxConfig = load_preset(model).config
    top = config.priors[config.top]
    short = replace(top, transformer=replace(top.transformer, depth=layers))
    return replace(config, priors=(*config.priors[:-1], short))


@torch.no_grad()
def ours(config: JukeboxConfig, dtype: str, threads: int) -> PriorExtractor:
    """Returns the layers of the top prior with random weights as `open_features` does, made block by block."""
    hardware = HardwareConfig(device="cpu", dtype=cast("Any", dtype), threads=threads)
    prior = build_prior(config, config.top)
    first_layers(prior, config.priors[config.top].transformer.depth)
    stored = torch.bfloat16 if dtype == "bfloat16" else torch.float32
    with release_freed_memory():
        for block in prior.body.transformer.blocks:
            block.to_empty(device="cpu")
            fill(block)
            for module in block.modules():
                if isinstance(module, Projection):
                    module.to(stored)
            if dtype == "int8":
                quantise_projections(block)
    for parameter in [name for name, tensor in prior.named_parameters() if tensor.is_meta]:
        owner, _, name = parameter.rpartition(".")
        like = prior.get_parameter(parameter)
        setattr(prior.get_submodule(owner), name, torch.nn.Parameter(torch.full(like.shape, 0.01)))
    prior.compute_dtype = stored
    tap_major(prior)
    prior = prepare(prior.eval().requires_grad_(requires_grad=False), window_engine(hardware, torch.device("cpu")))
    return PriorExtractor(keep_float32(prior))


def turn(model: str, name: str, layers: int, codes: int, threads: int) -> dict[str, Any]:
    """Measures one pass over a window in this process, which is new: seconds, and bytes at their highest."""
    torch.set_num_threads(threads)
    config = cut(model, layers)
    top, base = config.priors[config.top], Memory.now().resident
    codes_BT = np.random.default_rng(0).integers(config.bins, size=(1, codes))
    if name == PEER:
        network = Layers(top, layers, config.bins)
        fill(network)
        start_B1W, signal_BTW = torch.zeros(1, 1, top.transformer.width), torch.zeros(1, codes, top.transformer.width)
        network.position_TW = torch.nn.Parameter(network.position_TW[:codes].clone())

        def work() -> None:
            for _, x_BTW in network(torch.from_numpy(codes_BT), start_B1W, signal_BTW, [layers]):
                x_BTW.mean(1).numpy()
    else:
        extractor = ours(config, name, threads)
        conditioning = WindowConditioning([label_row(config, config.top)], None)

        def work() -> None:
            pool = RowPool(load_recipe("jukemir", layers=[layers]), 1.0)
            for _, rows_BTW in extractor.activations(codes_BT, conditioning, [layers], final=False):
                pool.add(rows_BTW[0])
            assert np.isfinite(pool.result()).all()

    wall, processor = time.perf_counter(), time.process_time()
    work()
    seconds = {"wall_s": time.perf_counter() - wall, "cpu_s": time.process_time() - processor}
    weights = layers * block_parameters(config) * SIZES.get(name, 4)
    peak = Memory.now().peak
    return {"name": name, **seconds, "weights_bytes": weights, "peak_bytes": peak, "base_bytes": base}


def block_parameters(config: JukeboxConfig) -> int:
    """Returns the parameters of a layer's products."""
    sizes = config.priors[config.top].transformer
    return sizes.width * (4 * sizes.attention_width + 2 * sizes.mlp_width)


def window(model: str, layers: int, codes: int | None, rounds: int, threads: int) -> dict[str, Any]:
    """Measures the turns of a window in rounds; returns their medians, the floor and the goals."""
    config = cut(model, layers)
    codes = codes or config.priors[config.top].context
    flop = 2.0 * block_parameters(config) * layers * codes
    turns: dict[str, list[dict[str, Any]]] = {name: [] for name in (PEER, *PRECISIONS)}
    rate = matmul_rate(threads, torch.float32)
    for _ in range(rounds):
        for name, found in turns.items():
            found.append(fresh_process(turn, model, name, layers, codes, threads))
            print(
                f"{name:17} {found[-1]['wall_s']:8.1f} s, CPU {found[-1]['cpu_s']:8.1f} s", file=sys.stderr, flush=True
            )
        rate = max(rate, matmul_rate(threads, torch.float32))
    rows = []
    for name, found in turns.items():
        wall, processor = (median(each[key] for each in found) for key in ("wall_s", "cpu_s"))
        peak, weights = max(each["peak_bytes"] for each in found), found[0]["weights_bytes"]
        row = {
            "name": name, "wall_s": wall, "cpu_s": processor, "gflop_per_cpu_s": flop / processor / 1e9,
            "times_wall": median(each["wall_s"] for each in turns[PEER]) / wall,
            "times_cpu": median(each["cpu_s"] for each in turns[PEER]) / processor,
            "goal": GOALS.get(name), "share_of_float32_floor": flop / rate / wall,
            "weights_bytes": weights, "peak_bytes": peak, "over_weights_bytes": peak - weights,
            "base_bytes": found[0]["base_bytes"], "memory_goal_met": peak <= weights + SPARE,
        }  # fmt: skip
        rows.append(row)
    whole = load_preset(model).config.priors[config.top].context
    return {
        "model": model, "layers": layers, "codes": codes, "whole_window": codes == whole, "rounds": rounds,
        "flop": flop, "float32_flop_per_s": rate, "float32_floor_s": flop / rate, "rows": rows,
    }  # fmt: skip


@contextmanager
def products_timed() -> Iterator[dict[str, float]]:
    """Within it, seconds that the calling thread spends in matrix products and convolutions are summed up.

    Kernels that fuse products with what lies between them count as products: residual blocks, feed-forward halves.
    """
    spent, inside = {"products": 0.0}, [False]

    def timed(plain: Any) -> Any:
        def forward(self: Any, *arguments: Any, **named: Any) -> Any:
            if inside[0]:
                return plain(self, *arguments, **named)
            inside[0], began = True, time.perf_counter()
            try:
                return plain(self, *arguments, **named)
            finally:
                inside[0], spent["products"] = False, spent["products"] + time.perf_counter() - began

        return forward

    with ExitStack() as stack:
        for kind in (*PRODUCTS, *PLAIN_PRODUCTS):
            for method in ("forward", "rows", "after"):
                if method in vars(kind):
                    stack.enter_context(patch.object(kind, method, timed(vars(kind)[method])))
        yield spent


def folder(model: str, layers: int, clips: int, seconds: float, dtype: str, threads: int) -> dict[str, Any]:
    """Measures clips of a folder from file to mean: the share of time in products, and that waiting for audio."""
    torch.set_num_threads(threads)
    config, preset = cut(model, layers), load_preset(model)
    rate = config.sample_rate
    vqvae = build_vqvae(config).to_empty(device="cpu")
    fill(vqvae)
    tap_major(vqvae)
    codec: Any = VQVAECodec(prepare_vqvae(vqvae.eval().requires_grad_(requires_grad=False)))
    recipe = replace(load_recipe("default"), layers=(layers,))
    networks = connect(preset, recipe, {}, codec=lambda: codec, extractor=ours(config, dtype, threads))
    row = label_row(config, config.top)
    networks = replace(networks, conditioning=lambda *_: row)
    waited = [0.0]
    with tempfile.TemporaryDirectory(prefix="clips-") as scratch:
        noise = np.random.default_rng(0)
        for number in range(clips):
            sound = 0.1 * noise.standard_normal(int(seconds * rate)).astype(np.float32)
            write_audio(Path(scratch) / f"{number}.flac", sound, rate)
        job = FeatureJob(
            model=preset, recipe=recipe, hardware=HardwareConfig(), weights={}, vocabularies={}, folder=scratch
        )
        nodes = [
            FeatureNode(name=path.name, path=str(path), song=None, causes="") for path in Path(scratch).glob("*.flac")
        ]

        def recordings() -> Iterator[Recording]:
            source = read_ahead(job, nodes)
            while True:
                began = time.perf_counter()
                found = next(source, None)
                waited[0] += time.perf_counter() - began
                if found is None:
                    return
                assert isinstance(found[1], tuple), found[1]
                yield found[1][0]

        with products_timed() as spent:
            began, made = time.perf_counter(), 0
            for _, arrays in extract(recordings(), networks):
                assert isinstance(arrays, dict), arrays
                made += 1
            whole = time.perf_counter() - began
    assert made == clips
    return {
        "model": model, "layers": layers, "dtype": dtype, "clips": clips, "seconds": seconds, "wall_s": whole,
        "products_share": spent["products"] / whole, "waiting_for_audio_share": waited[0] / whole,
    }  # fmt: skip


def run(
    model: str = "5b", *, layers: int, codes: int | None, rounds: int, clips: int, seconds: float, threads: int
) -> dict[str, Any]:
    """Measures a window and a folder; returns the machine and the figures."""
    check_memory(model, layers)
    load = os.getloadavg()[0]
    measured = {
        "window": window(model, layers, codes, rounds, threads),
        "folder": fresh_process(folder, model, min(layers, 3), clips, seconds, "float32", threads),
    }
    loads = {"before": load, "after": os.getloadavg()[0]}
    return {"benchmark": "features", "machine": machine(), "threads": threads, "load": loads, **measured}


def check_memory(model: str, layers: int) -> None:
    """Exits if the layers in float32 do not fit in the memory that is free."""
    need = 4 * layers * block_parameters(cut(model, layers)) + 2 * SPARE
    free = os.sysconf("SC_AVPHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    lines = Path("/proc/meminfo").read_text(encoding="ascii").splitlines()
    free = next((int(line.split()[1]) * 1024 for line in lines if line.startswith("MemAvailable")), free)
    if free < need:
        raise SystemExit(f"{layers} layers need {need / 1e9:.1f} GB and {free / 1e9:.1f} are free: give fewer --layers")


def table(result: dict[str, Any]) -> str:
    """Returns the figures of `run` as text."""
    found, clips = result["window"], result["folder"]
    head = (
        f"{found['model']}, {found['layers']} layers, {found['codes']} codes: {found['flop'] / 1e12:.1f} TFLOP, "
        f"in float32 at least {found['float32_floor_s']:.1f} s at {found['float32_flop_per_s'] / 1e9:.0f} GFLOP/s"
    )
    names = "wall s   CPU s  times by CPU  goal  GFLOP/CPU s  peak GB  over weights"
    last = (
        f"{clips['clips']} clips of {clips['seconds']:g} s, {clips['layers']} layers: {clips['wall_s']:.1f} s, "
        f"{clips['products_share']:.1%} in products and {clips['waiting_for_audio_share']:.1%} waiting for audio"
    )
    return "\n".join([head, f"{'':17}   {names}", *map(line, found["rows"]), last])


def line(row: dict[str, Any]) -> str:
    """Returns a row of the table."""
    return (
        f"{row['name']:17} {row['wall_s']:8.1f} {row['cpu_s']:7.1f} {row['times_wall']:6.2f} {row['times_cpu']:6.2f} "
        f"{row['goal'] or '':>5} {row['gflop_per_cpu_s']:12.0f} {row['peak_bytes'] / 1e9:8.2f} "
        f"{row['over_weights_bytes'] / 1e9:13.2f}"
    )


def main(arguments: Sequence[str] | None = None) -> None:
    """Runs the measurement; prints a table, and one line of JSON last."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.features", description=run.__doc__)
    parser.add_argument("--model", default="5b", help="sizes of the model (%(default)s)")
    parser.add_argument("--layers", type=int, default=36, help="layers of the top prior (%(default)s)")
    parser.add_argument("--codes", type=int, help="codes of the window; all of it by default")
    parser.add_argument("--rounds", type=int, default=1, help="rounds of turns (%(default)s)")
    parser.add_argument("--clips", type=int, default=4, help="clips of the folder (%(default)s)")
    parser.add_argument("--seconds", type=float, default=24.0, help="length of a clip (%(default)s)")
    parser.add_argument("--threads", type=int, default=os.cpu_count(), help="CPU threads of torch")
    parser.add_argument("--quick", action="store_true", help="three layers, an eighth of a window, one short clip")
    chosen = vars(parser.parse_args(arguments))
    if chosen.pop("quick"):
        context = load_preset(chosen["model"]).config.priors[-1].context
        chosen |= {"layers": 3, "codes": chosen["codes"] or context // 8, "clips": 1, "seconds": 3.0}
    result = run(**chosen)
    print(table(result))
    print(json.dumps(result))


if __name__ == "__main__":
    main()
