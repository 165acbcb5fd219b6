from __future__ import annotations

import torch

from jukebox_core.families.mt3.config import PerceiverConfig
from jukebox_core.families.mt3.model.perceiver import MixtureOfExperts, Perceiver, rotated

SIZES = PerceiverConfig(
    convolutions=4, latents=6, width=8, heads=2, blocks=2, local_depth=1, temporal_depth=2, experts=4, experts_used=2,
    mlp_width=12, channels=3, positions=24,
)  # fmt: skip


@torch.no_grad()
def test_experts_equal_a_sum_over_all_of_them() -> None:
    torch.manual_seed(0)
    layer, x = MixtureOfExperts(SIZES), torch.randn(5, 7, 8)
    weights = layer.router(x).softmax(-1)
    best = weights.topk(2, dim=-1)
    kept = torch.zeros_like(weights).scatter(-1, best.indices, best.values)
    kept = kept / kept.sum(-1, keepdim=True)
    expected = sum(kept[..., index, None] * expert(x) for index, expert in enumerate(layer.experts))
    torch.testing.assert_close(layer(x), expected)


@torch.no_grad()
def test_segments_of_a_batch_do_not_affect_each_other() -> None:
    torch.manual_seed(0)
    model, frames = Perceiver(SIZES).eval(), torch.rand(3, 5, 64)
    together = model(frames)
    assert together.shape == (3, 5, 6, 8)
    assert torch.equal(together, torch.cat([model(each[None]) for each in frames]))


@torch.no_grad()
def test_frames_are_read_by_other_frames_but_not_across_segments() -> None:
    torch.manual_seed(0)
    model, frames = Perceiver(SIZES).eval(), torch.rand(2, 20, 64)
    changed = frames.clone()
    changed[0, 0] += 1.0
    differs = (model(changed) - model(frames)).abs().amax((-1, -2)) > 0
    assert differs[0].all()
    assert not differs[1].any()


def test_a_rotation_keeps_lengths_and_turns_by_its_angle() -> None:
    x = torch.randn(2, 2, 3, 8)
    angles = torch.rand(3, 2)
    turned = rotated(x, angles)
    assert torch.equal(turned[..., 4:], x[..., 4:])
    pairs = [torch.view_as_complex(each[..., :4].reshape(2, 2, 3, 2, 2).contiguous()) for each in (x, turned)]
    torch.testing.assert_close(pairs[1], pairs[0] * torch.polar(torch.ones(3, 2), angles))
