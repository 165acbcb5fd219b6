"""A decode step through all layers of a transformer in one call of `step.cpp`: its arguments as C structures."""

from __future__ import annotations

import ctypes
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch

from jukebox_core.runtime.native.compiled import library
from jukebox_core.runtime.native.matrices import Matrix, PackedProjection

if TYPE_CHECKING:
    from collections.abc import Sequence

    from torch import Tensor, nn


class _Layer(ctypes.Structure):
    _fields_ = (
        *((name, ctypes.c_void_p) for name in ("norm_1_weight", "norm_1_bias", "norm_2_weight", "norm_2_bias")),
        *((name, Matrix) for name in ("project_in", "project_out", "feed_in", "feed_out")),
        ("keys", ctypes.c_void_p),
        ("values", ctypes.c_void_p),
        *((name, ctypes.c_int64) for name in ("sample_stride", "head_stride", "span")),
    )


class _Span(ctypes.Structure):
    _fields_ = tuple((name, ctypes.c_int64) for name in ("write", "first", "count"))


class _Model(ctypes.Structure):
    _fields_ = (
        ("layers", ctypes.POINTER(_Layer)),
        *((name, ctypes.c_int64) for name in ("depth", "width", "hidden", "heads", "head_width", "max_keys")),
        ("residual_scale", ctypes.c_float),
        ("precision", ctypes.c_int32),
        ("half_cache", ctypes.c_int32),
    )


@dataclass(frozen=True, slots=True)
class LayerArguments:
    """Arguments of a step for one layer: its weights, its KV cache, and the number of its span."""

    norm_1: nn.LayerNorm
    norm_2: nn.LayerNorm
    project_in: PackedProjection  # queries, keys and values concatenated; for CROSS, queries alone
    project_out: PackedProjection
    feed_in: PackedProjection
    feed_out: PackedProjection
    k_BHSD: Tensor  # keys of the cache; spans are offsets into it
    v_BHSD: Tensor
    span: int


class DecodeStep:
    """A decode step through the layers of a transformer, with the KV caches of one window."""

    def __init__(self, layers: Sequence[LayerArguments], *, heads: int, residual_scale: float, max_keys: int) -> None:
        """Builds the C structures; `layers` keeps alive the tensors that they point to."""
        first = layers[0]
        self._layers = layers
        self._samples = first.k_BHSD.shape[0]
        self._table = (_Layer * len(layers))(*map(_layer, layers))
        self._model = _Model(
            layers=self._table,
            depth=len(layers),
            width=first.project_in.inputs,
            hidden=first.feed_in.outputs,
            heads=heads,
            head_width=first.k_BHSD.shape[-1],
            max_keys=max_keys,
            residual_scale=residual_scale,
            precision=first.project_in.precision,
            half_cache=first.k_BHSD.dtype is torch.bfloat16,
        )
        self._scratch, self._threads = torch.empty(0), 0

    def run(self, x_BW: Tensor, spans: Sequence[tuple[int, int, int]]) -> None:
        """Computes all layers for one position of every sample; replaces x by the output.

        Args:
            x_BW: Float32, contiguous.
            spans: For each number of a span: the key to write (-1: none), the first key to read, and how many to read.
        """
        kernels, samples = library(), ctypes.c_int64(self._samples)
        model, threads = ctypes.byref(self._model), torch.get_num_threads()
        if threads != self._threads:
            self._scratch = torch.empty(kernels.step_scratch(model, samples, ctypes.c_int64(threads)))
            self._threads = threads
        kernels.step(
            model,
            (_Span * len(spans))(*(_Span(*span) for span in spans)),
            ctypes.c_void_p(x_BW.data_ptr()),
            samples,
            ctypes.c_void_p(self._scratch.data_ptr()),
            ctypes.c_int64(threads),
        )


def _layer(layer: LayerArguments) -> _Layer:
    norms = [p.data_ptr() for norm in (layer.norm_1, layer.norm_2) for p in (norm.weight, norm.bias)]
    matrices = [m.as_struct() for m in (layer.project_in, layer.project_out, layer.feed_in, layer.feed_out)]
    k_BHSD = layer.k_BHSD
    return _Layer(
        *norms, *matrices, k_BHSD.data_ptr(), layer.v_BHSD.data_ptr(), k_BHSD.stride(0), k_BHSD.stride(1), layer.span
    )
