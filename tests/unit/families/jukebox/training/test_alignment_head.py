from __future__ import annotations

import math
from dataclasses import replace

import pytest
import torch

from jukebox_core.families.jukebox.model.attention_patterns import AttentionType, attention_types
from jukebox_core.families.jukebox.model.prior import Prior
from jukebox_core.families.jukebox.training.alignment_head import LEAST_SCORE, _scores, find_alignment
from jukebox_core.families.jukebox.training.batch import PriorBatch
from tests.helpers.models.tiny_priors import CONFIGS, VQVAE, label_rows, tiny_codes, tiny_prior, transformer

PACE = torch.full((1, 2), torch.nan)  # which finding a head does not ask for


def test_a_head_that_moves_through_the_lyrics_scores_one_and_a_constant_one_zero() -> None:
    moving = torch.eye(8)
    staying = torch.zeros(8, 8)
    staying[:, 3] = 1
    backwards = moving.flip(1)
    weights_BHTN = torch.stack([moving, staying, backwards])[None]
    scores = _scores(weights_BHTN, torch.ones(1, 8))[0]
    torch.testing.assert_close(scores, torch.tensor([1.0, 0.0, -1.0]))


def test_the_head_that_is_found_is_one_that_attends_to_lyrics() -> None:
    for kind in ("lyrics", "one_sequence"):
        prior = tiny_prior(kind)
        head = find_alignment(prior, PriorBatch(tiny_codes(prior, 3), label_rows(prior, 3), None, PACE))
        assert head is not None
        types = attention_types(prior.config.transformer.attention_order, prior.config.transformer.depth)
        assert types[head.layer] in (AttentionType.PRIME, AttentionType.CROSS)
        assert 0 <= head.head < prior.config.transformer.heads
        assert head.score < LEAST_SCORE  # nothing was learnt


@pytest.mark.parametrize(
    ("kind", "depth", "order", "layer"),
    [("lyrics", 8, 6, 3), ("lyrics", 8, 6, 7), ("one_sequence", 33, 12, 15), ("one_sequence", 33, 12, 31)],
)
@pytest.mark.parametrize("head", [0, 1])
def test_a_head_that_was_planted_is_found(kind: str, depth: int, order: int, layer: int, head: int) -> None:
    config = replace(CONFIGS[kind], transformer=transformer(depth=depth, attention_order=order))
    prior = Prior(config, VQVAE).eval().requires_grad_(requires_grad=False)
    plant(prior, layer, head)
    found = find_alignment(prior, PriorBatch(tiny_codes(prior, 3), label_rows(prior, 3), None, PACE))
    assert found is not None
    assert (found.layer, found.head) == (layer, head)
    assert found.score > LEAST_SCORE


def plant(prior: Prior, layer: int, head: int) -> None:
    """Makes one head follow the lyrics: keys and queries of the same time have the same angle, 0 to half a turn.

    The residual stream holds nothing else, so that all other heads attend uniformly.
    """
    config = prior.config
    assert config.lyrics is not None
    for parameter in prior.parameters():
        parameter.zero_()
    lyrics, music = directions(config.lyrics.tokens), directions(config.context)
    positions, encoder = prior.body.position_PW, prior.lyric_encoder
    if encoder is None:
        positions[:, :4] = torch.cat([lyrics, music])
    else:
        positions[:, :4] = music
        encoder.body.position_PW[:, :4] = lyrics
        encoder.project.weight[:4, :4] = torch.eye(4)
        encoder.norm.weight.fill_(1)
    block = prior.body.transformer.typed_blocks[layer]
    block.norm_attention.weight.fill_(1)
    width = block.attention.project_out.weight.shape[0] // block.attention.heads
    queries = slice(head * width, head * width + 2)
    block.attention.project_in.weight[:2, queries] = 3 * torch.eye(2)
    if encoder is None:
        keys = slice((config.transformer.heads + head) * width, (config.transformer.heads + head) * width + 2)
        block.attention.project_in.weight[:2, keys] = 3 * torch.eye(2)
    else:
        block.attention.project_encoder.weight[:2, queries] = 3 * torch.eye(2)


def directions(count: int) -> torch.Tensor:
    angles = torch.arange(count) / count * math.pi
    along = torch.stack([angles.cos(), angles.sin()], dim=1)
    return torch.cat([along, -along], dim=1)  # of mean 0 and one length, so that a norm changes nothing


def test_a_prior_without_lyrics_has_no_such_head() -> None:
    prior = tiny_prior("top")
    assert find_alignment(prior, PriorBatch(tiny_codes(prior), label_rows(prior, 2), None, PACE)) is None


def test_songs_without_lyrics_find_no_head() -> None:
    prior = tiny_prior("lyrics")
    assert prior.config.lyrics is not None
    rows = label_rows(prior, 2)
    rows[:, -prior.config.lyrics.tokens :] = 0
    assert find_alignment(prior, PriorBatch(tiny_codes(prior), rows, None, PACE)) is None
