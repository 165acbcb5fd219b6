"""How a prior's steps are computed: plain torch, or something faster that stands in its transformer's place."""

from __future__ import annotations

import logging
import time
from typing import TYPE_CHECKING

import torch

from jukebox_core.errors import DeviceError
from jukebox_core.families.jukebox.layers import Projection
from jukebox_core.families.jukebox.native import NativeTransformer, pack
from jukebox_core.runtime.heap import returned_at_once
from jukebox_core.runtime.quantise import Int8Projection

if TYPE_CHECKING:
    from torch import nn

    from jukebox_core.families.jukebox.prior import Prior

log = logging.getLogger("jukebox")

NATIVE_DTYPES = (torch.float32, torch.bfloat16)  # that are computed in


def prepare(prior: Prior, engine: str = "auto") -> Prior:
    """Returns the prior, made ready to sample by `engine`; its weights may have been laid out anew.

    ``auto`` takes the fastest that works here, and says in one line where that is not the fastest there is.

    Raises:
        DeviceError: the engine is asked for by name and does not work here.
    """
    if engine == "eager" or isinstance(prior.body.transformer, NativeTransformer):
        return prior
    reason = _reason_against_native(prior)
    if reason is None:
        began = time.perf_counter()
        try:
            with returned_at_once():
                prior.body.transformer = pack(prior.body.transformer, prior.compute_dtype)
        except DeviceError as error:
            reason = str(error)
        else:
            log.info("weights laid out for the CPU in %.1f s", time.perf_counter() - began)
            return prior
    if engine == "native":
        raise DeviceError(f"engine=native does not work here: {reason}")
    if next(prior.parameters()).device.type == "cpu":
        log.warning("sampling by plain torch, which is slower: %s", reason)
    return prior


def _reason_against_native(prior: Prior) -> str | None:
    device = next(prior.parameters()).device
    if device.type != "cpu":
        return f"the prior is on {device}, and native kernels are for the CPU; choose engine=auto"
    if prior.compute_dtype not in NATIVE_DTYPES:
        return f"there are no kernels for {prior.compute_dtype}; choose dtype=bfloat16"
    odd = [m for m in prior.body.transformer.modules() if isinstance(m, Projection | Int8Projection) and _odd(m)]
    return "a layer's width is odd" if odd else None


def _odd(projection: Projection | Int8Projection) -> bool:
    return projection.weight.shape[0] % 2 == 1


def quantise_projections(transformer: nn.Module) -> None:
    """Rounds the weights of all projections to 8 bits, one after the other."""
    places = [
        (parent, name)
        for parent in transformer.modules()
        for name, child in parent.named_children()
        if isinstance(child, Projection)
    ]
    with returned_at_once():
        for parent, name in places:
            plain = getattr(parent, name)
            setattr(parent, name, Int8Projection(plain.weight, plain.bias))
