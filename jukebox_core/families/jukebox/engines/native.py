"""Models with weights packed for our own kernels on the CPU (`runtime.native`): transformers and convolutions.

A `NativeTransformer` stands in the place of the `Transformer` it was made of. Whole sequences and chunks go the plain
way, through the packed projections; a single position goes through all layers at once, over the same caches.
Convolutions are replaced one by one, residual blocks as a whole; `streaming` applies them.

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
from jukebox_core.families.jukebox.model.streaming import wide_weights
from jukebox_core.families.jukebox.model.transformer import Transformer
from jukebox_core.runtime.native.compiled import library
from jukebox_core.runtime.native.convolution import PackedConvolution, PackedResidual, PackedStrided, packs
from jukebox_core.runtime.native.decode_step import Walk, WalkLayer
from jukebox_core.runtime.native.matrices import Arena, PackedProjection, packed_bytes
from jukebox_core.runtime.quantise import Int8Projection

if TYPE_CHECKING:
    from jukebox_core.families.jukebox.model.attention import Attention
    from jukebox_core.families.jukebox.model.cache import LayerCache
    from jukebox_core.families.jukebox.model.prior import Prior
    from jukebox_core.families.jukebox.model.transformer import Block


# Least channels and most dilation of a convolution whose rows are computed in pairs: that pays where the time goes into
# arithmetic, and where most rows have their partners in the sequence.
_PAIRED_CHANNELS, _PAIRED_DILATION = 256, 256


def pack_prior(prior: Prior) -> None:
    """Packs all of a prior that there are kernels for: its transformer, and the convolutions over the codes above.

    Where the transformer's weights are of 8 bits, so are the convolutions' then.

    Raises:
        DeviceError: the kernels cannot be compiled here.
        ValueError: a projection's inputs are not a multiple of what `PRECISIONS` says.
    """
    rounded = any(isinstance(module, Int8Projection) for module in prior.body.transformer.modules())
    prior.body.transformer = pack(prior.body.transformer, prior.compute_dtype)
    pack_convolutions(prior, torch.int8 if rounded else None)


@torch.no_grad()
def pack(transformer: Transformer, dtype: torch.dtype) -> NativeTransformer:
    """Returns the transformer with its projections packed, one after the other; they are taken out of `transformer`.

    Args:
        transformer: On the CPU; its projections are plain, or of 8 bits.
        dtype: What plain weights are to be stored in, float32 or bfloat16.

    Raises:
        DeviceError: the kernels cannot be compiled here.
        ValueError: a projection's inputs are not a multiple of what `PRECISIONS` says.
    """
    library()
    places = [
        (parent, name, child)
        for parent in transformer.modules()
        for name, child in parent.named_children()
        if isinstance(child, Projection | Int8Projection)
    ]

    size = sum(packed_bytes(child.weight.shape, packed_dtype(child, dtype)) for _, _, child in places)
    to_be_read = any(child.weight.is_meta for _, _, child in places)
    arena = Arena(size, large=not to_be_read)
    while places:  # each plain weight goes as soon as it is packed
        parent, name, child = places.pop(0)
        scale_O = child.scale if isinstance(child, Int8Projection) else None
        setattr(parent, name, PackedProjection(child.weight.to(packed_dtype(child, dtype)), child.bias, scale_O, arena))
    return NativeTransformer(transformer, arena)


@torch.no_grad()
def pack_convolutions(module: nn.Module, dtype: torch.dtype | None = None) -> None:
    """Packs the convolutions in a module that there are kernels for; they have no gradient then.

    Args:
        module: On the CPU, or the meta device.
        dtype: What their weights are rounded to where the kernels can; None leaves them as they are.

    Raises:
        DeviceError: the kernels cannot be compiled here.
    """
    library()
    for parent in [*module.modules()]:
        if isinstance(parent, ResidualBlock):
            continue  # it is packed as a whole or not at all
        for name, child in [*parent.named_children()]:
            packed = _packed(child, dtype) or _packed(child, None)
            if packed is not None:
                setattr(parent, name, packed)


def _packed(module: nn.Module, dtype: torch.dtype | None) -> nn.Module | None:
    """Returns what takes the place of a convolution or of a residual block, if there is anything that can."""
    match module:
        case ResidualBlock(dilated=dilated, pointwise=pointwise) if packs(dilated, dtype) and packs(pointwise, dtype):
            paired = dilated.in_channels >= _PAIRED_CHANNELS and dilated.dilation[0] <= _PAIRED_DILATION
            return PackedResidual(_taps(dilated, dtype, paired=paired), _taps(pointwise, dtype), module.scale)
        case nn.Conv1d(stride=(1,)) if packs(module, dtype):
            return _taps(module, dtype)
        case nn.Conv1d() | nn.ConvTranspose1d() if packs(module, dtype):
            return _strided(module, dtype)
    return None


def _taps(conv: nn.Conv1d, dtype: torch.dtype | None, *, paired: bool = False) -> PackedConvolution:
    assert conv.bias is not None
    weight_KIO, before = conv.weight.permute(2, 1, 0), conv.kernel_size[0] // 2
    return PackedConvolution(
        weight_KIO, conv.bias, before=before, dilation=conv.dilation[0], dtype=dtype, paired=paired
    )


def _strided(conv: nn.Conv1d | nn.ConvTranspose1d, dtype: torch.dtype | None) -> PackedStrided:
    """Returns a convolution of two strides of taps as one of two taps over rows of a stride beside each other."""
    stride, padding, raises = conv.stride[0], int(conv.padding[0]), isinstance(conv, nn.ConvTranspose1d)
    weight_KIO, bias_O = wide_weights(conv)
    return PackedStrided(
        PackedConvolution(weight_KIO, bias_O, before=1, dtype=dtype), stride=stride, padding=padding, raises=raises
    )


def packed_dtype(projection: Projection | Int8Projection, dtype: torch.dtype) -> torch.dtype:
    """Returns what a projection's weight is packed in, where plain ones are in `dtype`."""
    return torch.int8 if isinstance(projection, Int8Projection) else dtype


