"""Small priors of every kind: construction, conditioning, losses, states."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest
import torch

from jukebox_core.errors import ConfigError, LabelError
from jukebox_core.families.jukebox.model.layers import Projection
from jukebox_core.families.jukebox.model.prior import Prior
from tests.helpers.models.tiny_priors import (
    CONFIGS,
    LABELS,
    VQVAE,
    codes_above,
    label_rows,
    tiny_codes,
    tiny_condition,
    tiny_prior,
)

KINDS = pytest.mark.parametrize("kind", CONFIGS)
ARTIST_COLUMN = 3


@torch.no_grad()
@KINDS
def test_built_without_memory_and_given_mapped_weights(kind: str) -> None:
    filled = tiny_prior(kind)
    with torch.device("meta"):
        empty = Prior(CONFIGS[kind], VQVAE)
    state = filled.state_dict()
    empty.load_state_dict(state, strict=True, assign=True)
    assert all(tensor.data_ptr() == state[name].data_ptr() for name, tensor in empty.state_dict().items())
    codes = tiny_codes(filled)
    found, expected = empty(codes, tiny_condition(empty)), filled(codes, tiny_condition(filled))
    torch.testing.assert_close(found, expected, atol=1e-5, rtol=1e-5)  # MKL's sums depend on the alignment of memory


@KINDS
def test_output_is_tied_unless_the_decoder_is_merged(kind: str) -> None:
    prior = tiny_prior(kind)
    tied = prior.output.weight is prior.body.embedding.weight
    assert tied == (not CONFIGS[kind].merged_decoder)


@KINDS
def test_logits_depend_on_earlier_codes_only(kind: str) -> None:
    prior = tiny_prior(kind)
    condition, codes = tiny_condition(prior), tiny_codes(prior)
    before = prior(codes, condition)
    assert before.shape == (2, prior.config.positions, prior.vocabulary)
    changed = codes.clone()
    changed[:, 20] = (changed[:, 20] + 1) % VQVAE.bins
    after, place = prior(changed, condition), prior.config.lyric_positions + 20
    assert after[:, : place + 1].equal(before[:, : place + 1])
    assert not after[:, place + 1].isclose(before[:, place + 1]).all()


@KINDS
def test_songs_of_a_batch_do_not_mix(kind: str) -> None:
    prior = tiny_prior(kind)
    both = prior(tiny_codes(prior), tiny_condition(prior))
    rows, above = label_rows(prior, 2), codes_above(prior, 2)
    for song in (0, 1):
        part = slice(song, song + 1)
        alone = prior(tiny_codes(prior)[part], prior.condition(rows[part], None if above is None else above[part]))
        torch.testing.assert_close(alone, both[part])


@KINDS
def test_interleaved_windows_do_not_mix(kind: str) -> None:
    """A module holds weights and nothing else: two states of one prior are independent."""
    prior = tiny_prior(kind)
    condition = tiny_condition(prior)
    tokens = [prior.sequence(tiny_codes(prior), condition), prior.sequence(tiny_codes(prior).flip(1), condition)]
    alone = [prior.extend(prior.new_state(condition), each) for each in tokens]
    states = [prior.new_state(condition) for _ in tokens]
    pieces: list[list[torch.Tensor]] = [[], []]
    for at in range(0, tokens[0].shape[1], 5):
        for index, state in enumerate(states):
            pieces[index].append(prior.extend(state, tokens[index][:, at : at + 5]))
    for index in (0, 1):
        torch.testing.assert_close(torch.cat(pieces[index], dim=1), alone[index])


def test_losses_weigh_lyrics_and_music() -> None:
    for kind in ("lyrics", "one_sequence"):
        prior = tiny_prior(kind)
        condition, codes = tiny_condition(prior), tiny_codes(prior)
        losses = prior.losses(codes, condition)
        assert torch.isclose(losses.total, (0.4 * losses.lyrics * 8 + losses.music * 32) / 40)
        bits = -prior(codes, condition)[:, -32:].log_softmax(-1) / math.log(2)
        music = bits.gather(-1, (codes + prior.shift)[..., None]).mean()
        torch.testing.assert_close(losses.music, music)
    without = tiny_prior("top").losses(tiny_codes(tiny_prior("top")), tiny_condition(tiny_prior("top")))
    assert without.lyrics == 0
    assert without.total == without.music


def test_padding_genres_add_nothing() -> None:
    embedding = tiny_prior("top").labels
    assert embedding is not None
    artist, genres = torch.tensor([2]), torch.tensor([[1, 3]])
    expected = embedding.artist.weight[2] + embedding.genre.weight[1] + embedding.genre.weight[3]
    torch.testing.assert_close(embedding(artist, genres)[0, 0], expected)
    one = embedding(artist, torch.tensor([[1, -1]]))[0, 0]
    torch.testing.assert_close(one, embedding.artist.weight[2] + embedding.genre.weight[1])


def test_only_the_transformer_uses_half_precision() -> None:
    prior = tiny_prior("lyrics")
    codes = tiny_codes(prior)
    plain = prior(codes, tiny_condition(prior))
    for dtype, tolerance in ((torch.float16, 5e-2), (torch.bfloat16, 0.5)):
        prior.set_compute_dtype(dtype)
        condition = tiny_condition(prior)
        assert condition.encoder_BNW is not None
        assert condition.encoder_BNW.dtype == condition.start_B1W.dtype == torch.float32
        half = {id(p) for m in prior.body.transformer.modules() if isinstance(m, Projection) for p in m.parameters()}
        for name, parameter in prior.named_parameters():
            assert parameter.dtype == (dtype if id(parameter) in half else torch.float32), name
        found = prior(codes, condition)
        assert found.dtype == torch.float32
        assert not found.equal(plain)
        torch.testing.assert_close(found, plain, atol=tolerance, rtol=0.0)
        state = prior.new_state(condition)
        assert {layer.kv.dtype for layer in state.cache.layers} == {dtype}


def test_memory_of_a_cache_is_counted() -> None:
    prior = tiny_prior("top")  # row, column, previous row, row
    cache = prior.new_state(tiny_condition(prior)).cache
    assert cache.nbytes == sum(2 * 2 * positions * 4 * 4 for positions in (8, 32, 16, 8))


@pytest.mark.parametrize(
    ("kind", "column", "value", "message"),
    [
        ("top", 0, 999, "total length is 999 audio samples; it must be at least 1000 and below 20000"),
        ("top", 0, 20000, "total length is 20000"),
        ("top", 1, -1, "offset is -1"),
        ("top", 1, 5000, "offset is 5000 audio samples; it must be at least 0 and below the total length"),
        ("top", 2, 20001, "end of the window is 20001 audio samples; it must be at most 20000"),
        ("top", ARTIST_COLUMN, LABELS.artists, f"artist id is {LABELS.artists}; this prior has 0 to 6"),
        ("top", ARTIST_COLUMN + 1, LABELS.genres, "genre id is 5; this prior has -1 to 4"),
    ],
)
def test_labels_out_of_range(kind: str, column: int, value: int, message: str) -> None:
    prior = tiny_prior(kind)
    rows = label_rows(prior, 1)
    rows[0, column] = value
    with pytest.raises(LabelError, match=message):
        prior.condition(rows)


def test_inputs_of_the_wrong_shape() -> None:
    upsampler, top = tiny_prior("upsampler"), tiny_prior("top")
    with pytest.raises(LabelError, match="label rows have 5 columns; level 2 takes 6"):
        top.condition(label_rows(top, 1)[:, :-1])
    with pytest.raises(ConfigError, match="level 1 needs the codes of the level above"):
        upsampler.condition(label_rows(upsampler, 1))
    with pytest.raises(ConfigError, match="level 2 takes no codes of a level above"):
        top.condition(label_rows(top, 1), torch.zeros(1, 8, dtype=torch.int64))
    with pytest.raises(ConfigError, match="7 codes above do not cover a window of level 1; give exactly 8"):
        upsampler.condition(label_rows(upsampler, 1), torch.zeros(1, 7, dtype=torch.int64))
    with pytest.raises(ConfigError, match="31 codes are not a full window; give 32"):
        top(tiny_codes(top)[:, 1:], tiny_condition(top))


def test_an_order_with_summaries_reads_whole_windows_only() -> None:
    config = replace(CONFIGS["top"], transformer=replace(CONFIGS["top"].transformer, attention_order=3))
    prior = Prior(config, VQVAE).eval()
    condition = tiny_condition(prior)
    assert prior(tiny_codes(prior), condition).isfinite().all()
    with pytest.raises(ConfigError, match="cannot sample"):
        prior.new_state(condition)
