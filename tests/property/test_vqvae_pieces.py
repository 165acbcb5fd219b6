"""Computing sound and codes in pieces of any length changes neither (docs/upstream.md, VQ-VAE)."""

from __future__ import annotations

import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from jukebox_core.families.jukebox.config import VQVAEConfig
from jukebox_core.families.jukebox.model.vqvae import VQVAE

CONFIG = VQVAEConfig(
    sample_rate=44100,
    downs=(2, 1, 1),
    strides=(2, 2, 4),
    multipliers=(2, 1, 1),
    width=3,
    depth=2,
    embedding_width=4,
    bins=17,
    dilation_growth=2,
)


def _model() -> VQVAE:
    torch.manual_seed(0)
    model = VQVAE(CONFIG).double()  # in double, rounding cannot be taken for an edge
    for level in model.levels:
        level.codebook.normal_(std=0.3)
    return model


MODEL = _model()


@settings(max_examples=30)
@given(
    length=st.integers(CONFIG.hops[-1], 1500),
    piece=st.integers(8, 1600),
    batch=st.integers(1, 2),
    seed=st.integers(0, 2**16),
)
def test_pieces_agree_with_the_whole(length: int, piece: int, batch: int, seed: int) -> None:
    audio_BT = torch.randn(batch, length, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    whole = MODEL.encode(audio_BT, chunk=length)
    for level, (expected, codes) in enumerate(zip(whole, MODEL.encode(audio_BT, chunk=piece), strict=True)):
        assert torch.equal(codes, expected)
        tokens = max(1, piece // CONFIG.hops[level])
        decoded = MODEL.decode(codes, level, chunk=tokens)
        torch.testing.assert_close(decoded, MODEL.decode(codes, level, chunk=codes.shape[1]), atol=1e-9, rtol=0)
