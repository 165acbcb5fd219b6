from __future__ import annotations

import pytest
import torch

from jukebox_core.runtime import finite
from jukebox_core.runtime.finite import are_finite, copy_finite, first_not_finite, is_finite
from jukebox_core.runtime.native.compiled import is_compiled, library

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


@pytest.fixture(params=["kernel", "torch"], autouse=True)
def copied_by(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Copies of every test are made by the kernel, which is compiled for it, and by torch."""
    if request.param == "torch":
        monkeypatch.setattr(finite, "can_copy", lambda *_: False)
    else:
        library()
        is_compiled.cache_clear()


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


@pytest.mark.parametrize("target", [torch.float32, torch.bfloat16])
def test_every_half_is_copied_to_the_bit(target: torch.dtype) -> None:
    halves = torch.arange(-(2**15), 2**15, dtype=torch.int32).to(torch.int16).view(torch.float16)
    halves = halves[halves.isfinite()]
    copied = torch.empty(halves.shape, dtype=target)
    assert copy_finite(halves, copied)
    assert copied.view(torch.int16).equal(halves.to(target).view(torch.int16))


@pytest.mark.parametrize("count", [1, 15, 4097, 3_000_001])
def test_conversions_to_bfloat16_round_as_those_of_torch(count: int) -> None:
    source = (torch.randint(-(2**31), 2**31 - 1, (count,), dtype=torch.int64).to(torch.int32)).view(torch.float32)
    source = torch.where(source.isfinite() & (source.abs() < 1e38), source, 1.0)
    copied = torch.empty(count, dtype=torch.bfloat16)
    assert copy_finite(source, copied)
    assert copied.equal(source.bfloat16())
    assert not copy_finite(torch.cat([source, torch.tensor([torch.nan])]), torch.empty(count + 1, dtype=torch.bfloat16))


@BAD
def test_a_bad_bfloat16_is_found_in_a_copy_of_its_own_type(value: float) -> None:
    source = torch.ones(70, dtype=torch.bfloat16)
    assert copy_finite(source, torch.empty_like(source))
    source[69] = value
    assert not copy_finite(source, torch.empty_like(source))


def test_a_finite_number_that_becomes_infinite_as_bfloat16_is_found() -> None:
    largest = torch.finfo(torch.float32).max
    assert copy_finite(torch.tensor([largest]), torch.empty(1))
    assert not copy_finite(torch.tensor([1.0, largest]), torch.empty(2, dtype=torch.bfloat16))
