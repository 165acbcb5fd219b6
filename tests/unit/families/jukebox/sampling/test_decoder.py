"""Decoding one window with small priors."""

from __future__ import annotations

from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import torch

from jukebox_core.errors import ConfigError, NumericsError
from jukebox_core.families.jukebox.engines.engines import prepare, quantise_projections
from jukebox_core.families.jukebox.engines.static_steps import StaticTransformer
from jukebox_core.families.jukebox.sampling.config import LevelSampling
from jukebox_core.families.jukebox.sampling.decoder import clamp_codes, decode_window
from jukebox_core.families.jukebox.sampling.prior_model import PriorModel, PriorWindow
from jukebox_core.families.jukebox.sampling.sampler import WindowInputs
from jukebox_core.sampling.draw import draw_tokens
from jukebox_core.sampling.noise import CounterNoise
from jukebox_core.tokens.plan import Window
from tests.helpers.models.tiny_priors import CONFIGS, VQVAE, label_rows, tiny_codes, tiny_condition, tiny_prior

if TYPE_CHECKING:
    from torch import Tensor

    from jukebox_core.families.jukebox.model.prior import Prior

KINDS = pytest.mark.parametrize("kind", CONFIGS)
SAMPLING = LevelSampling()
SONGS = (0, 1)


class Recorder(CounterNoise):
    """Noise that records its requests."""

    def __init__(self) -> None:
        super().__init__(5, 2, SONGS)
        self.asked: list[tuple[int, int]] = []

    def draw(self, position: int, count: int) -> Tensor:
        self.asked.append((position, count))
        return super().draw(position, count)


def blocks(prior: Prior, known: int, new: int, *, forced: Tensor | None = None, flush: int = 64) -> list[Tensor]:
    return [
        *decode_window(
            prior,
            tiny_condition(prior),
            tiny_codes(prior)[:, :known],
            new,
            SAMPLING,
            CounterNoise(5, prior.config.level, SONGS),
            start=100,
            forced_BF=forced,
            flush=flush,
        )
    ]


@KINDS
@pytest.mark.parametrize("known", [0, 9])
def test_steps_draw_from_the_logits_of_the_whole(kind: str, known: int) -> None:
    """The oracle: each code again, from a forward pass over the whole window."""
    prior = tiny_prior(kind)
    codes = torch.cat([tiny_codes(prior)[:, :known], *blocks(prior, known, 32 - known)], dim=1)
    condition, noise = tiny_condition(prior), CounterNoise(5, prior.config.level, SONGS)
    logits = prior(codes, condition)[:, prior.config.lyric_positions :]
    for place in range(known, 32):
        drawn = draw_tokens(logits[:, place], noise.draw(100 + place, prior.vocabulary), SAMPLING)
        assert (drawn - prior.shift).equal(codes[:, place])


