"""Names of the graphs of a Jukebox model. Imports no torch."""

from __future__ import annotations

from typing import TYPE_CHECKING

from jukebox_core.families.jukebox.config import CODEC
from jukebox_core.families.jukebox.model.attention_patterns import AttentionType, Fold, attention_types

if TYPE_CHECKING:
    from jukebox_core.export.graph import Axis
    from jukebox_core.families.jukebox.config import JukeboxConfig, PriorConfig

ENCODER, DECODER, CONDITION, PREFILL, STEP = "encoder", "decoder", "condition", "prefill", "step"
BATCH = "batch"
_SUMMARIES = {AttentionType.SUMMARY, AttentionType.SPREAD_SUMMARY}


def graphs_of(config: JukeboxConfig) -> dict[str, tuple[str, ...]]:
    """Returns the names of a model's graphs, such as ``step_2``, and the roles of the files that each is made from.

    A prior whose layers cannot sample, as they attend to summaries of rows, has none.
    """
    levels = range(config.vqvae.levels)
    codecs = {f"{part}_{level}": (CODEC,) for part in (ENCODER, DECODER) for level in levels}
    priors: dict[str, tuple[str, ...]] = {
        f"{part}_{level}": (f"level_{level}",)
        for level in reversed(levels)
        for part in (CONDITION, PREFILL, STEP)
        if not _SUMMARIES & set(kinds_of(config.priors[level]))
    }
    return {**codecs, **priors}


def kinds_of(config: PriorConfig) -> tuple[AttentionType, ...]:
    """Returns the types of a prior's layers."""
    return attention_types(config.transformer.attention_order, config.transformer.depth)


def fold_of(config: PriorConfig) -> Fold:
    """Returns how a prior's sequence is folded."""
    sizes = config.transformer
    return Fold(config.positions, sizes.blocks or 1, config.lyric_positions, sizes.spread)


def cache_axes(config: PriorConfig) -> tuple[tuple[Axis, ...], ...]:
    """Returns the axes of each layer's cache, as `model.cache` lays it out; the size of the batch is a name."""
    fold, sizes = fold_of(config), config.transformer
    heads, width = sizes.heads, sizes.attention_width // sizes.heads
    columns, prime = fold.columns, min(fold.prime_keys, fold.positions)
    lyrics = config.lyrics.tokens if config.lyrics else 0
    axes: dict[AttentionType, tuple[Axis, ...]] = {
        AttentionType.DENSE: (2, BATCH, heads, fold.positions, width),
        AttentionType.PRIME: (2, BATCH, heads, prime, width),
        AttentionType.BLOCK: (2, BATCH, heads, columns, width),
        AttentionType.PREVIOUS_BLOCK: (2, BATCH, heads, 2 * columns, width),
        AttentionType.COLUMN: (2, columns, BATCH, heads, fold.rows, width),
        AttentionType.CROSS: (2, BATCH, heads, lyrics, width),
    }
    return tuple(axes[kind] for kind in kinds_of(config))


def split_name(name: str) -> tuple[str, int]:
    """Returns the part and the level of a graph's name."""
    part, _, level = name.rpartition("_")
    return part, int(level)
