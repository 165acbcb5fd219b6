"""Models with weights packed for the C++ kernels on the CPU (`runtime.native`): transformers and convolutions.

A `NativeTransformer` replaces the `Transformer` it was made from. Whole sequences and prefill use the plain forward
pass with packed projections; a decode step is one kernel call for all layers, over the same caches. Convolutions are
replaced one by one, residual blocks as a whole; `streaming` applies them.

Shape suffixes: B batch, T positions of this call, S cached positions, H heads, D head width, W width,
N encoder positions, K taps, I inputs, O outputs.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, cast

import torch
from torch import Tensor, nn

from jukebox_core.families.jukebox.model.attention import ColumnAttention, PrefixAttention, RowAttention, SelfAttention
from jukebox_core.families.jukebox.model.cache import TransformerCache
from jukebox_core.families.jukebox.model.convnet import ResidualBlock
from jukebox_core.families.jukebox.model.layers import Projection
from jukebox_core.families.jukebox.model.streaming import two_tap_weights
from jukebox_core.families.jukebox.model.transformer import FeedForward, Transformer
from jukebox_core.runtime.native.compiled import library
from jukebox_core.runtime.native.convolution import PackedConvolution, PackedResidual, PackedStrided, packs
from jukebox_core.runtime.native.decode_step import DecodeStep, FeedForwardArguments, LayerArguments
from jukebox_core.runtime.native.feed_forward import can_feed, feed_forward
from jukebox_core.runtime.native.matrices import Arena, PackedProjection, packed_bytes
from jukebox_core.runtime.quantise import Int8Projection

if TYPE_CHECKING:
    from jukebox_core.families.jukebox.model.attention import Attention
    from jukebox_core.families.jukebox.model.cache import LayerCache
    from jukebox_core.families.jukebox.model.layers import LayerNorm
    from jukebox_core.families.jukebox.model.prior import Prior
    from jukebox_core.families.jukebox.model.transformer import Block


# A convolution computes rows in pairs (Winograd) from this many channels and up to this dilation: it pays off where
# arithmetic is the bottleneck, and where most rows have their partner within the sequence.
_PAIRED_MIN_CHANNELS, _PAIRED_MAX_DILATION = 256, 256


def pack_prior(prior: Prior) -> None:
    """Packs a prior in place: its transformer, and the convolutions over the codes above, as far as kernels exist.

    Convolutions are quantised to int8 if the transformer's weights are.

    Raises:
        DeviceError: the kernels cannot be compiled here.
        ValueError: a projection's inputs are not a multiple of R (`matrices.PRECISIONS`).
    """
    quantised = any(isinstance(module, Int8Projection) for module in prior.body.transformer.modules())
    prior.body.transformer = pack(prior.body.transformer, prior.compute_dtype)
    pack_convolutions(prior, torch.int8 if quantised else None)


@torch.no_grad()
def pack(transformer: Transformer, dtype: torch.dtype) -> NativeTransformer:
    """Returns the transformer with packed projections, which replace those of `transformer` one after the other.

    Args:
        transformer: On the CPU; with projections in floating point or int8.
        dtype: Storage dtype of floating-point weights, float32 or bfloat16.

    Raises:
        DeviceError: the kernels cannot be compiled here.
        ValueError: a projection's inputs are not a multiple of R (`matrices.PRECISIONS`).
    """
    library()
    places = [
        (parent, name, child)
        for parent in transformer.modules()
        for name, child in parent.named_children()
        if isinstance(child, Projection | Int8Projection)
    ]

    size = sum(packed_bytes(child.weight.shape, packed_dtype(child, dtype)) for _, _, child in places)
    meta = any(child.weight.is_meta for _, _, child in places)  # packed weights will be read from a file
    arena = Arena(size, huge_pages=not meta)
    while places:  # each original weight is freed as soon as it is packed
        parent, name, child = places.pop(0)
        scale_O = child.scale if isinstance(child, Int8Projection) else None
        setattr(parent, name, PackedProjection(child.weight.to(packed_dtype(child, dtype)), child.bias, scale_O, arena))
    for block in transformer.typed_blocks:
        block.feed_forward = NativeFeedForward(block.feed_forward)
    return NativeTransformer(transformer, arena)


@torch.no_grad()
def pack_convolutions(module: nn.Module, dtype: torch.dtype | None = None) -> None:
    """Packs the convolutions of a module in place, as far as kernels exist; they have no gradient afterwards.

    Args:
        module: On the CPU, or the meta device.
        dtype: Dtype that weights are quantised to where the kernels can; None keeps their dtype.

    Raises:
        DeviceError: the kernels cannot be compiled here.
    """
    library()
    for parent in [*module.modules()]:
        if isinstance(parent, ResidualBlock):
            continue  # a residual block is packed as a whole or not at all
        for name, child in [*parent.named_children()]:
            packed = _packed(child, dtype) or _packed(child, None)
            if packed is not None:
                setattr(parent, name, packed)


def _packed(module: nn.Module, dtype: torch.dtype | None) -> nn.Module | None:
    """Returns the packed form of a convolution or a residual block; None if no kernel exists for it."""
    match module:
        case ResidualBlock(dilated=dilated, pointwise=pointwise) if packs(dilated, dtype) and packs(pointwise, dtype):
            paired = dilated.in_channels >= _PAIRED_MIN_CHANNELS and dilated.dilation[0] <= _PAIRED_MAX_DILATION
            first = _convolution(dilated, dtype, paired=paired)
            return PackedResidual(first, _convolution(pointwise, dtype), module.scale)
        case nn.Conv1d(stride=(1,)) if packs(module, dtype):
            return _convolution(module, dtype)
        case nn.Conv1d() | nn.ConvTranspose1d() if packs(module, dtype):
            return _strided(module, dtype)
    return None


def _convolution(conv: nn.Conv1d, dtype: torch.dtype | None, *, paired: bool = False) -> PackedConvolution:
    assert conv.bias is not None
    weight_KIO, before = conv.weight.permute(2, 1, 0), conv.kernel_size[0] // 2
    return PackedConvolution(
        weight_KIO, conv.bias, before=before, dilation=conv.dilation[0], dtype=dtype, paired=paired
    )


def _strided(conv: nn.Conv1d | nn.ConvTranspose1d, dtype: torch.dtype | None) -> PackedStrided:
    """Returns a strided convolution with a kernel of two strides as one of two taps; see `two_tap_weights`."""
    weight_KIO, bias_O = two_tap_weights(conv)
    return PackedStrided(
        PackedConvolution(weight_KIO, bias_O, before=1, dtype=dtype),
        stride=conv.stride[0],
        padding=int(conv.padding[0]),
        transposed=isinstance(conv, nn.ConvTranspose1d),
    )


def packed_dtype(projection: Projection | Int8Projection, dtype: torch.dtype) -> torch.dtype:
    """Returns the dtype that a projection's weight is packed in: int8, or `dtype` for floating-point weights."""
    return torch.int8 if isinstance(projection, Int8Projection) else dtype