@dataclass(slots=True)
class NativeCache(TransformerCache):
    """The caches of a window, laid out for steps through all layers at once."""

    walk: Walk | None = None


class NativeTransformer(Transformer):
    """A transformer with packed projections, which it takes over from a plain one; it has no gradient."""

    def __init__(self, plain: Transformer, arena: Arena) -> None:
        nn.Module.__init__(self)
        self.blocks = plain.blocks
        self.arena = arena  # what the projections lie in
        kinds: dict[tuple[object, ...], int] = {}  # layers whose spans agree at every position share one
        self._spans = [kinds.setdefault(_identity(block.attention), len(kinds)) for block in self.typed_blocks]
        self._first = [self._spans.index(span) for span in range(len(kinds))]  # a layer of each kind

    def new_cache(
        self, batch: int, *, dtype: torch.dtype, device: torch.device, encoder_BNW: Tensor | None = None
    ) -> NativeCache:
        """Returns the cache of one window; see `Transformer.new_cache`."""
        layers = super().new_cache(batch, dtype=dtype, device=device, encoder_BNW=encoder_BNW).layers
        blocks = self.typed_blocks
        walked = [_walk_layer(*parts) for parts in zip(blocks, layers, self._spans, strict=True)]
        walk = Walk(
            walked,
            heads=blocks[0].attention.heads,
            residual_scale=blocks[0].scale,
            most_keys=max(layer.k_BHSD.shape[2] for layer in walked),
        )
        return NativeCache(layers, walk=walk)

    def extend(self, x_BTW: Tensor, cache: TransformerCache) -> Tensor:
        """Returns the output for the next T positions; of one position, a decode step, it is float32."""
        if x_BTW.shape[1] > 1 or not isinstance(cache, NativeCache) or cache.walk is None:
            return super().extend(x_BTW, cache)
        blocks = self.typed_blocks
        spans = [_span(blocks[layer].attention, cache.layers[layer], cache.position) for layer in self._first]
        x_BW = x_BTW[:, 0].to(torch.float32, copy=True).contiguous()
        cache.walk.step(x_BW, spans)
        cache.position += 1
        return x_BW[:, None]


def _identity(attention: Attention) -> tuple[object, ...]:
    details = (getattr(attention, name, None) for name in ("lag", "keys"))
    return (type(attention), *details)


def _walk_layer(block: Block, layer: LayerCache, span: int) -> WalkLayer:
    attention, feed_forward = block.attention, block.feed_forward
    columns = isinstance(attention, ColumnAttention)
    return WalkLayer(
        norm_1=block.norm_attention,
        norm_2=block.norm_feed_forward,
        project_in=cast("PackedProjection", attention.project_in),
        project_out=cast("PackedProjection", attention.project_out),
        feed_in=cast("PackedProjection", feed_forward.project_in),
        feed_out=cast("PackedProjection", feed_forward.project_out),
        k_BHSD=layer.k[0] if columns else layer.k,  # column after column, each as the caches of other layers
        v_BHSD=layer.v[0] if columns else layer.v,
        span=span,
    )


def _span(attention: Attention, cache: LayerCache, position: int) -> tuple[int, int, int]:
    """Returns where a step writes in the layer's cache, where it reads, and how many keys; -1: it writes nowhere."""
    if not isinstance(attention, SelfAttention):
        return -1, 0, cache.k.shape[2]
    row, column = divmod(position, attention.fold.columns)
    match attention:
        case ColumnAttention():
            first = column * cache.k[0, :, :, :, 0].numel()
            return first + row, first, row + 1
        case RowAttention():
            slot, first = attention.slot(row), attention.slot(row - attention.lag)
            seen = attention.fold.columns if attention.lag else column + 1
            return slot + column, first, seen if row >= attention.lag else 0  # the row before the first is zeros
        case PrefixAttention():
            kept = position < attention.keys
            return (position if kept else -1), 0, min(position + 1, attention.keys)
    raise AssertionError(f"{type(attention).__name__} made a cache but has no spans")
