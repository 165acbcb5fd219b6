"""Checks before a training of Jukebox: lengths, label tables, guided attention heads, timing and labels."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

from jukebox_core.errors import ConfigError, LabelError
from jukebox_core.families.jukebox.conditioning.labels import label_levels
from jukebox_core.families.jukebox.conditioning.lyrics import alphabet
from jukebox_core.families.jukebox.conditioning.vocabulary import load_vocabularies
from jukebox_core.families.jukebox.config import CODEC, level_of
from jukebox_core.families.jukebox.training.guided_attention import guided_head
from jukebox_core.training.family import RequiredLength, SongLength

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence
    from pathlib import Path

    from jukebox_core.datasets.songs import Song
    from jukebox_core.families.jukebox.conditioning.vocabulary import Vocabulary
    from jukebox_core.families.jukebox.config import JukeboxConfig
    from jukebox_core.families.jukebox.training.config import TrainingConfig

log = logging.getLogger("jukebox")

_NAMED = 3  # songs that an error names


def required_length(config: JukeboxConfig, role: str, training: TrainingConfig) -> RequiredLength:
    """Returns the length of a clip of the VQ-VAE, or of a context of a prior."""
    if role == CODEC:
        seconds = training.vqvae.seconds
        remedy = f"give longer music, or make clips shorter (training.{CODEC}.seconds)"
        return RequiredLength(seconds, f"a clip of {seconds:g} s", remedy)
    prior = config.priors[level_of(role)]
    seconds = config.seconds(prior.level, prior.context)
    name = f"a context of {prior.context:,} tokens ({seconds:.2f} s)"
    return RequiredLength(seconds, name, "give longer music, or more of it")


def check_tables(config: JukeboxConfig, parts: Sequence[str], vocabularies: Mapping[str, Path]) -> None:
    """Checks that the embedding tables of the parts have a row for every id of their vocabulary.

    Raises:
        ConfigError: a table has too few rows.
    """
    known = load_vocabularies(vocabularies)
    for role in parts:
        labels = config.priors[level_of(role)].labels if role != CODEC else None
        if labels is None:
            continue
        names = known[labels.vocabulary]
        for noun, ids, rows in (
            ("artists", names.artists.ids, labels.artists),
            ("genres", names.genres.ids, labels.genres),
        ):
            last = max(ids.values())
            if last >= rows:
                raise ConfigError(
                    f"model.network.priors.{role}.labels.{noun} is {rows}, but the vocabulary has ids up to {last}; "
                    f"set it to {last + 1} or more"
                )


def check_guided_heads(config: JukeboxConfig, parts: Sequence[str], training: TrainingConfig) -> None:
    """Checks that guided attention is given a head that attends to lyrics; ConfigError as `guided_head`."""
    for role in parts:
        if role != CODEC and training.prior(role).guided_attention_weight:
            guided_head(config.priors[level_of(role)])


def check_timing(
    config: JukeboxConfig, parts: Sequence[str], training: TrainingConfig, lengths: Sequence[SongLength]
) -> None:
    """Checks that the songs that priors learn from are within the lengths of their timing embedding.

    Raises:
        ConfigError: a song is too short or too long.
    """
    for role in parts:
        timing = config.priors[level_of(role)].timing if role != CODEC else None
        if timing is None:
            continue
        needed, token = required_length(config, role, training).seconds, config.seconds(level_of(role), 1)
        used = [
            SongLength(each.name, each.seconds // token * token) for each in lengths if each.seconds >= needed
        ]  # whole tokens
        outside = [each for each in used if not timing.min_seconds <= each.seconds < timing.max_seconds]
        if outside:
            named = ", ".join(f"{each.name} ({each.seconds:.1f} s)" for each in outside[:_NAMED])
            more = f" and {len(outside) - _NAMED} more" if len(outside) > _NAMED else ""
            raise ConfigError(
                f"{role}: {named}{more}: {config.name} knows songs from {timing.min_seconds:g} s to below "
                f"{timing.max_seconds:g} s; take them out or cut them, or set model.network.priors.{role}.timing"
            )


def check_labels(config: JukeboxConfig, vocabularies: Mapping[str, Path], songs: Sequence[Song]) -> None:
    """Checks that the vocabularies have the artist and the genre of every song, and the alphabet its characters.

    Lyrics with some unknown characters are logged as a warning: these characters are left out.

    Raises:
        LabelError: a name is not listed, with near misses, or no character is known; the first few songs are named.
    """
    known = load_vocabularies(vocabularies)
    wrong: list[str] = []
    partial: list[str] = []
    lyrics = config.priors[config.top].lyrics
    for song in songs:
        try:
            label_levels(
                known, config, artist=song.artist, genre=song.genre, lyrics=song.lyrics, total_length=1, offset=0
            )
        except LabelError as error:
            wrong.append(f"{song.name}: {error}")
        else:
            if lyrics is not None and len(alphabet(lyrics.characters).clean(song.lyrics)) < len(song.lyrics):
                partial.append(song.name)
    if wrong:
        more = f"\nand {len(wrong) - _NAMED} more songs" if len(wrong) > _NAMED else ""
        raise LabelError("\n".join(wrong[:_NAMED]) + more + _how_to_add(known.values(), songs))
    if partial:
        log.warning(
            "lyrics of %d songs have characters that the model lacks, first %s: left out", len(partial), partial[0]
        )


def _how_to_add(known: Iterable[Vocabulary], songs: Sequence[Song]) -> str:
    """Returns the overrides that add all artists and genres of the songs that a vocabulary lacks; "" without any."""
    tables = tuple(known)
    lacking = {
        "artists": {name for song in songs for table in tables for name in table.unlisted_artists(song.artist)},
        "genres": {name for song in songs for table in tables for name in table.unlisted_genres(song.genre)},
    }
    overrides = [
        f"'+labels.{kind}={{{', '.join(f'{_escaped(name)}: null' for name in sorted(names))}}}'"
        for kind, names in lacking.items()
        if names
    ]
    return f"\nto learn new names, add {' '.join(overrides)}" if overrides else ""


def _escaped(name: str) -> str:
    """Returns a name as a key of a dictionary on the command line, where some characters need a backslash."""
    return "".join(f"\\{each}" if each in "\\()[]{}:=," else each for each in name)
