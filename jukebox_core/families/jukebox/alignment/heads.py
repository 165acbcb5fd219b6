"""The attention head that an alignment is read from. Imports no torch."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from jukebox_core.errors import ConfigError
from jukebox_core.families.jukebox.model.attention_patterns import AttentionType, attention_types

if TYPE_CHECKING:
    from jukebox_core.families.jukebox.config import JukeboxConfig


class Head(NamedTuple):
    """A head of a layer, both counted from 0, as in a model's settings."""

    layer: int
    head: int


def alignment_head(config: JukeboxConfig, layer: int | None = None, head: int | None = None) -> Head:
    """Returns the head that an alignment is read from: the given one, or the one in the model's settings.

    Raises:
        ConfigError: the model knows no lyrics, names no head, or the layer or the head does not attend to lyrics.
    """
    prior = config.priors[config.top]
    lyrics, sizes = prior.lyrics, prior.transformer
    if lyrics is None:
        raise ConfigError(
            f"model {config.name} knows no lyrics, so it cannot align them; choose model=5b_lyrics or mini"
        )
    kinds = attention_types(sizes.attention_order, sizes.depth)
    fitting = [at for at, kind in enumerate(kinds) if kind in (AttentionType.PRIME, AttentionType.CROSS)]
    chosen = lyrics.alignment_layer if layer is None else layer
    choice = f"choose {', '.join(map(str, fitting))}, counted from 0" if fitting else "this model has none that does"
    if chosen is None:
        raise ConfigError(f"model {config.name} names no head that follows lyrics; set layer and head: {choice}")
    if chosen not in fitting:
        raise ConfigError(f"layer {chosen} attends to no lyrics; {choice}")
    of_layer = (lyrics.alignment_head or 0) if head is None else head
    if not 0 <= of_layer < sizes.heads:
        raise ConfigError(f"head is {of_layer}; layer {chosen} has heads 0 to {sizes.heads - 1}")
    return Head(chosen, of_layer)
