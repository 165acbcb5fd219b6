from __future__ import annotations

import math
from dataclasses import replace

import pytest
import torch

from jukebox_core.families.jukebox.conditioning.labels import SongLabels, window_row
from jukebox_core.families.jukebox.model.prior import Prior
from jukebox_core.families.jukebox.training.batch import PriorBatch
from jukebox_core.families.jukebox.training.guided_attention import guided_attention_loss, guided_head, pace
from jukebox_core.families.jukebox.training.prior import PriorStep
from tests.helpers.models.tiny_priors import CONFIGS, VQVAE, label_rows, tiny_codes, tiny_prior


def song(characters: int, samples: int) -> SongLabels:
    tokens = tuple(range(1, characters + 1))
    return SongLabels(artist_id=0, genre_ids=(0,), lyric_tokens=tokens, total_length=samples, offset=0)


@pytest.mark.parametrize("characters", [3, 40])
@pytest.mark.parametrize("start", [0, 5, 40])
def test_the_pace_gives_the_column_of_the_character_that_is_sung(characters: int, start: int) -> None:
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


def test_a_song_without_lyrics_has_no_pace() -> None:
    assert pace(song(0, 2400), (-1, -1), start=0, hop=16) is None


def attending_to(columns: list[int], lyrics: int = 12) -> torch.Tensor:
    return torch.nn.functional.one_hot(torch.tensor(columns), lyrics).float()[None]


def test_the_loss_is_zero_at_the_pace_and_grows_with_the_distance() -> None:
    along = torch.tensor([[2.5, 1.0]])  # in the middle of the third character at first, one more each token
    columns = [[3 + away, 4 + away, 5 + away] for away in range(5)]
    at = [float(guided_attention_loss(attending_to(each), along, sigma=2.0)) for each in columns]
    assert at[0] == pytest.approx(0, abs=1e-6)
    assert at == sorted(at)
    assert at[4] == pytest.approx(16 / (2 * 2.0**2) / math.log(2), rel=1e-5)


def test_the_loss_ignores_songs_without_lyrics() -> None:
    weights = torch.cat([attending_to([3, 4, 5]), attending_to([0, 0, 0])])
    paces = torch.tensor([[2.5, 1.0], [math.nan, math.nan]])
    assert float(guided_attention_loss(weights, paces, sigma=1.0)) == pytest.approx(0, abs=1e-6)
    assert float(guided_attention_loss(weights[1:], paces[1:], sigma=1.0)) == 0


@pytest.mark.parametrize(("kind", "layer"), [("lyrics", 3), ("one_sequence", 15)])
def test_a_guided_head_learns_to_follow(kind: str, layer: int) -> None:
    lyrics = CONFIGS[kind].lyrics
    assert lyrics is not None
    torch.manual_seed(0)
    prior = Prior(replace(CONFIGS[kind], lyrics=replace(lyrics, alignment_layer=layer, alignment_head=1)), VQVAE)
    assert prior.config.lyrics is not None
    step = PriorStep(prior, guided_attention_weight=1.0).train()
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
    assert "guide_bits" not in step.eval()(batch)[1], "evaluations measure the prediction alone"


@pytest.mark.parametrize(("kind", "layer"), [("lyrics", 3), ("one_sequence", 15)])
def test_the_default_guided_head_is_the_first_of_the_last_layer_on_lyrics(kind: str, layer: int) -> None:
    assert guided_head(CONFIGS[kind]) == (layer, 0)


def test_guided_attention_has_no_effect_on_a_prior_without_lyrics() -> None:
    prior = tiny_prior("top")
    batch = PriorBatch(tiny_codes(prior, 2), label_rows(prior, 2), None, torch.full((2, 2), torch.nan))
    guided, plain = (PriorStep(prior, weight).train()(batch) for weight in (0.1, 0.0))
    assert guided == plain
