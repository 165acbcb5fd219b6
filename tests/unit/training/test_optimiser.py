"""Muon, the moving average of the weights, and the schedule."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from torch import nn

from jukebox_core.errors import ConfigError
from jukebox_core.training.config import LoopConfig, OptimiserConfig, ScheduleConfig, Training, training_causes
from jukebox_core.training.optimiser import ExponentialMovingAverage, Muon, UpstreamAdam, lr_factor, orthogonalised

CONFIG = OptimiserConfig(learning_rate=0.01, muon_learning_rate=0.1, muon_momentum=0.5)


def with_gradients() -> nn.Linear:
    generator = torch.Generator().manual_seed(0)
    module = nn.Linear(3, 6)
    for parameter in module.parameters():
        parameter.data = torch.randn(parameter.shape, generator=generator)
        parameter.grad = torch.randn(parameter.shape, generator=generator)
    return module


def test_singular_values_become_equal_and_vectors_stay() -> None:
    given = torch.randn(4, 8, 32, generator=torch.Generator().manual_seed(0))
    found = orthogonalised(given)
    values = torch.linalg.svdvals(found)
    assert values.min() > 0.6
    assert values.max() < 1.3
    left, _, right = torch.linalg.svd(given, full_matrices=False)
    diagonal = left.mT @ found @ right.mT
    off = diagonal - torch.diag_embed(torch.diagonal(diagonal, dim1=-2, dim2=-1))
    assert off.abs().max() < 1e-4


def test_matrices_move_by_the_rate_in_all_directions_and_others_as_by_adam() -> None:
    module, other = with_gradients(), with_gradients()
    before = module.weight.detach().clone()
    Muon(module.parameters(), [module.weight], CONFIG).step()
    UpstreamAdam(other.parameters(), CONFIG).step()
    assert torch.equal(module.bias, other.bias)
    assert not torch.equal(module.weight, other.weight)
    moved = torch.linalg.svdvals(before - module.weight) / (0.1 * 2**0.5)  # twice as many rows as columns
    assert moved.min() > 0.6
    assert moved.max() < 1.3


def test_momentum_is_nesterov_s_and_matrices_of_one_shape_do_not_mix() -> None:
    first, second = with_gradients(), with_gradients()
    second.weight.grad = torch.ones_like(second.weight)
    together = Muon([first.bias], [first.weight, second.weight], CONFIG)
    alone = with_gradients()
    apart = Muon([alone.bias], [alone.weight], CONFIG)
    for _ in range(2):
        together.step()
        apart.step()
    torch.testing.assert_close(first.weight, alone.weight)
    assert alone.weight.grad is not None
    torch.testing.assert_close(apart.state[alone.weight]["first"], 0.75 * alone.weight.grad)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"muon_learning_rate": 0.0}, "muon_learning_rate is 0.0; it must be positive, or null for Adam alone"),
        ({"muon_momentum": 1.0}, "muon_momentum is 1.0; it must be from 0 to below 1"),
    ],
)
def test_settings_out_of_range_are_refused(changes: dict[str, float], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        replace(CONFIG, **changes)


def test_settings_of_muon_are_causes_only_if_it_is_used() -> None:
    how = Training(loop=LoopConfig(max_steps=1, batch_size=1), optimiser=CONFIG)
    assert training_causes(how)["optimiser"]["muon_learning_rate"] == 0.1
    without = replace(how, optimiser=replace(CONFIG, muon_learning_rate=None))
    assert not [name for name in training_causes(without)["optimiser"] if name.startswith("muon")]


def test_the_moving_average_is_updated_and_swapped_in_and_out() -> None:
    module = nn.Linear(2, 2)
    average = ExponentialMovingAverage(module, 0.5)
    begun = module.weight.detach().clone()
    with torch.no_grad():
        module.weight.add_(1)
    average.update()  # the decay of the first update is 1/11
    with average.swapped_in():
        torch.testing.assert_close(module.weight.detach(), begun + 10 / 11)
    assert module.weight.detach().equal(begun + 1)


class Named(nn.Module):
    """Two parameters of one shape, made in either order."""

    def __init__(self, *names: str) -> None:
        super().__init__()
        for number, name in enumerate(names):
            self.register_parameter(name, nn.Parameter(torch.full((2,), float(number))))


def test_averages_are_stored_by_name() -> None:
    stored = ExponentialMovingAverage(Named("a", "b"), 0.5).state_dict()
    other = ExponentialMovingAverage(Named("b", "a"), 0.5)
    other.load_state_dict(stored)
    assert other.averages["b"].tolist() == [1.0, 1.0]


def test_averages_in_the_order_of_parameters_are_still_read() -> None:
    average = ExponentialMovingAverage(Named("a", "b"), 0.5)
    average.load_state_dict({"averages": [torch.full((2,), 5.0), torch.full((2,), 6.0)], "updates": 7})
    assert (average.averages["b"].tolist(), average.updates) == ([6.0, 6.0], 7)


@pytest.mark.parametrize(
    "averages",
    [
        {"a": torch.zeros(2)},
        {"a": torch.zeros(2), "c": torch.zeros(2)},
        {"a": torch.zeros(2), "b": torch.zeros(3)},
        [torch.zeros(2)],
        [torch.zeros(2), torch.zeros(3)],
    ],
)
def test_averages_of_another_module_are_refused_and_change_nothing(averages: object) -> None:
    average = ExponentialMovingAverage(Named("a", "b"), 0.5)
    with pytest.raises((KeyError, ValueError)):
        average.load_state_dict({"averages": averages, "updates": 3})
    assert (average.averages["b"].tolist(), average.updates) == ([1.0, 1.0], 0)


def test_the_learning_rate_warms_up_then_decays() -> None:
    line = ScheduleConfig(warmup_steps=10, kind="linear", decay_start=20, decay_steps=10)
    assert [lr_factor(step, line) for step in (0, 5, 10, 20, 25, 30, 99)] == [0, 0.5, 1, 1, 0.5, 0, 0]
    with pytest.raises(ConfigError, match="decay_steps 0"):
        replace(line, decay_steps=0)
