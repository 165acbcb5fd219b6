"""Products by tiles and by vectors: the same bits for a row in every batch; the instructions of tiles, emulated."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
import torch

from jukebox_core.runtime.native import compiled, matrices
from jukebox_core.runtime.native.matrices import Arena, PackedProjection, packed_bytes
from jukebox_core.runtime.quantise import quantise_per_channel

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from torch import Tensor

DTYPES = pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.int8])
SIZES = pytest.mark.parametrize(("inputs", "outputs"), [(36, 70), (96, 70), (128, 70), (1088, 33), (1200, 32)])
ROWS = ((0, 1), (3, 5), (2, 9), (0, 16), (20, 21), (1, 18), (7, 40), (16, 300))  # of the batch, first and last


def random_product(dtype: torch.dtype, inputs: int, outputs: int) -> tuple[PackedProjection, Tensor, Tensor]:
    """Returns a packed matrix of random weights, 300 rows to multiply it with, and what comes of them in float64."""
    torch.manual_seed(inputs)
    x, weight, bias = torch.randn(300, inputs), torch.randn(inputs, outputs), torch.randn(outputs)
    stored, scale = quantise_per_channel(weight) if dtype is torch.int8 else (weight.to(dtype), None)
    packed = PackedProjection(stored, bias, scale, Arena(packed_bytes(weight.shape, stored.dtype)))
    exact = x.to(torch.bfloat16 if dtype is torch.bfloat16 else torch.float32).double() @ stored.double()
    return packed, x, exact * (1 if scale is None else scale) + bias


def check_rows(packed: PackedProjection, x: Tensor) -> None:
    """Each row has the same bits in batches of other sizes."""
    whole = packed(x)
    for first, last in ROWS:
        assert packed(x[first:last]).equal(whole[first:last]), (first, last)


@DTYPES
@SIZES
def test_a_row_is_the_same_bits_in_every_batch(dtype: torch.dtype, inputs: int, outputs: int) -> None:
    packed, x, exact = random_product(dtype, inputs, outputs)
    check_rows(packed, x)
    distance = (packed(x).double() - exact).norm() / exact.norm()
    assert distance < (0.01 if dtype is torch.int8 else 1e-5)  # with int8 weights, activations are rounded too


@pytest.fixture(scope="module")
def emulated(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """Within it, kernels are those with emulated tiles, whatever the CPU has."""
    folder = tmp_path_factory.mktemp("kernels")
    flags = tuple("-O1" if flag == "-O3" else flag for flag in compiled.FLAGS)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_CACHE_HOME", str(folder))
        patch.setattr(compiled, "FLAGS", (*flags, "-DTILES_EMULATED"))
        compiled.library.cache_clear()
        yield folder
    compiled.library.cache_clear()


@pytest.mark.slow
@DTYPES
@SIZES
def test_emulated_tiles(
    emulated: Path, dtype: torch.dtype, inputs: int, outputs: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A row has the same bits in every batch; with int8 weights, also those of the kernels that this CPU is given."""
    packed, x, exact = random_product(dtype, inputs, outputs)
    check_rows(packed, x)
    found = packed(x)
    assert (found.double() - exact).norm() < (0.01 if dtype is torch.int8 else 1e-5) * exact.norm()
    assert list(emulated.rglob("*.so"))
    with pytest.MonkeyPatch.context() as undone:
        undone.setattr(compiled, "FLAGS", tuple(flag for flag in compiled.FLAGS if flag != "-DTILES_EMULATED"))
        plain = compiled.library.__wrapped__()
    monkeypatch.setattr(matrices, "library", lambda: plain)
    if dtype is torch.int8:
        assert packed(x).equal(found)
    else:
        torch.testing.assert_close(packed(x), found, atol=1e-4, rtol=1e-4)