@pytest.mark.parametrize("flush", [1, 5, 8, 64])
def test_blocks_are_as_long_as_asked(flush: int) -> None:
    prior = tiny_prior("top")
    found = blocks(prior, 4, 16, flush=flush)
    assert [block.shape[1] for block in found] == [flush] * (16 // flush) + [16 % flush] * (16 % flush > 0)
    assert torch.cat(found, dim=1).equal(blocks(prior, 4, 16)[0])


def test_noise_is_asked_by_absolute_position_and_not_for_forced_codes() -> None:
    prior, noise = tiny_prior("top"), Recorder()
    known, forced = tiny_codes(prior)[:, :4], tiny_codes(prior)[:, 4:7]
    found = decode_window(prior, tiny_condition(prior), known, 5, SAMPLING, noise, start=100, forced_BF=forced)
    assert torch.cat([*found], dim=1).shape == (2, 2)
    assert noise.asked == [(107, VQVAE.bins), (108, VQVAE.bins)]


def test_a_drawn_lyric_character_is_a_negative_code_until_it_is_clamped() -> None:
    codes = torch.cat(blocks(tiny_prior("one_sequence"), 0, 32), dim=1)
    assert codes.min() < 0  # a third of the vocabulary are characters
    assert codes.min() >= -tiny_prior("one_sequence").shift
    assert clamp_codes(codes).equal(torch.where(codes < 0, 0, codes))


def test_a_window_that_is_full_or_forced_whole_gives_nothing() -> None:
    prior = tiny_prior("top")
    assert blocks(prior, 32, 0) == []
    assert blocks(prior, 30, 2, forced=tiny_codes(prior)[:, 30:]) == []


def test_what_does_not_fit_is_refused() -> None:
    prior = tiny_prior("top")
    with pytest.raises(ConfigError, match="20 known and 13 new codes exceed the context, 32"):
        blocks(prior, 20, 13)
    with pytest.raises(ConfigError, match="5 forced codes are more than the 4"):
        blocks(prior, 20, 4, forced=tiny_codes(prior)[:, :5])


def test_the_callers_grad_mode_is_left_alone() -> None:
    prior = tiny_prior("top")
    noise = CounterNoise(5, 2, SONGS)
    for _ in decode_window(
        prior, tiny_condition(prior), tiny_codes(prior)[:, :4], 4, SAMPLING, noise, start=0, flush=1
    ):
        assert torch.is_grad_enabled()
        assert not torch.is_inference_mode_enabled()


def spoilt(engine: str, dtype: str, place: int, value: float) -> Prior:
    """A prior whose features are not finite from position `place` of a window on."""
    prior = tiny_prior("top")
    if dtype == "int8":
        quantise_projections(prior.body.transformer)
    prior.set_compute_dtype(torch.bfloat16 if dtype == "int8" else getattr(torch, dtype))
    if engine == "static":  # the steps of `compiled` and `graph`
        prior.body.transformer = StaticTransformer(prior.body.transformer)
    prior.body.position_PW[place:, 3] = value
    return prepare(prior, "eager" if engine == "static" else engine)


@pytest.mark.parametrize("engine", ["eager", "native", "static"])
@pytest.mark.parametrize("dtype", ["float32", "bfloat16", "int8"])
@pytest.mark.parametrize("value", [torch.nan, torch.inf])
def test_no_code_is_drawn_from_logits_that_are_not_finite(engine: str, dtype: str, value: float) -> None:
    prior = spoilt(engine, dtype, 14, value)
    noise, made = CounterNoise(5, 2, SONGS), []
    found = decode_window(
        prior, tiny_condition(prior), tiny_codes(prior)[:, :4], 28, SAMPLING, noise, start=100, flush=5
    )
    with pytest.raises(
        NumericsError, match=r"the logits of level 2 are not finite .* from token 14 of a window on, in songs 0, 1 of"
    ):
        made.extend(found)
    assert sum(block.shape[1] for block in made) < 28  # the last block never comes


@pytest.mark.parametrize("filters", [{}, {"top_k": 3}, {"top_p": 0.9}])
def test_infinite_logits_are_found_where_filters_would_hide_them(filters: dict[str, Any]) -> None:
    prior = tiny_prior("top")
    prior.output.weight[0] = -torch.inf  # one token of the vocabulary, whose probability would be 0 or not a number
    noise = CounterNoise(5, 2, SONGS)
    found = decode_window(
        prior, tiny_condition(prior), tiny_codes(prior)[:, :4], 8, LevelSampling(**filters), noise, start=100
    )
    with pytest.raises(NumericsError, match="the logits of level 2 are not finite"):
        next(found)


def test_only_tokens_of_finite_logits_are_kept() -> None:
    """Of a window that fails, `save` returns what was saved before, and raises the error once."""
    prior = spoilt("eager", "float32", 14, torch.nan)
    take = WindowInputs(
        window=Window(0, 4, 32),
        known_BT=tiny_codes(prior)[:, :4],
        above_BT=None,
        labels_BN=label_rows(prior, 2),
    )
    nodes: Any = [SimpleNamespace(level=2, sample=sample) for sample in SONGS]
    sampling: Any = SimpleNamespace(seed=5, level=lambda _: SAMPLING)
    state = PriorWindow(PriorModel(prior, None), nodes, take, np.empty((2, 0), np.int32), sampling)
    assert state.step() == 8
    kept = [progress.tokens for progress in state.save()]
    assert [len(tokens) for tokens in kept] == [8, 8]
    assert state.step() == 8  # of these, token 14 of the window and those after it are drawn from NaN
    with pytest.raises(NumericsError, match="the logits of level 2"):
        state.save()
    assert np.array_equal([progress.tokens for progress in state.save()], kept)
