from __future__ import annotations

import pytest
import torch

from jukebox_core.runtime import finite
from jukebox_core.runtime.finite import are_finite, copy_finite, first_not_finite, is_finite

BAD = pytest.mark.parametrize("value", [float("nan"), float("inf"), -float("inf")])
FLOATS = pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16, torch.float64])


@BAD
@FLOATS
def test_one_bad_number_is_found_anywhere(value: float, dtype: torch.dtype) -> None:
    for place in (0, 500, 999):
        numbers = torch.ones(1000, dtype=dtype)
        assert is_finite(numbers)
        numbers[place] = value
        assert not is_finite(numbers)
        assert not are_finite([torch.ones(3), numbers.float()])
        assert first_not_finite({"a": torch.ones(2), "b": numbers, "c": numbers}) == "b"


def test_opposite_infinities_do_not_cancel() -> None:
    assert not is_finite(torch.tensor([torch.inf, -torch.inf]))


def test_finite_numbers_whose_sum_overflows_are_finite() -> None:
    assert is_finite(torch.full((8,), 3e38))
    assert are_finite([torch.full((8,), 3e38), torch.ones(2)])
    assert is_finite(torch.full((4,), 6e4, dtype=torch.float16))
    assert copy_finite(torch.full((8,), 3e38), torch.empty(8))


def test_integers_and_shapes_without_memory_are_finite() -> None:
    assert is_finite(torch.arange(5))
    assert is_finite(torch.empty(5, device="meta"))
    assert are_finite([torch.arange(5)])
    assert first_not_finite({"a": torch.arange(5)}) is None


@FLOATS
def test_a_copy_is_the_conversion_of_torch(dtype: torch.dtype, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(finite, "_PIECE", 7)
    source = torch.randn(5, 9)
    for stored in (source, source.t(), source[:, ::2], source[0, 0], source[:0]):
        target = torch.empty_like(stored, dtype=dtype)
        assert copy_finite(stored, target)
        wanted = stored.to(dtype, copy=True)
        assert torch.equal(target, wanted)
        assert target.stride() == wanted.stride()


@BAD
def test_a_copy_finds_a_bad_number_in_any_piece(value: float, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(finite, "_PIECE", 7)
    for place in (0, 6, 7, 44):
        source = torch.zeros(45)
        source[place] = value
        assert not copy_finite(source, torch.empty(45))
        assert not copy_finite(source.view(5, 9).t(), torch.empty(9, 5))


def test_a_copy_finds_a_number_that_the_new_type_cannot_hold() -> None:
    assert not copy_finite(torch.tensor([1.0, 1e6]), torch.empty(2, dtype=torch.float16))
    assert copy_finite(torch.tensor([1.0, 1e6]), torch.empty(2, dtype=torch.bfloat16))
    assert copy_finite(torch.tensor([1, 2]), torch.empty(2, dtype=torch.int64))
    assert not copy_finite(torch.tensor([-65520.0]), torch.empty(1, dtype=torch.float16))
    assert copy_finite(torch.tensor([-65519.0]), torch.empty(1, dtype=torch.float16))


def test_a_copy_finds_a_bad_number_beside_any_other_and_of_any_type() -> None:
    for dtype in (torch.float16, torch.bfloat16, torch.float32, torch.float64):
        source = torch.full((300,), 6e4, dtype=dtype)  # whose squares sum to more than half precision holds
        for target in (torch.empty(300, dtype=torch.float16), torch.empty(300)):
            assert copy_finite(source, target)
            assert not copy_finite(torch.where(torch.arange(300) == 299, -torch.inf, source), target)
