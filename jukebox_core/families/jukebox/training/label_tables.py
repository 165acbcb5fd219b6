"""New artists and genres for a model that is trained on: further names of rows that it has, or rows of their own."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

import torch

from jukebox_core.base.structuring import build, to_plain
from jukebox_core.errors import ConfigError, LabelError
from jukebox_core.families.jukebox.conditioning.vocabulary import UNKNOWN, Vocabulary

if TYPE_CHECKING:
    from collections.abc import Mapping

    from torch import nn

    from jukebox_core.families.jukebox.config import LabelConfig, PriorsConfig
    from jukebox_core.families.jukebox.model.prior import Prior
    from jukebox_core.families.jukebox.training.config import NewNames


def extended(vocabulary: Vocabulary, names: NewNames) -> tuple[dict[str, int], dict[str, int]]:
    """Returns the ids of all artists and of all genres once `names` are added; rows of their own come last.

    Raises:
        LabelError: a name is there already, or the one it shall share a row with is not.
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
    """Returns a table as a vocabulary file holds it."""
    return "".join(f"{name};{number}\n" for name, number in ids.items())


def widened_priors(priors: PriorsConfig, kind: str, artists: int, genres: int) -> PriorsConfig:
    """Returns the priors with tables of so many rows, those whose vocabulary is of `kind`."""
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
    """Gives a prior's tables as many rows as `labels` says; each new one begins as the mean of those that are there.

    Raises:
        ConfigError: a table would lose rows, or there is none.
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
    fresh = weight[1:].mean(0, keepdim=True).expand(rows - len(weight), -1)  # the first row is the unknown's
    table.weight = torch.nn.Parameter(torch.cat([weight, fresh]), requires_grad=weight.requires_grad)
    table.num_embeddings = rows
