"""However a window is cut into prefill chunks, steps and attempts, it gives the same tokens."""

from __future__ import annotations

from functools import cache
from typing import TYPE_CHECKING

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from jukebox_core.families.jukebox.sampling.config import LevelSampling
from jukebox_core.families.jukebox.sampling.decoder import WindowDecoder, decode_window
from jukebox_core.sampling.noise import CounterNoise
from tests.helpers.engines import prepared
from tests.helpers.models.tiny_priors import CONFIGS, tiny_codes, tiny_condition, tiny_prior

if TYPE_CHECKING:
    from torch import Tensor

    from jukebox_core.families.jukebox.model.prior import Prior

CONTEXT = 32
KINDS = st.sampled_from(sorted(CONFIGS))
SONGS = (0, 3)
# The same examples in every run: logits that agree to 1e-6 draw different tokens once in a million draws.
quickly = settings(max_examples=25, derandomize=True)


@cache
def prior_of(kind: str) -> Prior:
    return prepared(tiny_prior(kind))


def run(prior: Prior, known: int, chunk: int | None, forced: Tensor | None = None) -> tuple[Tensor, Tensor]:
    """The codes of a window after the known ones, and the logits from which they were drawn."""
    seen = []

    def logits(features: Tensor) -> Tensor:
        seen.append(prior.output(features))
        return seen[-1]

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(prior, "logits", logits)
        noise = CounterNoise(7, prior.config.level, SONGS)
        blocks = decode_window(
            prior,
            tiny_condition(prior),
            tiny_codes(prior)[:, :known],
            CONTEXT - known,
            LevelSampling(top_k=9),
            noise,
            start=64,
            forced_BF=forced,
            prefill_chunk=chunk,
        )
        return torch.cat([*blocks], dim=1), torch.stack(seen, dim=1)


@quickly
@given(kind=KINDS, known=st.integers(0, CONTEXT - 1), chunk=st.integers(1, CONTEXT))
def test_chunk_size_changes_no_token(kind: str, known: int, chunk: int) -> None:
    prior = prior_of(kind)
    codes, logits = run(prior, known, None)
    again, again_logits = run(prior, known, chunk)
    torch.testing.assert_close(again_logits, logits, atol=1e-4, rtol=1e-4)
    assert again.equal(codes)


@quickly
@given(kind=KINDS, cuts=st.lists(st.integers(1, 9), min_size=CONTEXT, max_size=CONTEXT))
def test_any_cut_into_chunks_and_steps_is_the_whole(kind: str, cuts: list[int]) -> None:
    prior = prior_of(kind)
    condition, codes = tiny_condition(prior), tiny_codes(prior)
    tokens, model, features, at = prior.sequence(codes, condition), WindowDecoder(prior, condition), [], 0
    for size in cuts:
        piece = tokens[:, at : at + size]
        if size == 1:  # a decode step
            features.append(model.predict())
            model.feed(tokens[:, at])
        else:
            features.append(model.read(piece))
        at += piece.shape[1]
        if at == tokens.shape[1]:
            break
    whole = prior(codes, condition)[:, :at]
    torch.testing.assert_close(model.logits(torch.cat(features, dim=1)), whole, atol=1e-4, rtol=1e-4)


@quickly
@given(kind=KINDS, known=st.integers(0, CONTEXT - 1), data=st.data())
def test_a_continued_window_is_bit_for_bit_the_uninterrupted_one(kind: str, known: int, data: st.DataObject) -> None:
    prior = prior_of(kind)
    chunk = data.draw(st.none() | st.integers(1, CONTEXT))
    codes, logits = run(prior, known, chunk)
    forced = data.draw(st.integers(0, CONTEXT - known - 1))
    rest, rest_logits = run(prior, known, chunk, forced=codes[:, :forced])
    assert rest.equal(codes[:, forced:])
    assert rest_logits.equal(logits[:, forced:])
