"""The first layers of a prior over whole windows: one forward pass without cache and logits (docs/upstream.md, Priors).

Shape suffixes: B batch, T music positions, P all positions of the pass, W width, H heads, N lyric tokens.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple, cast

import torch
import torch.nn.functional as F  # noqa: N812 - the field's usual name

from jukebox_core.errors import ConfigError
from jukebox_core.families.jukebox.features.lyric_prefix import SUMMARIES
from jukebox_core.families.jukebox.model.attention import SelfAttention
from jukebox_core.families.jukebox.model.attention_patterns import attention_types

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator

    from torch import Tensor

    from jukebox_core.families.jukebox.features.lyric_prefix import LyricPrefix
    from jukebox_core.families.jukebox.model.prior import Condition, Prior
    from jukebox_core.families.jukebox.model.transformer import Block

_POSITIONS = 1024  # of one feed-forward product: enough for the full speed of products, and little memory


class Activations(NamedTuple):
    """Activations after a layer, counted from 1; `is_final` marks what the output projection reads."""

    layer: int
    x_BTW: Tensor  # in the dtype of computation; final ones are float32
    is_final: bool = False


@torch.no_grad()
def layer_outputs(
    prior: Prior,
    codes_BT: Tensor,
    condition: Condition,
    layers: Collection[int],
    *,
    final: bool = False,
    prefix: LyricPrefix | None = None,
) -> Iterator[Activations]:
    """Yields the activations [B, T, W] of `layers`, ascending, and last of all the final ones if asked for.

    Nothing after the deepest layer is computed. Lyric positions of a single sequence are left out: row i is code i.

    Args:
        prior: with at least as many blocks as the deepest layer.
        codes_BT: at most a context of codes; shorter ones give the first rows of a full window.
        condition: of the window.
        layers: counted from 1.
        final: also yield the input of the output projection.
        prefix: of the same windows, at least of the deepest layer, so that lyric positions are not computed.
    """
    depth = prior.config.transformer.depth
    deepest = depth if final else max(layers)
    lyrics, codes = 0 if prefix else prior.config.lyric_positions, codes_BT.shape[1]
    x_BPW = embedded(prior, codes_BT, condition, music_only=prefix is not None)
    for layer, block in enumerate(prior.body.transformer.typed_blocks[:deepest], 1):
        x_BPW = _through(block, x_BPW, condition, prefix, layer - 1)
        if layer in layers:
            yield Activations(layer, x_BPW[:, lyrics : lyrics + codes])
    if final:
        out_BTW = x_BPW[:, lyrics : lyrics + codes].float()
        if condition.signal_BTW is not None and not prior.config.merged_decoder:
            out_BTW = out_BTW + condition.signal_BTW[:, :codes]
        yield Activations(depth, out_BTW, is_final=True)


@torch.no_grad()
def lyric_attention(
    prior: Prior, codes_BT: Tensor, condition: Condition, layer: int, head: int, prefix: LyricPrefix | None = None
) -> Tensor:
    """Returns the attention weights [B, T, N] of one head from music positions to lyric tokens, float32.

    Blocks after `layer`, which is counted from 0 as in a model's settings, are not computed. Rows need not sum to 1 in
    a single sequence, whose heads attend to other positions too. `prefix` as of `layer_outputs`, of `layer` too.
    """
    lyrics, codes = prior.config.lyrics, codes_BT.shape[1]
    assert lyrics is not None
    blocks = prior.body.transformer.typed_blocks
    x_BPW = embedded(prior, codes_BT, condition, music_only=prefix is not None)
    for index, block in enumerate(blocks[:layer]):
        x_BPW = _through(block, x_BPW, condition, prefix, index)
    _, weights_BHPK = _attended(blocks[layer], x_BPW, condition, prefix, layer, record=True)
    first = prior.config.lyric_positions
    return cast("Tensor", weights_BHPK)[:, head, first : first + codes, : lyrics.tokens]


def _through(block: Block, x_BPW: Tensor, condition: Condition, prefix: LyricPrefix | None, index: int) -> Tensor:
    """Returns x after the block with this index; the feed-forward part takes some positions at a time.

    Its inner activations would take four times the memory of x.
    """
    update_BPW, _ = _attended(block, x_BPW, condition, prefix, index)
    out_BPW = torch.empty_like(x_BPW)
    for start in range(0, x_BPW.shape[1], _POSITIONS):
        part = slice(start, start + _POSITIONS)
        out_BPW[:, part] = block.add(x_BPW[:, part], update_BPW[:, part])
    return out_BPW


def _attended(
    block: Block, x_BPW: Tensor, condition: Condition, prefix: LyricPrefix | None, index: int, *, record: bool = False
) -> tuple[Tensor, Tensor | None]:
    """Returns the output of a block's attention and, if `record`, its weights for whole sequences."""
    attention, normed_BPW = block.attention, block.norm_attention(x_BPW)
    if prefix is None:
        return cast("tuple[Tensor, Tensor | None]", attention(normed_BPW, condition.encoder_BNW, record=record))
    assert isinstance(attention, SelfAttention)
    return attention.after(normed_BPW, prefix.layers[index], record=record)


def embedded(prior: Prior, codes_BT: Tensor, condition: Condition, *, music_only: bool = False) -> Tensor:
    """Returns the input of the first block [B, P, W], in the dtype of computation.

    P is filled up with zeros to whole rows of the layers' folded sequence: no position sees those after it. With
    `music_only` the lyric positions are left out.

    Raises:
        ConfigError: more codes than the context.
    """
    config, body = prior.config, prior.body
    codes, lyrics = codes_BT.shape[1], config.lyric_positions
    if not 0 < codes <= config.context:
        raise ConfigError(f"{codes} codes do not fit a window of level {config.level}; give 1 to {config.context}")
    tokens_BP = prior.sequence(codes_BT, condition)
    x_BPW = torch.cat([condition.start_B1W, body.embedding(tokens_BP[:, :-1])], dim=1)
    x_BPW = x_BPW + body.position_PW[: x_BPW.shape[1]]
    if condition.signal_BTW is not None:
        x_BPW[:, lyrics:] += condition.signal_BTW[:, :codes]
    kinds = attention_types(config.transformer.attention_order, config.transformer.depth)
    columns = config.positions // (config.transformer.blocks or config.positions)
    whole = config.positions if SUMMARIES & set(kinds) else -(-x_BPW.shape[1] // columns) * columns
    if config.transformer.blocks is None:
        whole = x_BPW.shape[1]
    x_BPW = F.pad(x_BPW.to(prior.compute_dtype), (0, 0, 0, whole - x_BPW.shape[1]))
    return x_BPW[:, lyrics:] if music_only else x_BPW
