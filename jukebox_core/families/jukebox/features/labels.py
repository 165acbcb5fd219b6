"""Label rows of windows for features (docs/upstream.md, Labels). Imports no torch."""

from __future__ import annotations

from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING

from jukebox_core.errors import ConfigError, LabelError
from jukebox_core.families.jukebox.conditioning.labels import label_song, window_row
from jukebox_core.families.jukebox.conditioning.song import Song
from jukebox_core.families.jukebox.conditioning.vocabulary import Vocabulary, VocabularyKind, load_vocabularies
from jukebox_core.features.config import FeatureSizes

if TYPE_CHECKING:
    from collections.abc import Mapping

    from jukebox_core.families.jukebox.config import JukeboxConfig


def feature_sizes(config: JukeboxConfig, level: int) -> FeatureSizes:
    """Returns the sizes of the prior of `level`, with the lengths of songs that it knows if it has timing."""
    prior = config.priors[level]
    sizes = FeatureSizes(
        level=level,
        depth=prior.transformer.depth,
        width=prior.transformer.width,
        context=prior.context,
        hop=config.hops[level],
        rate=config.sample_rate,
    )
    if prior.timing is None:
        return sizes
    rate = config.sample_rate
    return FeatureSizes(
        level=level,
        depth=sizes.depth,
        width=sizes.width,
        context=sizes.context,
        hop=sizes.hop,
        rate=rate,
        shortest=-int(-prior.timing.min_seconds * rate // 1),
        longest=prior.timing.max_seconds * rate,
    )


def label_row(
    config: JukeboxConfig,
    level: int,
    song: Song | None,
    vocabularies: Mapping[str, Path],
    *,
    total: int,
    offset: int,
) -> tuple[int, ...]:
    """Returns the label row of a window that starts at `offset` of a song of `total` audio samples.

    Raises:
        ConfigError: lyrics for a prior without, or a name for one without labels.
        LabelError: the model does not know an artist, a genre or any character of the lyrics.
    """
    song, prior = song or Song(), config.priors[level]
    if song.has_lyrics and prior.lyrics is None:
        raise ConfigError(
            f"lyrics are set, but the prior of level {level} of {config.name} knows none; remove them, "
            "or choose model=5b_lyrics"
        )
    known = _loaded(tuple(sorted((role, str(path)) for role, path in vocabularies.items())))
    labels = label_song(
        known,
        artist=song.artist,
        genre=song.genre,
        lyrics=song.read_lyrics() if prior.lyrics is not None else "",
        total_length=total,
        offset=offset,
        config=prior,
    )
    row = window_row(labels, prior, sample_length=config.context_length(level), start=0).row
    if (
        prior.timing is not None
        and offset + config.context_length(level) > prior.timing.max_seconds * config.sample_rate
    ):
        raise LabelError(
            f"a window from {offset / config.sample_rate:.2f} s on ends after the {prior.timing.max_seconds:g} s "
            f"that {config.name} knows; choose an earlier part of the song"
        )
    return row


@lru_cache(maxsize=4)
def _loaded(paths: tuple[tuple[str, str], ...]) -> dict[VocabularyKind, Vocabulary]:
    return load_vocabularies({role: Path(path) for role, path in paths})