class NativeFeedForward(FeedForward):
    """A feed-forward part with packed projections; of float32 activations, the half of a layer is one call."""

    def __init__(self, plain: FeedForward) -> None:
        nn.Module.__init__(self)
        self.project_in, self.project_out = plain.project_in, plain.project_out

    def after(self, x_BTW: Tensor, update_BTW: Tensor, norm: LayerNorm, scale: float) -> Tensor:
        """Returns the output of a layer; see `FeedForward.after`."""
        if not can_feed(x_BTW, self.project_in, self.project_out):
            return super().after(x_BTW, update_BTW, norm, scale)
        project_in, project_out = cast("PackedProjection", self.project_in), cast("PackedProjection", self.project_out)
        return feed_forward(x_BTW, update_BTW, norm, project_in, project_out, scale)


@dataclass(slots=True)
class NativeCache(TransformerCache):
    """The KV caches of a window, with the arguments of a decode step through all layers."""

    decode_step: DecodeStep | None = None


class NativeTransformer(Transformer):
    """A transformer with packed projections and a decode step in C++; it has no gradient.

    Args:
        plain: The transformer whose blocks, already packed, it uses.
        arena: The memory that holds the packed weights.
    """

    def __init__(self, plain: Transformer, arena: Arena) -> None:
        nn.Module.__init__(self)
        self.blocks = plain.blocks
        self.arena = arena
        kinds: dict[tuple[object, ...], int] = {}  # layers whose spans agree at every position share one
        self._spans = [kinds.setdefault(_span_kind(block.attention), len(kinds)) for block in self.typed_blocks]
        self._first = [self._spans.index(span) for span in range(len(kinds))]  # the first layer of each kind

    def new_cache(
        self, batch: int, *, dtype: torch.dtype, device: torch.device, encoder_BNW: Tensor | None = None
    ) -> NativeCache:
        """Returns the KV cache of one window; see `Transformer.new_cache`."""
        layers = super().new_cache(batch, dtype=dtype, device=device, encoder_BNW=encoder_BNW).layers
        blocks = self.typed_blocks
        arguments = [_layer_arguments(*parts) for parts in zip(blocks, layers, self._spans, strict=True)]
        decode_step = DecodeStep(
            arguments,
            heads=blocks[0].attention.heads,
            residual_scale=blocks[0].scale,
            max_keys=max(layer.k_BHSD.shape[2] for layer in arguments),
        )
        return NativeCache(layers, decode_step=decode_step)

    def extend(self, x_BTW: Tensor, cache: TransformerCache) -> Tensor:
        """Returns the output for the next T positions; float32 for a single position, a decode step."""
        if x_BTW.shape[1] > 1 or not isinstance(cache, NativeCache) or cache.decode_step is None:
            return super().extend(x_BTW, cache)
        blocks = self.typed_blocks
        spans = [_span(blocks[layer].attention, cache.layers[layer], cache.position) for layer in self._first]
        x_BW = x_BTW[:, 0].to(torch.float32, copy=True).contiguous()
        cache.decode_step.run(x_BW, spans)
        cache.position += 1
        return x_BW[:, None]


