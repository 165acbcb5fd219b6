"""A decode step through all layers of a transformer in one call of `step.cpp`: its arguments as C structures."""

from __future__ import annotations

import ctypes
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch

from jukebox_core.runtime.native.compiled import library
from jukebox_core.runtime.native.matrices import Matrix, PackedProjection
from jukebox_core.runtime.native.team import Team, useful_threads

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
        *((name, ctypes.c_float) for name in ("residual_scale", "epsilon", "attention_scale")),
        *((name, ctypes.c_int32) for name in ("precision", "half_cache", "gated")),
    )


@dataclass(frozen=True, slots=True)
class FeedForwardArguments:
    """Arguments of a step for the feed-forward part of a layer."""

    norm: nn.LayerNorm | nn.RMSNorm
    project_in: PackedProjection  # of a gated one, the activated half, then its gate
    project_out: PackedProjection


@dataclass(frozen=True, slots=True)
class LayerArguments:
    """Arguments of a step for one layer: its weights, its KV cache, and the number of its span.

    Norms without a bias are root mean square norms. Without `feed_forward`, the layer is attention alone.
    """

    norm_1: nn.LayerNorm | nn.RMSNorm
    project_in: PackedProjection  # queries, keys and values concatenated; for CROSS, queries alone
    project_out: PackedProjection
    k_BHSD: Tensor  # keys of the cache; spans are offsets into it
    v_BHSD: Tensor
    span: int
    feed_forward: FeedForwardArguments | None


class DecodeStep:
    """A decode step through the layers of a transformer, with the KV caches of one window."""

    def __init__(
        self,
        layers: Sequence[LayerArguments],
        *,
        heads: int,
        max_keys: int,
        residual_scale: float = 1.0,
        attention_scale: float | None = None,
        gated: bool = False,
    ) -> None:
        """Builds the C structures; `layers` keeps alive the tensors that they point to.

        Args:
            layers: in order; one of them at least has a feed-forward part.
            heads: of every layer.
            max_keys: the most keys that a span reads.
            residual_scale: factor of what a layer adds.
            attention_scale: factor of attention scores; None: 1 / sqrt(D).
            gated: feed-forward parts compute gelu(first half) * second half, instead of a quick GELU.
        """
        first, feed_forward = layers[0], next(filter(None, (layer.feed_forward for layer in layers)))
        self._layers = layers
        self._table = (_Layer * len(layers))(*map(_layer, layers))
        self._model = _Model(
            layers=self._table,
            depth=len(layers),
            width=first.project_in.inputs,
            hidden=feed_forward.project_out.inputs,
            heads=heads,
            head_width=first.k_BHSD.shape[-1],
            max_keys=max_keys,
            residual_scale=residual_scale,
            epsilon=first.norm_1.eps,
            attention_scale=attention_scale or 0.0,
            precision=first.project_in.precision,
            half_cache=first.k_BHSD.dtype is torch.bfloat16,
            gated=gated,
        )
        self._weights = [matrix for layer in layers for matrix in _matrices(layer)]
        self._teams: dict[int, Team] = {}  # by batch size
        self._scratch = torch.empty(0)

    def run(self, x_BW: Tensor, spans: Sequence[tuple[int, int, int]], rows_KB: Tensor | None = None) -> None:
        """Computes all layers for one position of every sample; replaces x by the output.

        Args:
            x_BW: Float32, contiguous.
            spans: For each number of a span: the key to write (-1: none), the first key to read, and how many to read.
            rows_KB: For each number of a span, the rows of the caches that belong to the samples, int64, contiguous;
                None: sample b has row b.
        """
        kernels, samples = library(), ctypes.c_int64(len(x_BW))
        team = self._team(len(x_BW))
        model, threads, began = ctypes.byref(self._model), team.count, time.perf_counter()
        needed = kernels.step_scratch(model, samples, ctypes.c_int64(threads))
        if needed > len(self._scratch):
            self._scratch = torch.empty(needed)
        kernels.step(
            model,
            (_Span * len(spans))(*(_Span(*span) for span in spans)),
            ctypes.c_void_p(None if rows_KB is None else rows_KB.data_ptr()),
            ctypes.c_void_p(x_BW.data_ptr()),
            samples,
            ctypes.c_void_p(self._scratch.data_ptr()),
            ctypes.c_int64(threads),
        )
        team.record(time.perf_counter() - began)

    def _team(self, samples: int) -> Team:
        """Returns the threads of steps of so many samples: at most torch's number."""
        most = torch.get_num_threads()
        if samples not in self._teams or self._teams[samples].most != most:
            entries = sum(each.inputs * each.outputs for each in self._weights)
            read = sum(each.weight.nbytes for each in self._weights)
            useful = useful_threads(most, weight_bytes=read, operations=2 * samples * entries)
            self._teams[samples] = Team(useful, most)
        return self._teams[samples]


def _matrices(layer: LayerArguments) -> list[PackedProjection]:
    fed = layer.feed_forward
    return [layer.project_in, layer.project_out, *([] if fed is None else [fed.project_in, fed.project_out])]


def _layer(layer: LayerArguments) -> _Layer:
    fed = layer.feed_forward
    norms = [p for norm in (layer.norm_1, None if fed is None else fed.norm) for p in _norm(norm)]
    feed = [Matrix(), Matrix()] if fed is None else [fed.project_in.as_struct(), fed.project_out.as_struct()]
    matrices = [layer.project_in.as_struct(), layer.project_out.as_struct(), *feed]
    k_BHSD = layer.k_BHSD
    return _Layer(
        *norms, *matrices, k_BHSD.data_ptr(), layer.v_BHSD.data_ptr(), k_BHSD.stride(0), k_BHSD.stride(1), layer.span
    )


def _norm(norm: nn.LayerNorm | nn.RMSNorm | None) -> tuple[int | None, int | None]:
    if norm is None:
        return None, None
    bias = getattr(norm, "bias", None)
    return norm.weight.data_ptr(), None if bias is None else bias.data_ptr()
