from __future__ import annotations

import torch
from tiny_priors import label_rows, tiny_codes, tiny_prior

from jukebox_core.families.jukebox.layout import AttentionType, attention_types
from jukebox_core.families.jukebox.training.head import _scores, find_alignment
from jukebox_core.families.jukebox.training.prior import PriorBatch

PACE = torch.full((1, 2), torch.nan)  # which finding a head does not ask for


def test_a_head_that_moves_through_the_lyrics_scores_one_and_one_that_stays_scores_none() -> None:
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


def test_a_prior_without_lyrics_has_no_such_head() -> None:
    prior = tiny_prior("top")
    assert find_alignment(prior, PriorBatch(tiny_codes(prior), label_rows(prior, 2), None, PACE)) is None


def test_songs_without_words_tell_of_no_head() -> None:
    prior = tiny_prior("lyrics")
    assert prior.config.lyrics is not None
    rows = label_rows(prior, 2)
    rows[:, -prior.config.lyrics.tokens :] = 0
    assert find_alignment(prior, PriorBatch(tiny_codes(prior), rows, None, PACE)) is None
