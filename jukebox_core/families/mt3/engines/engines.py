"""Engines: from a loaded model to one that computes in a precision, in plain torch or with kernels."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

import torch

from jukebox_core.errors import ConfigError, DeviceError
from jukebox_core.families.mt3.engines.native import pack, projections, reason_against
from jukebox_core.runtime.allocator import release_freed_memory
from jukebox_core.runtime.native.compiled import library
from jukebox_core.runtime.quantise import Int8Projection

if TYPE_CHECKING:
    from jukebox_core.families.mt3.model.transformer import MT3

log = logging.getLogger("jukebox")

DTYPES = {"auto": torch.float32, "float32": torch.float32, "bfloat16": torch.bfloat16, "int8": torch.int8}


def check_engine(dtype: str, engine: str, kind: str) -> None:
    """Checks that a kind of device (``cpu``, ``cuda``, ``mps``) can compute in a precision, with an engine.

    Raises:
        ConfigError: no such precision.
        DeviceError: no such engine here.
    """
    if dtype not in DTYPES:
        raise ConfigError(f"hardware.dtype is {dtype!r}; transcription computes in one of {', '.join(DTYPES)}")
    if engine not in ("auto", "eager", "native"):
        raise DeviceError(f"hardware.engine is {engine!r}; transcription has auto, eager, onnx, and native on the CPU")
    if engine == "native" and kind != "cpu":
        raise DeviceError(f"hardware.engine=native does not work on {kind}; choose auto")


def prepare(model: MT3, dtype: str = "float32", engine: str = "auto") -> MT3:
    """Returns the model, changed in place to compute in `dtype`; its weights may have been packed.

    ``native``: C++ kernels, on the CPU; activations between products are float32. ``eager``: plain torch; with bfloat16
    all of it is bfloat16, with int8 weights are converted to float32 at each use. ``auto``: the faster one that works
    here.

    Args:
        model: in float32, on its device.
        dtype: float32, bfloat16 or int8; auto is float32.
        engine: auto, native or eager.

    Raises:
        ConfigError: no such precision.
        DeviceError: the engine is chosen by name and does not work here.
    """
    kind = model.embedding.weight.device.type
    check_engine(dtype, engine, kind)
    stored = DTYPES[dtype]
    if kind == "cpu" and engine != "eager":
        reason = _reason_against(model, stored)
        if reason is None:
            with release_freed_memory():
                return pack(model, stored).eval()
        if engine == "native":
            raise DeviceError(f"hardware.engine=native does not work here: {reason}")
        log.warning("transcription uses plain torch, which is slower: %s", reason)
    if stored is torch.int8:
        _quantise(model)
    elif stored is torch.bfloat16:
        exact = ("frequencies", "window")  # of positions, of spectra
        kept = {name: each for name, each in model.named_buffers() if name.endswith(exact)}
        model.bfloat16()
        for name, buffer in kept.items():
            owner, _, attribute = name.rpartition(".")
            setattr(model.get_submodule(owner), attribute, buffer)
    return model


def _reason_against(model: MT3, dtype: torch.dtype) -> str | None:
    try:
        library()
    except DeviceError as error:
        return str(error)
    return reason_against(model, dtype)


def _quantise(model: MT3) -> None:
    for parent, names, linears in list(projections(model)):
        for name, linear in zip(names, linears, strict=True):
            zeros = torch.zeros(linear.out_features, device=linear.weight.device)
            setattr(parent, name, Int8Projection(linear.weight.t(), zeros))
