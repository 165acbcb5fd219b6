"""Clips and windows of a recording, and the timing that the network is conditioned on."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from jukebox_core.errors import AudioError, ConfigError
from jukebox_core.features.clips import cut_clips, encoded_part, plan_windows, song_timing
from jukebox_core.features.config import FeatureConfig, FeatureSizes
from jukebox_core.features.plan import fixed_total
from jukebox_core.features.presets import load_recipe

SIZES = FeatureSizes(level=2, depth=6, width=4, context=32, hop=128, rate=44100, shortest=44100, longest=441000.0)
WINDOW = SIZES.context * SIZES.hop


@given(
    codes=st.integers(1, 300),
    hop=st.floats(0.01, 1),
    encode=st.sampled_from(["clip", "window"]),
    align=st.sampled_from([1, 4]),
)
def test_windows_cover_every_code_once(codes: int, hop: float, encode: str, align: int) -> None:
    recipe = FeatureConfig(encode=encode, hop=1.0 if encode == "window" else hop)  # type: ignore[arg-type]
    windows = plan_windows(codes, codes, recipe, SIZES, align=align)
    assert [code for each in windows for code in range(each.first, each.last)] == list(range(codes))
    for each in windows:
        assert each.start <= each.first < each.last <= each.stop <= codes
        assert each.stop - each.start <= SIZES.context
        assert each.start % align == 0


def test_rows_of_an_overlap_have_seen_most() -> None:
    windows = plan_windows(96, 96, FeatureConfig(hop=0.5), SIZES)
    assert [(each.first - each.start) for each in windows] == [0, 16, 16, 16, 16]


def test_padding_is_left_out_unless_it_is_asked_for() -> None:
    audio = np.ones(1000, np.float32)
    recipe = FeatureConfig(short="pad_window", encode="window")
    part, kept = encoded_part(audio, recipe, SIZES)
    assert (len(part), kept) == (WINDOW, 7)
    assert encoded_part(audio, replace(recipe, trim=False), SIZES)[1] == 32
    part, kept = encoded_part(audio, FeatureConfig(short="pad_minimum", trim=False), SIZES)
    assert (len(part), kept) == (44100, 344)


def test_slices_begin_while_a_whole_one_is_left() -> None:
    recipe = FeatureConfig(slice_seconds=0.5, slice_hop_seconds=0.25, normalise=False)
    clips = cut_clips(np.arange(44100, dtype=np.float32), recipe, 44100)
    assert [clip[0] for clip in clips] == [0, 11025, 22050]
    assert {len(clip) for clip in clips} == {22050}
    with pytest.raises(AudioError, match=r"0.25 s are shorter than one slice of 0.5 s"):
        cut_clips(np.zeros(11025, np.float32), recipe, 44100)


def test_silence_stays_silent_and_clips_have_peaks_of_their_own() -> None:
    audio = np.concatenate([np.zeros(100), np.full(100, 0.25), np.full(100, -0.5)]).astype(np.float32)
    clips = cut_clips(audio, FeatureConfig(slice_seconds=100 / 44100), 44100)
    assert [float(np.abs(clip).max()) for clip in clips] == [0, 1, 1]


def test_true_timing_stays_within_what_the_model_knows() -> None:
    recipe = FeatureConfig()

    def timing(start: int, total: float, offset: float = 0.0) -> tuple[int, int]:
        return tuple(song_timing(recipe, SIZES, start=start, total_seconds=total, offset_seconds=offset))

    assert timing(0, 0.2) == (44160, 0)  # the shortest song, in whole codes
    assert timing(100, 3.0, 1.0) == (132300, 44100 + 12800)
    total, offset = timing(4000, 60.0)  # longer than any song that the model knows
    assert total < SIZES.longest
    assert offset + WINDOW <= SIZES.longest


def test_a_last_chunk_is_claimed_too_early() -> None:
    recipe = replace(load_recipe("sheetsage"), shortest_seconds=None, longest_seconds=None)
    chunk = song_timing(recipe, SIZES, start=320, total_seconds=1.0, offset_seconds=0.0)
    assert chunk.offset == chunk.total - WINDOW < 320 * SIZES.hop


def test_a_fixed_length_that_the_model_does_not_know_is_refused() -> None:
    with pytest.raises(
        ConfigError, match=r"fixed_seconds is 62, but this model knows songs from 1 s to just under 10 s"
    ):
        fixed_total(load_recipe("jukemir"), SIZES)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"layers": (3, 3)}, r"layers is \[3, 3\]; name each of them once"),
        ({"layers": ()}, "ask for at least one"),
        ({"hop": 0.0}, "hop is 0.0; it must be above 0 and at most 1"),
        ({"timing": "fixed"}, "give fixed_seconds with timing=fixed"),
        ({"rate": float("inf")}, "rate is inf; it must be above 0 and finite"),
        ({"slice_hop_seconds": 1.0}, "slice_hop_seconds is 1.0, but slice_seconds is null"),
        ({"encode": "window", "hop": 0.5}, "encode=window encodes windows one by one"),
    ],
    ids=str,
)
def test_recipes_that_contradict_themselves_are_refused(changes: dict[str, object], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        FeatureConfig(**changes)  # type: ignore[arg-type]


@pytest.mark.parametrize("layers", [(0,), (7,), (-1,)])
def test_a_layer_that_is_not_there_is_named(layers: tuple[int, ...]) -> None:
    with pytest.raises(ConfigError, match=f"layers names {layers[0]}, but the network of level 2 has layers 1 to 6"):
        FeatureConfig(layers=layers).chosen_layers(SIZES)
