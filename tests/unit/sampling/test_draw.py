"""Tokens drawn from logits and noise: upstream's categorical draw, and the two filters."""

from __future__ import annotations

import pytest
import torch

from jukebox_core.errors import ConfigError
from jukebox_core.families.jukebox.sampling.config import LevelSampling
from jukebox_core.sampling.draw import draw_tokens, filter_logits
from jukebox_core.sampling.noise import CounterNoise, GeneratorNoise

INF = float("inf")
SETTINGS = [
    LevelSampling(temperature=1.0),
    LevelSampling(temperature=0.7),
    LevelSampling(top_k=5),
    LevelSampling(top_p=0.6),
]


@pytest.mark.parametrize("sampling", SETTINGS, ids=str)
@pytest.mark.parametrize(("batch", "bins"), [(1, 79), (3, 128), (2, 2127), (16, 64)])
def test_equals_multinomial_from_the_same_generator_state(batch: int, bins: int, sampling: LevelSampling) -> None:
    for seed in range(60):
        logits = 3 * torch.randn(batch, bins, generator=torch.Generator().manual_seed(seed))
        kept = filter_logits(logits / sampling.temperature, sampling.top_k, sampling.top_p)
        wanted = torch.multinomial(
            torch.softmax(kept, -1), 1, generator=torch.Generator().manual_seed(1000 + seed)
        ).squeeze(1)
        noise = GeneratorNoise(batch, torch.Generator().manual_seed(1000 + seed)).draw(0, bins)
        found = draw_tokens(logits, noise, sampling)
        assert found.dtype == torch.int64
        assert torch.equal(found, wanted)


def test_equals_a_categorical_over_one_time_step_from_the_global_generator() -> None:
    torch.manual_seed(0)
    logits = torch.randn(3, 2048)
    for seed in range(50):
        torch.manual_seed(seed)
        wanted = torch.distributions.Categorical(logits=logits[:, None]).sample().squeeze(1)
        after = torch.rand(1)
        torch.manual_seed(seed)
        assert torch.equal(draw_tokens(logits, GeneratorNoise(3).draw(0, 2048), LevelSampling(temperature=1.0)), wanted)
        assert torch.equal(torch.rand(1), after)  # the generator is left in the same state


def test_frequencies_are_the_probabilities() -> None:
    logits = torch.tensor([[2.0, 1.0, 0.0, -1.0]])
    source = CounterNoise(0, 0, [0])
    draws = 20_000
    noise = torch.cat([source.draw(position, 4) for position in range(draws)])
    tokens = draw_tokens(logits.expand(draws, 4), noise, LevelSampling(temperature=0.5))
    share = torch.bincount(tokens, minlength=4) / draws
    assert torch.allclose(share, torch.softmax(logits[0] / 0.5, 0), atol=0.015)


def test_half_precision_logits_are_drawn_in_float32() -> None:
    logits = torch.randn(2, 64, generator=torch.Generator().manual_seed(1)).half()
    noise = CounterNoise(0, 0, [0, 1]).draw(0, 64)
    sampling = LevelSampling(temperature=0.3)
    assert torch.equal(draw_tokens(logits, noise, sampling), draw_tokens(logits.float(), noise, sampling))


@pytest.mark.parametrize("sampling", SETTINGS, ids=str)
def test_inputs_are_left_alone(sampling: LevelSampling) -> None:
    logits, noise = torch.randn(2, 16), torch.rand(2, 16) + 0.1
    before = logits.clone(), noise.clone()
    draw_tokens(logits, noise, sampling)
    assert torch.equal(logits, before[0])
    assert torch.equal(noise, before[1])


def test_noise_that_would_broadcast_is_refused() -> None:
    with pytest.raises(ValueError, match="must agree"):
        draw_tokens(torch.zeros(3, 8), torch.ones(1, 8), LevelSampling())


def test_top_k_keeps_ties_with_the_kth() -> None:
    logits = torch.tensor([[1.0, 3.0, 2.0, 2.0, 0.0], [5.0, 4.0, 3.0, 2.0, 1.0]])
    assert filter_logits(logits, top_k=2).tolist() == [[-INF, 3, 2, 2, -INF], [5, 4, -INF, -INF, -INF]]
    assert torch.equal(filter_logits(logits, top_k=99), logits)
    assert filter_logits(logits, top_k=1).argmax(-1).tolist() == [1, 0]


def test_top_p_keeps_the_token_that_crosses() -> None:
    logits = torch.tensor([[0.2, 0.5, 0.3], [0.1, 0.1, 0.8]]).log()
    kept = filter_logits(logits, top_p=0.6).isfinite()
    assert kept.tolist() == [[False, True, True], [False, False, True]]
    assert filter_logits(logits, top_p=1e-6).isfinite().sum(-1).tolist() == [1, 1]
    assert torch.equal(filter_logits(logits, top_p=1.0), logits)


@pytest.mark.parametrize("top_p", [0.05, 0.5, 0.9, 0.999])
def test_top_p_against_a_loop(top_p: float) -> None:
    logits = 2 * torch.randn(20, 50, generator=torch.Generator().manual_seed(3))
    for row, kept in zip(logits, filter_logits(logits, top_p=top_p).isfinite(), strict=True):
        wanted, total = set(), 0.0
        probabilities = torch.softmax(row, 0).tolist()
        for token in sorted(range(50), key=lambda v: -row[v].item()):
            if total > top_p:
                break
            wanted.add(token)
            total += probabilities[token]
        assert set(kept.nonzero().flatten().tolist()) == wanted


def test_no_filter_changes_nothing_and_two_are_refused() -> None:
    logits = torch.randn(2, 4)
    assert torch.equal(filter_logits(logits), logits)
    with pytest.raises(ConfigError, match="both set"):
        filter_logits(logits, top_k=1, top_p=0.5)
