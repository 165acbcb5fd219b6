"""The feed-forward half of a layer in one call, against plain torch, and with the same bits in every batch."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from jukebox_core.runtime.native.feed_forward import can_feed, feed_forward
from jukebox_core.runtime.native.matrices import Arena, PackedProjection, packed_bytes
from jukebox_core.runtime.quantise import quantise_per_channel

WIDTH, HIDDEN = 132, 260
PRECISIONS = pytest.mark.parametrize(
    ("dtype", "within"), [(torch.float32, 1e-5), (torch.bfloat16, 0.01), (torch.int8, 0.02)]
)


def packed(weight_IO: Tensor, bias_O: Tensor, dtype: torch.dtype) -> PackedProjection:
    stored, scale = quantise_per_channel(weight_IO) if dtype is torch.int8 else (weight_IO.to(dtype), None)
    return PackedProjection(stored, bias_O, scale, Arena(packed_bytes(weight_IO.shape, stored.dtype)))


@PRECISIONS
@pytest.mark.parametrize("scale", [1.0, 0.25])
@pytest.mark.parametrize("threads", [1, 2])
def test_it_is_that_of_plain_torch(dtype: torch.dtype, within: float, scale: float, threads: int) -> None:
    torch.manual_seed(0)
    x, update = torch.randn(3, 190, WIDTH), torch.randn(3, 190, WIDTH)
    into, out = torch.randn(WIDTH, HIDDEN) / 8, torch.randn(HIDDEN, WIDTH) / 8
    norm, bias_in, bias_out = nn.LayerNorm(WIDTH), torch.randn(HIDDEN), torch.randn(WIDTH)
    nn.init.normal_(norm.weight, 1, 0.1)
    nn.init.normal_(norm.bias, 0, 0.1)
    first, second = packed(into, bias_in, dtype), packed(out, bias_out, dtype)
    assert can_feed(x, first, second)
    assert not can_feed(x.bfloat16(), first, second)
    assert not can_feed(x, nn.Linear(WIDTH, HIDDEN), second)
    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        with torch.no_grad():
            hidden = norm(x + update) @ into + bias_in
            fed = (hidden * torch.sigmoid(1.702 * hidden)) @ out + bias_out
            found = feed_forward(x, update, norm, first, second, scale)
            assert (found - (x + scale * (update + fed))).norm() < within * fed.norm()
            for rows in (1, 17, 100):
                part = feed_forward(x[:1, :rows], update[:1, :rows], norm, first, second, scale)
                assert part.equal(found[:1, :rows])
    finally:
        torch.set_num_threads(before)
