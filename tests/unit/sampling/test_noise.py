"""Noise is a pure function of (seed, level, sample, position), distributed as standard exponentials."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from jukebox_core.errors import ConfigError
from jukebox_core.sampling.noise import CounterNoise, GeneratorNoise

_MASK = 2**64 - 1
_PINNED = [[0.100639015, 0.171458289, 2.84559321], [0.659456193, 0.709809244, 1.18016517]]  # samples 0 and 5


def _philox_block(counter: list[int], key: list[int]) -> list[int]:
    """Philox 4x64-10 of Salmon et al. (2011), in plain integers: independent of numpy."""
    key = list(key)
    for _ in range(10):
        low = counter[0] * 0xD2E7470EE14C6C93
        high = counter[2] * 0xCA5A826395121157
        counter = [
            (high >> 64) ^ counter[1] ^ key[0],
            high & _MASK,
            (low >> 64) ^ counter[3] ^ key[1],
            low & _MASK,
        ]
        key = [(key[0] + 0x9E3779B97F4A7C15) & _MASK, (key[1] + 0xBB67AE8584CAA73B) & _MASK]
    return counter


def _by_the_recipe(seed: int, level: int, sample: int, position: int, count: int) -> list[float]:
    words = [
        word
        for block in range(1, count // 4 + 2)
        for word in _philox_block([block, position, sample, 0], [seed, level])
    ]
    return [-math.log((2 * (word >> 12) + 1) / 2**53) for word in words[:count]]


@pytest.mark.parametrize(
    ("seed", "level", "sample", "position"), [(0, 2, 0, 0), (2**63 - 1, 0, 15, 8191), (7, 1, 3, 4)]
)
def test_the_documented_recipe_gives_the_numbers(seed: int, level: int, sample: int, position: int) -> None:
    found = CounterNoise(seed, level, [sample]).draw(position, 11)
    wanted = torch.tensor(_by_the_recipe(seed, level, sample, position, 11), dtype=torch.float64)
    assert torch.allclose(found[0].double(), wanted, rtol=1e-7, atol=0)


def test_pinned_values() -> None:
    drawn = CounterNoise(seed=1234, level=2, samples=[0, 5]).draw(position=77, count=3)
    pinned = torch.tensor(_PINNED)
    assert torch.allclose(drawn, pinned, rtol=2e-7, atol=0), drawn.tolist()


def test_pure_in_any_order_batch_and_count() -> None:
    whole = [CounterNoise(5, 1, [0, 1, 2]).draw(position, 129).clone() for position in range(40)]
    one_object = CounterNoise(5, 1, [2, 0])
    for position in [39, 0, 1, 2, 17, 16, 3, 3]:
        assert torch.equal(one_object.draw(position, 129), whole[position][[2, 0]])
        assert torch.equal(one_object.draw(position, 10), whole[position][[2, 0], :10])


def test_positions_past_the_precomputed_block_agree_with_a_fresh_source() -> None:
    count = 30_000  # two positions a block
    running = CounterNoise(9, 0, [4])
    for position in range(5):
        assert torch.equal(running.draw(position, count), CounterNoise(9, 0, [4]).draw(position, count))


@pytest.mark.parametrize("other", [(6, 1, [0], 3), (5, 2, [0], 3), (5, 1, [1], 3), (5, 1, [0], 4), (1, 5, [0], 3)])
def test_every_cause_changes_the_numbers(other: tuple[int, int, list[int], int]) -> None:
    seed, level, samples, position = other
    assert not torch.isin(
        CounterNoise(seed, level, samples).draw(position, 64), CounterNoise(5, 1, [0]).draw(3, 64)
    ).any()


def test_form_range_and_distribution() -> None:
    source = CounterNoise(3, 2, [0, 1])
    drawn = torch.stack([source.draw(position, 2127) for position in range(60)])
    assert drawn.shape == (60, 2, 2127)
    assert drawn.dtype == torch.float32
    assert bool((drawn > 0).all())
    assert bool(drawn.isfinite().all())
    assert drawn.mean().item() == pytest.approx(1, abs=0.01)
    assert drawn.var().item() == pytest.approx(1, abs=0.03)
    assert drawn.median().item() == pytest.approx(math.log(2), abs=0.01)
    assert len(drawn.unique()) > 0.98 * drawn.numel()


@pytest.mark.parametrize(("word", "wanted"), [(0, 53 * math.log(2)), (_MASK, 2.0**-53)])
def test_extreme_words_stay_above_zero_and_finite(monkeypatch: pytest.MonkeyPatch, word: int, wanted: float) -> None:
    class Extreme:
        state: dict[str, dict[str, object]] = {"state": {}}  # noqa: RUF012

        def __init__(self, key: object) -> None: ...

        def random_raw(self, count: int) -> np.ndarray:
            return np.full(count, word, dtype=np.uint64)

    monkeypatch.setattr(np.random, "Philox", Extreme)
    assert CounterNoise(0, 0, [0]).draw(0, 2)[0].tolist() == pytest.approx([wanted, wanted], rel=1e-6)


@pytest.mark.parametrize(
    ("seed", "level", "samples"), [(-1, 0, [0]), (2**64, 0, [0]), (0, -1, [0]), (0, 0, [-1]), (0, 0, [])]
)
def test_causes_out_of_range_are_refused(seed: int, level: int, samples: list[int]) -> None:
    with pytest.raises(ConfigError, match="noise needs"):
        CounterNoise(seed, level, samples)


def test_generator_noise_is_one_draw_a_call_from_the_generator() -> None:
    torch.manual_seed(11)
    wanted = [torch.empty(3, 50).exponential_(), torch.empty(3, 50).exponential_()]
    torch.manual_seed(11)
    source = GeneratorNoise(3)
    assert torch.equal(source.draw(0, 50), wanted[0])
    assert torch.equal(source.draw(0, 50), wanted[1])
    own = GeneratorNoise(3, torch.Generator().manual_seed(11))
    assert torch.equal(own.draw(8, 50), wanted[0])


def test_values_for_another_device_are_copied_in_blocks() -> None:
    noise = CounterNoise(1, 2, [0, 5], torch.device("meta"))
    assert noise.draw(7, 100).is_meta
    ahead = noise._ahead_NBV
    assert len(ahead) == 2**20 // 200
    assert noise.draw(7 + len(ahead) - 1, 100).is_meta
    assert noise._ahead_NBV is ahead


def test_a_range_of_positions_is_the_same_as_one_by_one() -> None:
    one, many = CounterNoise(1, 2, [0, 5]), CounterNoise(1, 2, [0, 5])
    drawn = many.draw_range(40, 43, 17)
    assert torch.equal(drawn, torch.stack([one.draw(position, 17) for position in range(40, 43)]))
