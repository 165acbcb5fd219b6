"""Models with weights packed for the C++ kernels on the CPU (`runtime.native`).

A `NativeMT3` replaces the `MT3` it was made from. Encoder, memory, and the decoder without a cache use the plain
forward pass with packed projections; a step of the decoder is one kernel call for all layers. The ids of a segment do
not depend on the rest of the batch, bit for bit.

Legend as in `transformer`; K kinds of caches: of the tokens, of the source.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from jukebox_core.families.mt3.model.cache import FIRST_ROOM
from jukebox_core.families.mt3.model.perceiver import Perceiver
from jukebox_core.families.mt3.model.transformer import MT3, DecoderLayer
from jukebox_core.runtime.native.compiled import library
from jukebox_core.runtime.native.decode_step import DecodeStep, FeedForwardArguments, LayerArguments
from jukebox_core.runtime.native.matrices import PRECISIONS, Arena, PackedProjection, packed_bytes
from jukebox_core.runtime.quantise import quantise_per_channel

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence


@torch.no_grad()
def pack(model: MT3, dtype: torch.dtype) -> NativeMT3:
    """Returns the model with packed projections, which replace those of `model` one after the other.

    Args:
        model: on the CPU, in float32.
        dtype: of the packed weights: float32, bfloat16 or int8.

    Raises:
        DeviceError: the kernels cannot be compiled here.
    """
    library()
    places = list(projections(model))
    shapes = [(each[0].in_features, sum(linear.out_features for linear in each)) for _, _, each in places]
    arena = Arena(sum(packed_bytes(shape, dtype) for shape in shapes))
    while places:  # each original weight is freed as soon as it is packed
        parent, names, linears = places.pop(0)
        weight_IO = torch.cat([linear.weight for linear in linears]).t()
        scale_O = None
        if dtype is torch.int8:
            weight_IO, scale_O = quantise_per_channel(weight_IO)
        zeros = torch.zeros(weight_IO.shape[1])  # no projection here has a bias
        fused = PackedProjection(weight_IO.to(dtype).contiguous(), zeros, scale_O, arena)
        parts: list[nn.Module] = [fused]
        if len(names) > 1:
            parent.fused = fused
            stops = torch.tensor([linear.out_features for linear in linears]).cumsum(0).tolist()
            parts = [_Part(fused, slice(stop - linears[0].out_features, stop)) for stop in stops]
        for name, part in zip(names, parts, strict=True):
            setattr(parent, name, part)
        del linears
    return NativeMT3(model, arena, cache_dtype=torch.float32 if dtype is torch.float32 else torch.bfloat16)


def reason_against(model: MT3, dtype: torch.dtype) -> str | None:
    """Returns why a model cannot be packed; None if it can, as far as its sizes say."""
    _, interleaved = PRECISIONS[dtype]
    for _, _, linears in projections(model):
        if linears[0].in_features % interleaved:
            return f"a layer has {linears[0].in_features} inputs; with {dtype} they must be a multiple of {interleaved}"
    return None


def projections(model: MT3) -> Iterator[tuple[nn.Module, tuple[str, ...], list[nn.Linear]]]:
    """Yields the projections of a model as (parent, names, modules); those with the same input in a step together.

    A Perceiver's are left out: it is a network of another kind, and reads each segment once.
    """
    fused: dict[nn.Module, tuple[str, ...]] = {}
    for layer in model.decoder.layers:
        assert isinstance(layer, DecoderLayer)
        fused |= {layer.attention: ("q", "k", "v"), layer.feed_forward: ("wi_0", "wi_1")}
    left_out = {*model.encoder.modules()} if isinstance(model.encoder, Perceiver) else set()
    for parent in [each for each in model.modules() if each not in left_out]:
        together = fused.get(parent, ())
        if together:
            yield parent, together, [getattr(parent, name) for name in together]
        for name, child in [*parent.named_children()]:
            if isinstance(child, nn.Linear) and name not in together:
                yield parent, (name,), [child]


class _Part(nn.Module):
    """Some outputs of a projection; computes all of it, for where there is no step."""

    def __init__(self, fused: PackedProjection, outputs: slice) -> None:
        super().__init__()
        self._fused = [fused]  # a list: the parent owns the module
        self.outputs = outputs

    def forward(self, x_BTI: Tensor) -> Tensor:
        """Returns [B, T, O]."""
        whole: Tensor = self._fused[0](x_BTI)
        return whole[..., self.outputs]


@dataclass(slots=True)
class NativeCache:
    """The caches of a batch: memory of the tokens' keys and values, of the source's, and the rows that they belong to.

    | tensor | shape |
    |---|---|
    | k, v of the tokens, by layer | [rows, H, room, D] |
    | k, v of the source, by layer | [segments, H, S, D] |
    | rows_KB | row of the tokens' caches, and segment, of each row of the batch |
    """

    tokens: list[tuple[Tensor, Tensor]]
    source: list[tuple[Tensor, Tensor]]
    rows_KB: Tensor
    step: DecodeStep
    length: int = 0

    @property
    def room(self) -> int:
        """Number of tokens for which there is memory."""
        return self.tokens[0][0].shape[2]

    @property
    def source_length(self) -> int:
        """Number of source positions."""
        return self.source[0][0].shape[2]

    def select(self, rows: Tensor) -> None:
        """Makes the batch of the rows with these indices; one that is named again is copied."""
        self.rows_KB = self.rows_KB[:, rows].contiguous()
        held = self.rows_KB[0].tolist()
        if len(set(held)) == len(held):
            return
        free = sorted(set(range(len(self.tokens[0][0]))) - set(held), reverse=True)
        seen: set[int] = set()
        for place, row in enumerate(held):
            if row in seen:
                self.rows_KB[0, place] = copy = free.pop()
                for each in (tensor for layer in self.tokens for tensor in layer):
                    each[copy, :, : self.length] = each[row, :, : self.length]
            seen.add(row)


class NativeMT3(MT3):
    """A model with packed projections and steps in C++; it has no gradient.

    Args:
        plain: the model whose modules, already packed, it uses.
        arena: the memory that holds the packed weights.
        cache_dtype: of keys and values.
    """

    def __init__(self, plain: MT3, arena: Arena, *, cache_dtype: torch.dtype) -> None:
        nn.Module.__init__(self)
        self.config, self.arena, self.cache_dtype = plain.config, arena, cache_dtype
        for name, module in plain.named_children():
            setattr(self, name, module)
        for name, buffer in plain.named_buffers(recurse=False):
            self.register_buffer(name, buffer)
        if plain.memory is None:
            self.memory = None

    def start(self, source_BSW: Tensor, rows: int | None = None) -> NativeCache:  # type: ignore[override]
        """Returns the caches of a batch before its first token; see `MT3.start`."""
        sizes, batch = self.config.transformer, len(source_BSW)
        shape = (rows or batch, sizes.heads, min(FIRST_ROOM, sizes.max_tokens), sizes.head_width)
        source, tokens = [], []
        for layer in self.decoder.layers:
            k_BHSD, v_BHSD = layer.cross.keys_values(source_BSW)  # type: ignore[union-attr, operator]
            source.append((self._stored(k_BHSD), self._stored(v_BHSD)))
            tokens.append((torch.empty(shape, dtype=self.cache_dtype), torch.empty(shape, dtype=self.cache_dtype)))
        rows_KB = torch.arange(batch).repeat(2, 1)
        return NativeCache(tokens, source, rows_KB, self._decode_step(tokens, source))

    def step(self, ids_B: Tensor, cache: NativeCache) -> Tensor:  # type: ignore[override]
        """Returns the logits after one more id of each row, float32 [B, V]."""
        if cache.length == cache.room:
            cache.tokens = [(_doubled(k), _doubled(v)) for k, v in cache.tokens]
            cache.step = self._decode_step(cache.tokens, cache.source)
        at = cache.length
        x_BW = self._embedded(ids_B[:, None], at)[:, 0].contiguous()
        cache.step.run(x_BW, [(at, 0, at + 1), (-1, 0, cache.source_length)], cache.rows_KB)
        cache.length += 1
        return self._logits(x_BW)

    def _stored(self, x_BHSD: Tensor) -> Tensor:
        return x_BHSD.to(self.cache_dtype).contiguous()

    def _decode_step(
        self, tokens: Sequence[tuple[Tensor, Tensor]], source: Sequence[tuple[Tensor, Tensor]]
    ) -> DecodeStep:
        arguments = []
        for layer, own, others in zip(self.decoder.layers, tokens, source, strict=True):
            assert isinstance(layer, DecoderLayer)
            attention, cross, feed_forward = layer.attention, layer.cross, layer.feed_forward
            feed = FeedForwardArguments(layer.norm_feed_forward, _packed(feed_forward.fused), _packed(feed_forward.wo))
            arguments += [
                LayerArguments(layer.norm_attention, _packed(attention.fused), _packed(attention.o), *own, 0, None),
                LayerArguments(layer.norm_cross, _packed(cross.q), _packed(cross.o), *others, 1, feed),
            ]
        most = max(tokens[0][0].shape[2], source[0][0].shape[2])
        return DecodeStep(
            arguments, heads=self.config.transformer.heads, max_keys=most, attention_scale=1.0, gated=True
        )


def _doubled(held: Tensor) -> Tensor:
    larger = held.new_empty(*held.shape[:2], 2 * held.shape[2], held.shape[3])
    larger[:, :, : held.shape[2]] = held
    return larger


def _packed(module: nn.Module | Tensor) -> PackedProjection:
    assert isinstance(module, PackedProjection)
    return module
