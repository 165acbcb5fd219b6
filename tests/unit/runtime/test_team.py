"""The number of threads of a step: by its size, and by the times of steps on a simulated machine."""

from __future__ import annotations

import random
from typing import TYPE_CHECKING

import pytest

from jukebox_core.runtime.native.team import CALL_SECONDS, Team, useful_threads

if TYPE_CHECKING:
    from collections.abc import Callable

ALONE = 0.06  # seconds of a step of one thread


def quiet(threads: int) -> float:
    return ALONE / threads


def busy(threads: int, free: int) -> float:
    """A step where other programs use all cores but `free`: more threads wait for those that do not run."""
    return quiet(threads) if threads <= free else 10 * ALONE


def spent(team: Team, seconds: Callable[[int], float], steps: int, noise: float = 0.0) -> float:
    """Seconds of so many steps, whose times vary by the share `noise`."""
    numbers, total = random.Random(steps), 0.0
    for _ in range(steps):
        took = seconds(team.count) * (1 + noise * numbers.uniform(-1, 1))
        team.record(took)
        total += took
    return total


@pytest.mark.parametrize("most", [2, 8])
@pytest.mark.parametrize("noise", [0.0, 0.15])
def test_all_threads_are_used_on_a_quiet_machine(most: int, noise: float) -> None:
    assert spent(Team(most, most), quiet, 2000, noise) < 1.05 * 2000 * quiet(most)


@pytest.mark.parametrize("noise", [0.0, 0.15])
def test_one_thread_is_used_beside_another_program_on_two_cores(noise: float) -> None:
    assert spent(Team(2, 2), lambda threads: busy(threads, 1), 1000, noise) < 1.2 * 1000 * ALONE


@pytest.mark.parametrize("noise", [0.0, 0.15])
def test_the_free_cores_of_many_are_found(noise: float) -> None:
    team = Team(8, 8)
    spent(team, lambda threads: busy(threads, 5), 300, noise)
    assert spent(team, lambda threads: busy(threads, 5), 1000, noise) < 1.35 * 1000 * quiet(5)


def test_a_machine_that_becomes_busy_and_quiet_again_is_noticed() -> None:
    team = Team(2, 2)
    spent(team, quiet, 500)
    assert team.count == 2
    assert spent(team, lambda threads: busy(threads, 1), 500, 0.1) < 1.4 * 500 * ALONE
    spent(team, quiet, 1000)
    assert spent(team, quiet, 1000) < 1.05 * 1000 * quiet(2)


def test_steps_that_become_longer_in_a_window_keep_their_threads() -> None:
    team, total = Team(4, 4), 0.0
    for step in range(4000):
        took = quiet(team.count) * (1 + step / 4000)
        team.record(took)
        total += took
    assert total < 1.05 * 1.5 * 4000 * quiet(4)


def test_a_team_of_one_stays_one() -> None:
    team = Team(1, 8)
    spent(team, quiet, 100)
    assert team.count == 1


def test_small_steps_are_worth_one_thread() -> None:
    mini, upsampler = 4e6, 3.2e9  # bytes
    assert useful_threads(8, weight_bytes=mini, operations=mini / 2) == 1
    assert useful_threads(2, weight_bytes=upsampler, operations=upsampler / 2) == 2
    assert useful_threads(8, weight_bytes=upsampler / 4, operations=upsampler / 2) == 8
    assert useful_threads(8, weight_bytes=mini, operations=64 * mini / 2) == 2
    assert useful_threads(1, weight_bytes=upsampler, operations=upsampler) == 1
    assert useful_threads(2, weight_bytes=1e6, operations=1e9, share=CALL_SECONDS) == 2
