"""Recordings of any length are computed in pieces that are the whole; odd strides too."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from jukebox_core.families.vampnet.model.codec import Codec
from jukebox_core.families.vampnet.sampling.codec import (
    GridCodec,
    decoded,
    decoder_reach,
    encoded,
    encoder_reach,
)
from tests.helpers.models.tiny_vampnet import CODEC

CONFIGS = [
    CODEC,
    replace(CODEC, encoder_rates=(3, 4), decoder_rates=(4, 3)),
    replace(CODEC, encoder_rates=(2, 2), decoder_rates=(5, 2)),
]


@pytest.mark.parametrize("config", CONFIGS, ids=["even", "odd", "rates differ"])
def test_pieces_are_the_whole(config: object) -> None:
    torch.manual_seed(3)
    codec = Codec(config).eval()  # type: ignore[arg-type]
    sizes = codec.config
    piece = 40
    samples = 6 * piece * sizes.hop
    audio = torch.randn(1, 1, samples) * 0.3
    with torch.inference_mode():
        whole = codec.encode(audio).codes_BKT
        assert whole.shape[2] > piece + 2 * encoder_reach(sizes), "else it is one piece"
        assert torch.equal(encoded(codec, audio, piece), whole)
        heard = codec.decode(whole)[:, 0]
        assert whole.shape[2] > piece + 2 * decoder_reach(sizes)
        torch.testing.assert_close(decoded(codec, whole, piece), heard, atol=1e-5, rtol=0)


def test_the_door_gives_coarse_codebooks_and_refuses_other_codes() -> None:
    made = GridCodec(Codec(CODEC).eval(), 2)
    audio = torch.randn(1, 300).numpy()
    fine, coarse = made.encode(audio, (0, 1))
    assert (fine[:, :2] == coarse).all()
    assert made.decode(coarse, 1).shape == (1, CODEC.decoded(coarse.shape[2]))
    with pytest.raises(Exception, match="codes are from"):
        made.decode(fine + 99, 0)
    with pytest.raises(Exception, match="at most 5 codebooks"):
        made.decode(fine[0], 0)
