from __future__ import annotations

import math
from dataclasses import replace

import pytest
import torch

from jukebox_core.families.jukebox.conditioning.labels import SongLabels, window_row
from jukebox_core.families.jukebox.model.prior import Prior
from jukebox_core.families.jukebox.training.guided_attention import guide_loss, guided_head, pace
from jukebox_core.families.jukebox.training.prior import PriorBatch, PriorStep
from tests.helpers.models.tiny_priors import CONFIGS, VQVAE, label_rows, tiny_codes, tiny_prior


def song(characters: int, samples: int) -> SongLabels:
    tokens = tuple(range(1, characters + 1))
    return SongLabels(artist_id=0, genre_ids=(0,), lyric_tokens=tokens, total_length=samples, offset=0)


@pytest.mark.parametrize("characters", [3, 40])
@pytest.mark.parametrize("start", [0, 5, 40])
def test_the_pace_points_at_the_character_whose_time_it_is(characters: int, start: int) -> None:
    config = tiny_prior("one_sequence").config
    assert config.lyrics is not None
    samples, hop = 2400, 16
    labels = song(characters, samples)
    row = window_row(labels, config, sample_length=config.context * hop, start=start)
    found = pace(labels, row.lyric_indices, start=start, hop=hop)
    assert found is not None
    for column, index in enumerate(row.lyric_indices):
        if index < 0:
            continue
        sung_at = index / characters * samples  # in samples from the song's beginning
        token = sung_at / hop - start
        assert math.isclose(found.first + found.step * token, column, abs_tol=1e-6)


def test_a_song_without_words_has_no_pace() -> None:
    assert pace(song(0, 2400), (-1, -1), start=0, hop=16) is None


def looking_at(columns: list[int], lyrics: int = 12) -> torch.Tensor:
    return torch.nn.functional.one_hot(torch.tensor(columns), lyrics).float()[None]


def test_the_guide_costs_nothing_on_the_way_and_more_the_further_away() -> None:
    along = torch.tensor([[2.5, 1.0]])  # amid the third character at first, one more each code
    at = [float(guide_loss(looking_at([3 + away, 4 + away, 5 + away]), along, spread=2.0)) for away in range(5)]
    assert at[0] == pytest.approx(0, abs=1e-6)
    assert at == sorted(at)
    assert at[4] == pytest.approx(16 / (2 * 2.0**2) / math.log(2), rel=1e-5)


def test_the_guide_leaves_songs_without_words_alone() -> None:
    weights = torch.cat([looking_at([3, 4, 5]), looking_at([0, 0, 0])])
    paces = torch.tensor([[2.5, 1.0], [math.nan, math.nan]])
    assert float(guide_loss(weights, paces, spread=1.0)) == pytest.approx(0, abs=1e-6)
    assert float(guide_loss(weights[1:], paces[1:], spread=1.0)) == 0


@pytest.mark.parametrize(("kind", "layer"), [("lyrics", 3), ("one_sequence", 15)])
def test_a_guided_head_learns_to_follow(kind: str, layer: int) -> None:
    told = CONFIGS[kind].lyrics
    assert told is not None
    torch.manual_seed(0)
    prior = Prior(replace(CONFIGS[kind], lyrics=replace(told, alignment_layer=layer, alignment_head=1)), VQVAE)
    assert prior.config.lyrics is not None
    step = PriorStep(prior, lyric_guide=1.0).train()
    words = prior.config.lyrics.tokens
    along = torch.tensor([[0.0, words / prior.config.context]]).expand(2, 2)
    batch = PriorBatch(tiny_codes(prior, 2), label_rows(prior, 2), None, along)
    optimiser = torch.optim.Adam(prior.parameters(), lr=0.01)
    away = []
    for _ in range(60):
        loss, metrics = step(batch)
        loss.backward()
        optimiser.step()
        optimiser.zero_grad()
        away.append(float(metrics["guide_bits"]))
    assert away[-1] < 0.5 * away[0]
    assert "guide_bits" not in step.eval()(batch)[1], "what is measured is how well it predicts, nothing else"


@pytest.mark.parametrize(("kind", "layer"), [("lyrics", 3), ("one_sequence", 15)])
def test_where_no_head_is_named_it_is_one_of_the_last_layer_for_lyrics(kind: str, layer: int) -> None:
    assert guided_head(CONFIGS[kind]) == (layer, 0)


def test_a_prior_that_reads_no_lyrics_learns_as_without_a_guide() -> None:
    prior = tiny_prior("top")
    batch = PriorBatch(tiny_codes(prior, 2), label_rows(prior, 2), None, torch.full((2, 2), torch.nan))
    told, plain = (PriorStep(prior, weight).train()(batch) for weight in (0.1, 0.0))
    assert told == plain
