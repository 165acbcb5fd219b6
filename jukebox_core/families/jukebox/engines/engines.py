"""Engines: replace parts of a model by faster ones with the same interface (kernels, compiled steps, CUDA graphs)."""

from __future__ import annotations

import logging
import time
from typing import TYPE_CHECKING

import torch

from jukebox_core.errors import DeviceError
from jukebox_core.families.jukebox.engines.native import pack_convolutions, pack_prior, packed_dtype
from jukebox_core.families.jukebox.engines.static_steps import StaticTransformer
from jukebox_core.families.jukebox.model.layers import Projection
from jukebox_core.families.jukebox.model.transformer import Transformer
from jukebox_core.runtime.allocator import release_freed_memory
from jukebox_core.runtime.graphs import GraphedStep
from jukebox_core.runtime.native.compiled import library
from jukebox_core.runtime.native.matrices import PRECISIONS
from jukebox_core.runtime.quantise import Int8Projection

if TYPE_CHECKING:
    from torch import nn

    from jukebox_core.families.jukebox.model.prior import Prior
    from jukebox_core.families.jukebox.model.vqvae import VQVAE

log = logging.getLogger("jukebox")

NATIVE_DTYPES = (torch.float32, torch.bfloat16)  # compute dtypes of the native kernels


def prepare(prior: Prior, engine: str = "auto") -> Prior:
    """Returns the prior, changed in place to sample with `engine`; its weights may have been repacked. Idempotent.

    ``native``: C++ kernels, on the CPU. ``graph``: a decode step is one CUDA graph. ``compiled``: torch.compile of
    each block, and on CUDA one graph for the step. ``eager``: plain torch. ``auto``: the fastest that works here; it
    logs one warning where that is not the fastest of the device.

    Raises:
        DeviceError: the engine is chosen by name and does not work here.
    """
    if type(prior.body.transformer) is not Transformer:
        return prior  # already prepared
    kind = next(prior.parameters()).device.type
    match engine, kind:
        case ("eager", _):
            pass
        case ("graph" | "auto", "cuda"):
            prior.body.transformer = StaticTransformer(prior.body.transformer, wrap_step=GraphedStep)
        case ("compiled", "cuda"):
            prior.body.transformer = StaticTransformer(prior.body.transformer, torch.compile, GraphedStep)
        case ("compiled", _):
            prior.body.transformer = StaticTransformer(prior.body.transformer, torch.compile)
        case ("native" | "auto", "cpu"):
            _make_native(prior, by_name=engine == "native")
        case ("auto", _):
            pass
        case _:
            raise DeviceError(f"engine={engine} does not work on {kind}; choose engine=auto")
    return prior


def is_packed(prior: Prior, engine: str, device: torch.device) -> bool:
    """Whether `prepare` will pack the prior's projections on `device`; their weights may still be meta tensors."""
    return device.type == "cpu" and engine in ("native", "auto") and _reason_against_native(prior) is None


def prepare_vqvae(vqvae: VQVAE, engine: str = "auto") -> VQVAE:
    """Returns the VQ-VAE, changed in place by ``native`` and ``auto``; other engines leave it as it is.

    Raises:
        DeviceError: ``native`` is chosen by name and the kernels cannot be compiled here.
    """
    if engine in ("native", "auto") and vqvae.device.type == "cpu":
        try:
            pack_convolutions(vqvae)
        except DeviceError as error:
            if engine == "native":
                raise
            log.warning("the VQ-VAE uses plain torch, which is slower: %s", error)
    return vqvae


def _make_native(prior: Prior, *, by_name: bool) -> None:
    began, reason = time.perf_counter(), _reason_against_native(prior)
    if reason is None:
        with release_freed_memory():
            pack_prior(prior)
        log.info("weights packed for the CPU in %.1f s", time.perf_counter() - began)
        return
    if by_name:
        raise DeviceError(f"engine=native does not work here: {reason}")
    log.warning("sampling uses plain torch, which is slower: %s", reason)


def _reason_against_native(prior: Prior) -> str | None:
    if prior.compute_dtype not in NATIVE_DTYPES:
        return f"no kernels for {prior.compute_dtype}; choose dtype=bfloat16"
    projections = [m for m in prior.body.transformer.modules() if isinstance(m, Projection | Int8Projection)]
    narrow = any(p.weight.shape[0] % PRECISIONS[packed_dtype(p, prior.compute_dtype)][1] for p in projections)
    if narrow:
        return "a layer's width is not a multiple of 4 (int8) or 2 (bfloat16)"
    try:
        library()
    except DeviceError as error:
        return str(error)
    return None


def quantise_projections(transformer: nn.Module) -> None:
    """Quantises the weights of all projections to int8, in place, one after the other."""
    places = [
        (parent, name)
        for parent in transformer.modules()
        for name, child in parent.named_children()
        if isinstance(child, Projection)
    ]
    with release_freed_memory():
        for parent, name in places:
            projection = getattr(parent, name)
            setattr(parent, name, Int8Projection(projection.weight, projection.bias))
