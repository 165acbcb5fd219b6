from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
import torch

from jukebox_core.errors import ConfigError, LabelError
from jukebox_core.families.jukebox.conditioning.vocabulary import NameTable, Vocabulary, load_vocabularies
from jukebox_core.families.jukebox.training.config import NewNames
from jukebox_core.families.jukebox.training.label_tables import add_names, as_text, extended, widen, widened_priors
from jukebox_core.models.config import WeightsConfig
from jukebox_core.models.presets import load_preset
from jukebox_core.models.resolve import obtain_vocabularies
from tests.helpers.models.tiny_priors import LABELS, label_rows, tiny_codes, tiny_prior

if TYPE_CHECKING:
    from pathlib import Path

    from jukebox_core.families.jukebox.config import PriorsConfig

KNOWN = Vocabulary(
    "v3",
    NameTable.from_pairs([("unknown", 0), ("organ", 1), ("choir", 2)]),
    NameTable.from_pairs([("unknown", 0), ("folk", 1)]),
)


def test_a_new_name_shares_a_row_or_has_its_own() -> None:
    artists, genres = extended(KNOWN, NewNames(artists={"My Band": "organ", "Her Band": None}, genres={"Polka": None}))
    assert artists == {"unknown": 0, "organ": 1, "choir": 2, "my band": 1, "her band": 3}
    assert genres == {"unknown": 0, "folk": 1, "polka": 2}
    assert as_text(genres) == "unknown;0\nfolk;1\npolka;2\n"


@pytest.mark.parametrize(
    ("names", "message"),
    [
        (NewNames(artists={"Organ": None}), "artist 'Organ' is in the vocabulary already"),
        (NewNames(artists={"mine": "orgn"}), "closest: 'organ'"),
        (NewNames(genres={"mine": "rock"}), "genre 'rock' is not among"),
    ],
)
def test_names_that_do_not_fit_are_refused(names: NewNames, message: str) -> None:
    with pytest.raises(LabelError, match=message):
        extended(KNOWN, names)


def test_a_widened_prior_is_unchanged_for_known_names() -> None:
    old, new = tiny_prior("one_sequence"), tiny_prior("one_sequence")
    widen(new, type(LABELS)(vocabulary="v2", artists=9, genres=6, max_genre_words=2))
    assert new.labels is not None
    assert [len(table.weight) for table in (new.labels.artist, new.labels.genre)] == [9, 6]
    rows, codes = label_rows(old, 2), tiny_codes(old, 2)
    assert new(codes, new.condition(rows)).equal(old(codes, old.condition(rows)))
    rows[:, 3] = 8
    assert torch.isfinite(new.losses(codes, new.condition(rows)).total)


def test_a_table_cannot_shrink() -> None:
    with pytest.raises(ConfigError, match="the checkpoint has 7 artists but the model's configuration 3"):
        widen(tiny_prior("top"), type(LABELS)(vocabulary="v2", artists=3, genres=5, max_genre_words=2))


def test_only_priors_of_the_vocabulary_grow() -> None:
    priors = load_preset("1b_lyrics").config.priors
    wider: PriorsConfig = widened_priors(priors, "v3", 8000, 700)
    assert wider.level_2.labels is not None
    assert (wider.level_2.labels.artists, wider.level_2.labels.genres) == (8000, 700)
    assert (wider.level_0, wider.level_1) == (priors.level_0, priors.level_1)


def test_vocabularies_with_new_names_are_written_beside_the_model(tmp_path: Path) -> None:
    model = load_preset("mini")
    files = {
        role: file.path for role, file in obtain_vocabularies(model.files, WeightsConfig(folder=str(tmp_path))).items()
    }
    same = add_names(model.config, model.network, NewNames(), files, tmp_path)
    assert same == (model.network, {})
    names = NewNames(artists={"my band": None})
    network, written = add_names(model.config, model.network, names, files, tmp_path)
    assert set(written) == {"artists_v3", "genres_v3"}
    known = load_vocabularies(written)["v3"].artists.ids
    assert known["my band"] == max(known.values()) == network.priors[2].labels.artists - 1
    assert network.vqvae == model.network.vqvae


def test_a_model_without_labels_learns_no_names(tmp_path: Path) -> None:
    model = load_preset("small_prior")
    with pytest.raises(ConfigError, match="small_prior was trained without artists and genres"):
        add_names(model.config, model.network, NewNames(genres={"polka": None}), {}, tmp_path)