def _span_kind(attention: Attention) -> tuple[object, ...]:
    """Returns a key that is equal for layers with the same `_span` at every position."""
    details = (getattr(attention, name, None) for name in ("lag", "keys"))
    return (type(attention), *details)


def _layer_arguments(block: Block, layer: LayerCache, span: int) -> LayerArguments:
    attention, feed_forward = block.attention, block.feed_forward
    columns = isinstance(attention, ColumnAttention)
    return LayerArguments(
        norm_1=block.norm_attention,
        project_in=cast("PackedProjection", attention.project_in),
        project_out=cast("PackedProjection", attention.project_out),
        k_BHSD=layer.k[0] if columns else layer.k,  # columns are contiguous, each [B, H, S, D]
        v_BHSD=layer.v[0] if columns else layer.v,
        span=span,
        feed_forward=FeedForwardArguments(
            norm=block.norm_feed_forward,
            project_in=cast("PackedProjection", feed_forward.project_in),
            project_out=cast("PackedProjection", feed_forward.project_out),
        ),
    )


def _span(attention: Attention, cache: LayerCache, position: int) -> tuple[int, int, int]:
    """Returns the key that a step writes in the layer's cache (-1: none), the first it reads, and their number."""
    if not isinstance(attention, SelfAttention):
        return -1, 0, cache.k.shape[2]
    row, column = divmod(position, attention.fold.columns)
    match attention:
        case ColumnAttention():
            first = column * cache.k[0, :, :, :, 0].numel()
            return first + row, first, row + 1
        case RowAttention():
            slot, first = attention.slot(row), attention.slot(row - attention.lag)
            keys = attention.fold.columns if attention.lag else column + 1
            return slot + column, first, keys if row >= attention.lag else 0  # the row before the first is zeros
        case PrefixAttention():
            cached = position < attention.keys
            return (position if cached else -1), 0, min(position + 1, attention.keys)
    raise AssertionError(f"{type(attention).__name__} has a cache but no spans")
