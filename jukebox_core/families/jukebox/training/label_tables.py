"""New artists and genres for a trained model: further names of existing rows, or new rows of the embedding tables."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

import torch

from jukebox_core.base.atomic import atomic_write
from jukebox_core.base.structuring import build, to_plain
from jukebox_core.errors import ConfigError, LabelError
from jukebox_core.families.jukebox.conditioning.vocabulary import UNKNOWN, Vocabulary, load_vocabularies

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from torch import nn

    from jukebox_core.families.jukebox.config import JukeboxConfig, JukeboxNetwork, LabelConfig, PriorsConfig
    from jukebox_core.families.jukebox.model.prior import Prior
    from jukebox_core.families.jukebox.training.config import NewNames


def add_names(
    config: JukeboxConfig, network: JukeboxNetwork, names: NewNames, vocabularies: Mapping[str, Path], folder: Path
) -> tuple[JukeboxNetwork, Mapping[str, Path]]:
    """Returns the network with rows for `names`, and the vocabularies that list them, by role; written atomically.

    Args:
        config: the model.
        network: its settings.
        names: artists and genres to add to the top prior's vocabulary.
        vocabularies: files by role.
        folder: receives the extended vocabularies.

    Raises:
        ConfigError: the top prior has neither artists nor genres.
        LabelError: as `extended`.
    """
    if names.is_empty:
        return network, {}
    labels = config.priors[config.top].labels
    if labels is None:
        raise ConfigError(f"{config.name} was trained without artists and genres; remove labels.artists and .genres")
    kind = labels.vocabulary
    artists, genres = extended(load_vocabularies(vocabularies)[kind], names)
    written = {}
    for role, ids in ((f"artists_{kind}", artists), (f"genres_{kind}", genres)):
        written[role] = folder / f"{role}.txt"
        with atomic_write(written[role]) as file:
            file.write(as_text(ids).encode())
    rows = (max(artists.values()) + 1, max(genres.values()) + 1)
    return replace(network, priors=widened_priors(network.priors, kind, *rows)), written


def extended(vocabulary: Vocabulary, names: NewNames) -> tuple[dict[str, int], dict[str, int]]:
    """Returns the ids of all artists and of all genres with `names` added; new rows come last.

    Raises:
        LabelError: a name exists already, or the one that it should share a row with does not.
    """
    tables = []
    known: Mapping[str, int]
    for noun, known, added in (
        ("artist", vocabulary.artists.ids, names.artists),
        ("genre", vocabulary.genres.ids, names.genres),
    ):
        ids = dict(known)
        for name, like in added.items():
            plain = vocabulary.normalise(name)
            if plain in ids or plain in ("", UNKNOWN):
                raise LabelError(f"{noun} {name!r} is in the vocabulary already; take it out of labels.{noun}s")
            if like is None:
                ids[plain] = max(ids.values()) + 1
            elif noun == "artist":
                ids[plain] = vocabulary.artist_id(like)
            else:
                [ids[plain]] = vocabulary.genre_ids(like, max_words=1)
        tables.append(ids)
    return tables[0], tables[1]


def as_text(ids: Mapping[str, int]) -> str:
    """Returns the text of a vocabulary file."""
    return "".join(f"{name};{number}\n" for name, number in ids.items())


def widened_priors(priors: PriorsConfig, kind: str, artists: int, genres: int) -> PriorsConfig:
    """Returns the priors with tables of at least so many rows where the vocabulary is of `kind`."""
    plain: dict[str, Any] = to_plain(priors)
    for prior in plain.values():
        if prior is not None and prior["labels"] is not None and prior["labels"]["vocabulary"] == kind:
            prior["labels"] |= {
                "artists": max(artists, prior["labels"]["artists"]),
                "genres": max(genres, prior["labels"]["genres"]),
            }
    return build(type(priors), plain)


@torch.no_grad()
def widen(prior: Prior, labels: LabelConfig) -> None:
    """Extends a prior's label tables to the rows of `labels`, in place; new rows start as the mean of the old ones.

    Raises:
        ConfigError: a table would lose rows, or the prior has none.
    """
    tables, old = prior.labels, prior.config.labels
    if tables is None or old is None:
        raise ConfigError(f"the prior of level {prior.config.level} was trained without artists and genres; add none")
    for name, table, rows in (("artists", tables.artist, labels.artists), ("genres", tables.genre, labels.genres)):
        _widen(name, table, rows)
    prior.config = replace(prior.config, labels=labels)


def _widen(name: str, table: nn.Embedding, rows: int) -> None:
    weight = table.weight
    if rows < len(weight):
        raise ConfigError(
            f"the checkpoint has {len(weight)} {name} but the model's configuration {rows}; "
            "tables can grow, not shrink: set as many or more"
        )
    added = weight[1:].mean(0, keepdim=True).expand(rows - len(weight), -1)  # the first row is the unknown label's
    table.weight = torch.nn.Parameter(torch.cat([weight, added]), requires_grad=weight.requires_grad)
    table.num_embeddings = rows
