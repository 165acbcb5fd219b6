"""Attention layers against the definition of each type, written out as a mask over whole sequences."""

from __future__ import annotations

import pytest
import torch

from jukebox_core.errors import ConfigError
from jukebox_core.families.jukebox.model.attention import attend, make_attention
from jukebox_core.families.jukebox.model.attention_patterns import AttentionType, Fold, attention_types
from jukebox_core.families.jukebox.model.layers import LayerNorm, Projection, quick_gelu

CPU = torch.device("cpu")
WIDTH, INNER, HEADS = 12, 8, 2
FOLD = Fold(positions=24, rows=4, prime=5, spread=2)
SELF = [kind for kind in AttentionType if kind is not AttentionType.CROSS]
SUMMARIES = (AttentionType.SUMMARY, AttentionType.SPREAD_SUMMARY)
CACHED = [kind for kind in AttentionType if kind not in SUMMARIES]


def layer_of(kind: AttentionType, fold: Fold = FOLD) -> torch.nn.Module:
    torch.manual_seed(0)
    layer = make_attention(kind, WIDTH, INNER, HEADS, fold)
    for parameter in layer.parameters():
        torch.nn.init.normal_(parameter, std=0.5)
    return layer


def visible(kind: AttentionType, query: int, key: int, fold: Fold) -> bool:
    """Whether a query attends to a key, by docs/upstream.md, Attention."""
    query_row, query_column = divmod(query, fold.columns)
    row, column = divmod(key, fold.columns)
    earlier = key <= query
    spread = 1 if kind is AttentionType.SUMMARY else fold.spread or 0
    return {
        AttentionType.DENSE: earlier,
        AttentionType.BLOCK: earlier and row == query_row,
        AttentionType.COLUMN: earlier and column == query_column,
        AttentionType.PREVIOUS_BLOCK: row == query_row - 1,
        AttentionType.SUMMARY: earlier and column >= fold.columns - spread and row < fold.rows - 1,
        AttentionType.SPREAD_SUMMARY: earlier and column >= fold.columns - spread and row < fold.rows - 1,
        AttentionType.PRIME: earlier and key < (fold.prime // fold.rows + 1) * fold.rows,
    }[kind]


def by_definition(layer: torch.nn.Module, kind: AttentionType, x: torch.Tensor, fold: Fold) -> torch.Tensor:
    """Attention of one query and one head at a time, to the list of its visible keys."""
    q, k, v = layer.project_in(x).split(INNER, dim=-1)
    zeros = {AttentionType.SUMMARY: 1, AttentionType.SPREAD_SUMMARY: fold.spread}.get(kind, 0)
    size = INNER // HEADS
    out = torch.zeros_like(q)
    for query in range(x.shape[1]):
        keys = [key for key in range(x.shape[1]) if visible(kind, query, key, fold)]
        for head in range(HEADS):
            part = slice(head * size, (head + 1) * size)
            seen_k = torch.cat([torch.zeros(x.shape[0], zeros, size), k[:, keys, part]], dim=1)
            seen_v = torch.cat([torch.zeros(x.shape[0], zeros, size), v[:, keys, part]], dim=1)
            scores = (seen_k @ q[:, query, part, None])[..., 0] / size**0.5
            if scores.shape[1]:
                out[:, query, part] = (scores.softmax(-1)[..., None] * seen_v).sum(1)
    return layer.project_out(out)


@pytest.mark.parametrize("kind", SELF, ids=lambda kind: kind.name)
@torch.no_grad()
def test_whole_sequences_follow_the_definition(kind: AttentionType) -> None:
    layer = layer_of(kind)
    x = torch.randn(2, FOLD.positions, WIDTH)
    expected = by_definition(layer, kind, x, FOLD)
    torch.testing.assert_close(layer(x)[0], expected)
    torch.testing.assert_close(layer(x, record=True)[0], expected)


@pytest.mark.parametrize("kind", AttentionType, ids=lambda kind: kind.name)
@torch.no_grad()
def test_recorded_weights_are_distributions_over_keys(kind: AttentionType) -> None:
    x, encoder = torch.randn(2, FOLD.positions, WIDTH), torch.randn(2, 7, WIDTH)
    _, weights = layer_of(kind)(x, encoder, record=True)
    assert weights.dtype == torch.float32
    assert weights.shape[1] == HEADS
    torch.testing.assert_close(weights.sum(-1), torch.ones(weights.shape[:-1]))
    assert layer_of(kind)(x, encoder)[1] is None


@pytest.mark.parametrize("kind", CACHED, ids=lambda kind: kind.name)
@torch.no_grad()
def test_chunks_equal_the_whole_sequence_and_the_cache_never_grows(kind: AttentionType) -> None:
    layer, x, encoder = layer_of(kind), torch.randn(2, FOLD.positions, WIDTH), torch.randn(2, 7, WIDTH)
    whole, _ = layer(x, encoder)
    for sizes in ([24], [1] * 24, [7, 1, 1, 4, 6, 5], [5, 1, 13, 5], [6, 6, 1, 11]):
        cache = layer.new_cache(2, x.dtype, CPU, encoder)
        buffer, at = cache.kv.data_ptr(), 0
        for size in sizes:
            piece = layer.extend(x[:, at : at + size], cache, at)
            torch.testing.assert_close(piece, whole[:, at : at + size])
            at += size
        assert cache.kv.data_ptr() == buffer


@torch.no_grad()
def test_first_row_of_previous_block_attention_is_the_bias_alone() -> None:
    layer = layer_of(AttentionType.PREVIOUS_BLOCK)
    first = layer(torch.randn(2, FOLD.positions, WIDTH))[0][:, : FOLD.columns]
    assert first.equal(layer.project_out.bias.expand_as(first))


@pytest.mark.parametrize("kind", AttentionType, ids=lambda kind: kind.name)
def test_gradients_reach_all_weights(kind: AttentionType) -> None:
    layer = layer_of(kind)
    x = torch.randn(1, FOLD.positions, WIDTH, requires_grad=True)
    layer(x, torch.randn(1, 7, WIDTH))[0].pow(2).sum().backward()
    assert x.grad is not None
    for name, parameter in layer.named_parameters():
        assert parameter.grad is not None, name
        assert parameter.grad.abs().sum() > 0, name


@pytest.mark.parametrize("kind", SUMMARIES, ids=lambda kind: kind.name)
def test_summary_layers_refuse_to_sample(kind: AttentionType) -> None:
    with pytest.raises(ConfigError, match="cannot sample; choose another order"):
        layer_of(kind).new_cache(1, torch.float32, CPU)


def test_cross_attention_needs_an_encoder() -> None:
    with pytest.raises(ConfigError, match="no encoder"):
        layer_of(AttentionType.CROSS).new_cache(1, torch.float32, CPU)


def test_spread_must_fit_a_row() -> None:
    for spread in (None, 0, 7):
        with pytest.raises(ConfigError, match=f"spread is {spread}"):
            make_attention(AttentionType.SPREAD_SUMMARY, WIDTH, INNER, HEADS, Fold(24, 4, 0, spread))


def test_rows_are_of_equal_length() -> None:
    with pytest.raises(ConfigError, match="10 positions do not fold into 4 rows"):
        Fold(10, 4)


@pytest.mark.parametrize(("prime", "rows", "keys"), [(384, 64, 448), (383, 64, 384), (0, 16, 16), (48, 16, 64)])
def test_prime_keys_round_up_past_the_prime(prime: int, rows: int, keys: int) -> None:
    assert Fold(rows * 128, rows, prime).prime_keys == keys


def test_orders() -> None:
    assert attention_types(0, 3) == (0, 0, 0)
    assert attention_types(2, 5) == (1, 2, 3, 1, 2)
    of_lyrics = attention_types(10, 79)
    assert [layer for layer, kind in enumerate(of_lyrics) if kind == AttentionType.CROSS] == [
        18,
        28,
        38,
        48,
        58,
        68,
        78,
    ]
    in_one_sequence = attention_types(12, 72)
    assert [layer for layer, kind in enumerate(in_one_sequence) if kind == AttentionType.PRIME] == [15, 31, 63]
    assert in_one_sequence[47] == AttentionType.DENSE


def test_a_mask_hides_keys() -> None:
    q, k, v = torch.randn(3, 1, 1, 2, 4)
    only_first = torch.tensor([[True, False], [True, False]])
    for record in (False, True):
        out, _ = attend(q, k, v, mask_TS=only_first, record=record)
        torch.testing.assert_close(out, v[:, :, :1].expand_as(out))


@pytest.mark.parametrize("masked", [False, True])
def test_few_keys_in_bfloat16_learn_as_in_single_precision(masked: bool) -> None:
    generator = torch.Generator().manual_seed(0)
    mask_TS = torch.ones(6, 6, dtype=torch.bool).tril(-1) | torch.eye(6, dtype=torch.bool) if masked else None
    found = {}
    start = [torch.randn(3, 2, 6, 8, generator=generator).bfloat16() for _ in range(3)]
    for dtype in (torch.float32, torch.bfloat16):
        q, k, v = (each.to(dtype).requires_grad_() for each in start)
        out, weights = attend(q, k, v, mask_TS=mask_TS, causal=not masked)
        assert weights is None
        assert out.dtype == dtype
        out.float().square().sum().backward()
        found[dtype] = [out, *(each.grad for each in (q, k, v) if each.grad is not None)]
    assert len(found[torch.bfloat16]) == 4
    for exact, rounded in zip(found[torch.float32], found[torch.bfloat16], strict=True):
        # 8 bits of mantissa, over sums of at most 6 terms
        assert (rounded.float() - exact).norm() < 0.02 * exact.norm()


def test_projection_converts_what_is_stored_in_half() -> None:
    projection = Projection(6, 3)
    projection.half()
    x = torch.randn(2, 5, 6)
    expected = x @ projection.weight.float() + projection.bias.float()
    out = projection(x)
    assert out.dtype == torch.float32
    torch.testing.assert_close(out, expected)


def test_norm_is_computed_in_single_precision() -> None:
    norm, x = LayerNorm(6), torch.randn(2, 5, 6).half() * 1e4  # its squares overflow half precision
    out = norm(x)
    assert out.dtype == torch.float16
    torch.testing.assert_close(out, torch.nn.functional.layer_norm(x.float(), (6,)).half())


def test_quick_gelu() -> None:
    torch.testing.assert_close(quick_gelu(torch.tensor([0.0, 1.0])), torch.tensor([0.0, 1 / (1 + 2.718281828**-1.702)]))
