"""Our model of one level with random weights, as a worker of `benchmarks.fast`; see `benchmarks.workers.process`."""

from __future__ import annotations

import time
from dataclasses import replace
from itertools import pairwise
from typing import TYPE_CHECKING, Any

import torch

from benchmarks.fill import fill
from benchmarks.workers.process import serve
from jukebox_core.families.jukebox.engines.engines import prepare, quantise_projections
from jukebox_core.families.jukebox.model.layers import Projection
from jukebox_core.families.jukebox.model.prior import Condition, Prior
from jukebox_core.families.jukebox.model.streaming import tap_major
from jukebox_core.families.jukebox.sampling.config import LevelSampling
from jukebox_core.families.jukebox.sampling.decoder import WindowDecoder, draw_codes
from jukebox_core.models.presets import load_preset
from jukebox_core.runtime.allocator import release_freed_memory
from jukebox_core.runtime.device import COMPUTE_DTYPES
from jukebox_core.runtime.native.matrices import PackedProjection
from jukebox_core.runtime.quantise import Int8Projection
from jukebox_core.sampling.loop import prefill
from jukebox_core.sampling.noise import CounterNoise

if TYPE_CHECKING:
    from jukebox_core.families.jukebox.config import JukeboxConfig

LEVELS = {"upsampler": 0, "top": 2}


CUDA_BLOCK = 8  # steps per synchronisation with the GPU


def build_body(config: JukeboxConfig, level: int, depth: int | None, device: str, engine: str, dtype: str) -> Prior:
    """Returns a prior with random weights, ready to sample; its conditioners stay on the meta device, unused."""
    sizes = config.priors[level]
    if depth:
        sizes = replace(sizes, transformer=replace(sizes.transformer, depth=depth))
    with torch.device("meta"):
        prior = Prior(sizes, config.vqvae)
    prior.set_compute_dtype(torch.float32 if dtype == "int8" else COMPUTE_DTYPES[dtype])
    tied = prior.output.weight is prior.body.embedding.weight
    with release_freed_memory():
        prior.body.to_empty(device="cpu")
    prior.output.to_empty(device="cpu")
    if tied:
        prior.output.weight = prior.body.embedding.weight
    fill(prior.body)
    fill(prior.output)
    if dtype == "int8":
        quantise_projections(prior.body.transformer)
        prior.set_compute_dtype(COMPUTE_DTYPES[dtype])
    prior.body.to(device)
    prior.output.to(device)
    return prepare(prior.eval().requires_grad_(requires_grad=False), engine)


def random_prior(config: JukeboxConfig, level: int, device: str, engine: str, dtype: str) -> Prior:
    """Returns a prior with random weights, including the conditioners, ready to sample."""
    prior = build_body(config, level, None, device, engine, dtype)
    for name, child in prior.named_children():
        if name not in ("body", "output"):
            child.to_empty(device="cpu")
            fill(child)
            child.to(device)
    if prior.start_1W is not None:
        prior.start_1W = torch.nn.Parameter(torch.zeros(prior.start_1W.shape, device=device), requires_grad=False)
    tap_major(prior)
    return prior


class Ours:
    """A prior with random weights; methods return seconds."""

    def __init__(self, model: str, part: str, engine: str, threads: int, depth: int | None, device: str) -> None:
        torch.set_num_threads(threads)
        self.device = torch.device(device)
        self.prior = build_body(load_preset(model).config, LEVELS[part], depth, device, *engine.split(":"))
        kinds = Projection | Int8Projection | PackedProjection
        linear = [module.weight for module in self.prior.body.modules() if isinstance(module, kinds)]
        step = sum(weight.nbytes for weight in linear) + self.prior.output.weight.nbytes
        flop = 2 * sum(weight.numel() for weight in linear)
        self.built = {"step_bytes": step, "token_flop": flop}

    def _decoder(self, batch: int) -> WindowDecoder:
        config = self.prior.config
        width = config.transformer.width
        with self.device:
            start_B1W = torch.zeros(batch, 1, width)
            signal_BTW = torch.zeros(1, 1, width).expand(batch, config.context, width)
            lyrics_BN = torch.ones(batch, config.lyrics.tokens, dtype=torch.int64) if config.single_sequence else None
        return WindowDecoder(self.prior, Condition(start_B1W, signal_BTW, lyrics_BN, None))

    def _now(self, *, processor: bool = False) -> float:
        if processor:
            return time.thread_time()
        if self.device.type == "cuda":
            torch.cuda.synchronize()
        return time.perf_counter()

    @torch.inference_mode()
    def decode(self, batch: int, steps: int, at: int = 1, *, processor: bool = False) -> dict[str, Any]:
        """Returns the seconds of every step from position `at` on, including the draw; with `processor`, CPU time.

        Steps run twice, and are timed the second time, when the cache's memory is allocated: in a window only the
        first steps of a row of its fold allocate. Allocation needs 5 ms per 2 MB at most, and a step of 16 samples
        would start with 96 MB of it.
        """
        decoder = self._decoder(batch)
        known_BT = torch.empty(batch, at, dtype=torch.int64, device=self.device)
        noise = CounterNoise(0, 0, [*range(batch)], self.device)
        block = 1 if self.device.type == "cpu" else CUDA_BLOCK
        moments: list[float] = []
        for _ in range(2):
            decoder.state.cache.position = at + self.prior.config.lyric_positions
            blocks = draw_codes(decoder, known_BT, steps + block, LevelSampling(), noise, start=0, flush=block)
            moments = [self._now(processor=processor) for _ in blocks]
        return {"step_s": [(after - before) / block for before, after in pairwise(moments)]}

    @torch.inference_mode()
    def prefill(self, batch: int, tokens: int, chunk: int) -> dict[str, Any]:
        """Returns the seconds of the prefill of `tokens` tokens in chunks of `chunk`."""
        decoder, codes_BT = (
            self._decoder(batch),
            torch.randint(self.prior.vocabulary, (batch, tokens), device=self.device),
        )
        began = self._now()
        prefill(decoder, codes_BT, chunk)
        return {"seconds": self._now() - began}


if __name__ == "__main__":
    serve(Ours)
