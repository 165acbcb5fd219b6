"""Lyric positions that windows share are computed once, and everything else is as without that."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pytest
import torch

from jukebox_core.families.jukebox.alignment.heads import Head
from jukebox_core.families.jukebox.alignment.matrix import align_codes
from jukebox_core.families.jukebox.conditioning.labels import SongLabels
from jukebox_core.families.jukebox.features import lyric_prefix
from jukebox_core.families.jukebox.features.activations import layer_outputs, lyric_attention
from jukebox_core.families.jukebox.features.extractor import PriorExtractor
from jukebox_core.families.jukebox.features.lyric_prefix import LyricPrefixes
from jukebox_core.protocols import WindowConditioning
from tests.helpers.models.tiny_priors import tiny_prior

if TYPE_CHECKING:
    from jukebox_core.families.jukebox.model.prior import Prior

LAYER = 15  # the first of the order that attends to lyrics alone
SHORT = (3, 1, 4, 1, 5)  # all of them are in every window
LONG = tuple(at % 10 + 1 for at in range(40))


@pytest.fixture(scope="module")
def prior() -> Prior:
    return tiny_prior("one_sequence")


def rows(*lyrics: tuple[int, ...], artist: int = 2) -> list[list[int]]:
    """Label rows of windows one after the other."""
    return [[16_000, 100 * at, 128, artist, 1, -1, *each] for at, each in enumerate(lyrics)]


WORDS, OTHER = (0, 0, 0, *SHORT), (7, 0, 0, *SHORT)


def computed(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Collects the number of layers of each prefix that is computed."""
    made, whole = list[int](), lyric_prefix.lyric_prefix
    monkeypatch.setattr(lyric_prefix, "lyric_prefix", lambda *given: made.append(given[2]) or whole(*given))
    return made


@torch.inference_mode()
def test_activations_and_attention_are_those_of_whole_sequences(prior: Prior) -> None:
    labels, depth = rows(WORDS, WORDS), prior.config.transformer.depth
    codes = torch.randint(23, (2, 32), generator=torch.Generator().manual_seed(1))
    condition = prior.condition(torch.tensor(labels))
    prefix = LyricPrefixes(prior, depth).of(labels, condition)
    assert prefix is not None
    for length in (32, 13):
        whole, after = (
            list(layer_outputs(prior, codes[:, :length], condition, range(1, depth + 1), final=True, prefix=each))
            for each in (None, prefix)
        )
        assert [(each.layer, each.is_final) for each in whole] == [(each.layer, each.is_final) for each in after]
        for one, other in zip(whole, after, strict=True):
            torch.testing.assert_close(other.x_BTW, one.x_BTW, rtol=1e-4, atol=2e-5)
    for head in (0, 1):
        one, other = (lyric_attention(prior, codes, condition, LAYER, head, each) for each in (None, prefix))
        torch.testing.assert_close(other, one, rtol=1e-4, atol=2e-5)


def test_it_is_computed_once_while_labels_and_lyrics_stay(prior: Prior, monkeypatch: pytest.MonkeyPatch) -> None:
    made, prefixes = computed(monkeypatch), LyricPrefixes(prior, 3)

    def of(labels: list[list[int]]) -> object:
        return prefixes.of(labels, prior.condition(torch.tensor(labels)))

    assert of(rows(WORDS, WORDS)) is of(rows(WORDS))
    assert made == [3]
    assert of(rows(WORDS, OTHER)) is None  # they share none
    assert len(made) == 1
    assert of(rows(OTHER)) is not None
    assert of(rows(OTHER, artist=3)) is not None
    assert len(made) == 3


@pytest.mark.parametrize("kind", ["lyrics", "top", "unlabelled"])
def test_models_without_lyrics_in_their_sequence_have_none(kind: str) -> None:
    prior = tiny_prior(kind)
    assert LyricPrefixes(prior, 2).of([[0]], None) is None  # type: ignore[arg-type]


@torch.inference_mode()
@pytest.mark.parametrize(("lyrics", "times"), [(SHORT, 1), (LONG, 0)])
def test_a_song_with_short_lyrics_has_one(
    prior: Prior, monkeypatch: pytest.MonkeyPatch, lyrics: tuple[int, ...], times: int
) -> None:
    labels = SongLabels(artist_id=1, genre_ids=(2,), lyric_tokens=lyrics, total_length=6000, offset=0)
    codes = np.random.default_rng(0).integers(0, 23, 200)

    def matrix() -> np.ndarray[tuple[int, ...], np.dtype[np.float32]]:
        return align_codes(prior, codes, labels, Head(LAYER, 1), hop=16, code_samples=16, batch=12)

    made = computed(monkeypatch)
    found = matrix()
    assert len(made) == times
    monkeypatch.setattr(LyricPrefixes, "of", lambda *_: None)
    np.testing.assert_allclose(found, matrix(), rtol=1e-4, atol=2e-5)


def test_features_of_many_windows_have_one(prior: Prior, monkeypatch: pytest.MonkeyPatch) -> None:
    made, extractor = computed(monkeypatch), PriorExtractor(prior)
    codes = np.random.default_rng(0).integers(0, 23, (2, 32))
    for _ in range(3):
        found = dict(extractor.activations(codes, WindowConditioning(rows(WORDS, WORDS)), [2, 4], final=False))
        assert found["layer4"].shape == (2, 32, 16)
    assert len(made) == 1
