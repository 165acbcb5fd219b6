"""Samples with the same conditioning and prefix share its computation, and equal samples computed alone."""

from __future__ import annotations

from functools import cache
from typing import TYPE_CHECKING

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from jukebox_core.families.jukebox.sampling.config import LevelSampling
from jukebox_core.families.jukebox.sampling.sampler import WindowInputs, open_window, sample_window
from jukebox_core.sampling.noise import CounterNoise
from jukebox_core.tokens.plan import Window
from tests.helpers.engines import prepared
from tests.helpers.models.tiny_priors import CONFIGS, codes_above, label_rows, tiny_codes, tiny_prior

if TYPE_CHECKING:
    from torch import Tensor

    from jukebox_core.families.jukebox.model.prior import Prior

SONGS, NEW = 3, 4
quickly = settings(max_examples=30, derandomize=True)  # see test_decode_property


@cache
def prior_of(kind: str) -> Prior:
    return prepared(tiny_prior(kind))


def window(prior: Prior, known: int, same: int) -> WindowInputs:
    """A window of samples with the same conditioning, whose first `same` known codes are equal."""
    codes_BT = tiny_codes(prior, SONGS)[:, :known].clone()
    codes_BT[:, :same] = codes_BT[:1, :same]
    above_BU = codes_above(prior, 1)
    return WindowInputs(
        window=Window(0, known, known + NEW),
        known_BT=codes_BT,
        above_BT=None if above_BU is None else above_BU.repeat(SONGS, 1),
        labels_BN=label_rows(prior, 1).repeat(SONGS, 1),
    )


def some(inputs: WindowInputs, songs: slice) -> WindowInputs:
    above_BU = inputs.above_BT
    return WindowInputs(
        window=inputs.window,
        known_BT=inputs.known_BT[songs],
        above_BT=None if above_BU is None else above_BU[songs],
        labels_BN=inputs.labels_BN[songs],
    )


def sampled(prior: Prior, inputs: WindowInputs, songs: range, chunk: int | None) -> Tensor:
    noise = CounterNoise(7, prior.config.level, [*songs])
    decoder = open_window(prior, inputs)
    return torch.cat([*sample_window(decoder, inputs, LevelSampling(), noise, prefill_chunk=chunk)], dim=1)


@quickly
@given(data=st.data(), kind=st.sampled_from(sorted(CONFIGS)), chunk=st.sampled_from([None, 1, 5]))
def test_a_song_is_the_same_beside_others_that_begin_as_it_does(data: st.DataObject, kind: str, chunk: int) -> None:
    prior = prior_of(kind)
    known = data.draw(st.integers(0, prior.config.context - NEW), label="known")
    inputs = window(prior, known, data.draw(st.integers(0, known), label="same"))
    together = sampled(prior, inputs, range(SONGS), chunk)
    for song in range(SONGS):
        alone = sampled(prior, some(inputs, slice(song, song + 1)), range(song, song + 1), chunk)
        assert together[song : song + 1].equal(alone)


@pytest.mark.parametrize("kind", CONFIGS)
@pytest.mark.parametrize(("known", "same"), [(20, 20), (20, 7), (5, 0)])
def test_a_shared_prefix_is_read_once(kind: str, known: int, same: int, monkeypatch: pytest.MonkeyPatch) -> None:
    prior = prior_of(kind)
    inputs, read, conditioned = window(prior, known, same), [], []
    extend, condition = prior.extend, prior.condition
    monkeypatch.setattr(prior, "extend", lambda state, tokens: read.append(tokens.shape) or extend(state, tokens))
    monkeypatch.setattr(
        prior, "condition", lambda labels, *above: conditioned.append(len(labels)) or condition(labels, *above)
    )
    sampled(prior, inputs, range(SONGS), None)
    shared = prior.config.lyric_positions + same
    assert conditioned == [1]
    assert read == [(songs, count) for songs, count in ((1, shared), (SONGS, known - same)) if count]


def test_samples_with_different_conditioning_share_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    prior = prior_of("top")
    inputs, read = window(prior, 20, 20), []
    inputs.labels_BN[1, 3] += 1  # another artist
    extend = prior.extend
    monkeypatch.setattr(prior, "extend", lambda state, tokens: read.append(tokens.shape) or extend(state, tokens))
    assert not inputs.same_conditioning
    sampled(prior, inputs, range(SONGS), None)
    assert read == [(SONGS, 20)]
