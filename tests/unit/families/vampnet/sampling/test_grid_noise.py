"""Noise of positions: the same from any chunk and batch; different in every pass, round, stage and sample."""

from __future__ import annotations

import pytest
import torch

from jukebox_core.families.vampnet.sampling.noise import CounterGridNoise, GridSize, PassNoise

SIZE = GridSize(2, 6, 3, 11)


def drawn(*, seed: int = 1, stage: int = 1, of_round: int = 0, samples: tuple[int, ...] = (4, 9), start: int = 20,
          index: int = 0, size: GridSize = SIZE) -> PassNoise:  # fmt: skip
    return CounterGridNoise(seed, stage, of_round, samples, start).draw(index, size, tokens=True)


def test_it_belongs_to_absolute_positions() -> None:
    early, late = drawn(), drawn(start=22)
    assert early.tokens_BNV is not None
    assert late.tokens_BNV is not None
    common = 4 * SIZE.books
    assert torch.equal(early.tokens_BNV[:, 2 * SIZE.books :], late.tokens_BNV[:, :common])
    assert torch.equal(early.gumbel_BN[:, 2 * SIZE.books :], late.gumbel_BN[:, :common])
    assert not torch.equal(early.gumbel_BN, late.gumbel_BN)


def test_it_does_not_depend_on_the_batch() -> None:
    both, one = drawn(), drawn(samples=(9,), size=SIZE._replace(items=1))
    assert both.tokens_BNV is not None
    assert one.tokens_BNV is not None
    assert torch.equal(both.tokens_BNV[1:], one.tokens_BNV)
    assert torch.equal(both.gumbel_BN[1:], one.gumbel_BN)


@pytest.mark.parametrize(
    "change", [{"seed": 2}, {"stage": 2}, {"of_round": 1}, {"samples": (5, 8)}, {"index": 1}], ids=str
)
def test_every_seed_stage_round_sample_and_pass_has_its_own(change: dict[str, int]) -> None:
    one, other = drawn(), drawn(**change)  # type: ignore[arg-type]
    assert one.tokens_BNV is not None
    assert other.tokens_BNV is not None
    assert not torch.isclose(one.tokens_BNV, other.tokens_BNV).any()
    assert not torch.isclose(one.gumbel_BN, other.gumbel_BN).any()


def test_it_has_the_distributions_that_passes_need() -> None:
    noise = drawn(size=GridSize(2, 200, 3, 50))
    assert noise.tokens_BNV is not None
    assert noise.tokens_BNV.mean().item() == pytest.approx(1.0, abs=0.02)
    assert noise.tokens_BNV.var().item() == pytest.approx(1.0, abs=0.05)
    assert noise.gumbel_BN.mean().item() == pytest.approx(0.5772, abs=0.1)  # of a standard Gumbel distribution
    assert noise.gumbel_BN.var().item() == pytest.approx(1.645, abs=0.25)
