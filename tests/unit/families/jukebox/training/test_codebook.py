from __future__ import annotations

import pytest
import torch

from jukebox_core.errors import ConfigError
from jukebox_core.families.jukebox.training.codebook import CodebookLearner
from jukebox_core.families.jukebox.training.config import CodebookConfig


def learner(codebook: torch.Tensor, **changes: float) -> CodebookLearner:
    return CodebookLearner(codebook, CodebookConfig(**{"ema_decay": 0.5, "threshold_ema_dead_code": 1.0, **changes}))


def nearest(rows: torch.Tensor, codebook: torch.Tensor) -> torch.Tensor:
    return torch.cdist(rows, codebook).argmin(1)


def test_a_codebook_is_initialised_with_rows_of_the_first_batch_only_once() -> None:
    rows, codebook = torch.randn(50, 3), torch.zeros(8, 3)
    learning = learner(codebook)
    learning.start(codebook, rows)
    assert all((rows == entry).all(1).any() for entry in codebook)
    kept = codebook.clone()
    learning.start(codebook, torch.randn(50, 3))
    assert codebook.equal(kept)


def test_too_few_rows_are_repeated_and_no_two_entries_are_the_same() -> None:
    codebook = torch.zeros(16, 3)
    learner(codebook).start(codebook, torch.randn(5, 3))
    assert len(codebook.unique(dim=0)) == 16


def test_entries_move_to_the_mean_of_their_features() -> None:
    centres = torch.tensor([[0.0, 0.0], [10.0, 0.0], [0.0, 10.0], [10.0, 10.0]])
    codebook = centres + 1
    learning = learner(codebook)
    learning.restore(codebook, 25.0)
    for step in range(30):
        rows = centres.repeat(25, 1) + 0.1 * torch.randn(100, 2, generator=torch.Generator().manual_seed(step))
        learning.update(codebook, rows, nearest(rows, codebook))
    torch.testing.assert_close(codebook, centres, atol=0.1, rtol=0)


def test_a_dead_entry_is_replaced_by_a_feature() -> None:
    rows = torch.randn(100, 2)
    codebook = torch.cat([rows[:3].clone(), torch.full((1, 2), 1e3)])
    learning = learner(codebook)
    learning.restore(codebook, 1.5)
    metrics = learning.update(codebook, rows, nearest(rows, codebook))
    assert metrics["usage"] == 3
    assert (rows == codebook[3]).all(1).any()


def test_random_rows_come_from_the_generator_and_the_global_one_is_unchanged() -> None:
    rows = torch.randn(40, 2)

    def drawn(seed: int) -> torch.Tensor:
        codebook = torch.zeros(8, 2)
        learner(codebook).start(codebook, rows, torch.Generator().manual_seed(seed))
        return codebook

    torch.manual_seed(0)
    before = torch.get_rng_state()
    assert drawn(1).equal(drawn(1))
    assert not drawn(1).equal(drawn(2))
    assert torch.get_rng_state().equal(before)


def test_a_decay_outside_its_range_is_refused() -> None:
    with pytest.raises(ConfigError, match="ema_decay is 1"):
        CodebookConfig(ema_decay=1.0)
