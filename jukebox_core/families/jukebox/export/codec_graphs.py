"""The graphs of a VQ-VAE: encoder and decoder of each level. Legend: B batch, N audio samples, T tokens, C channels."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from jukebox_core.export.graph import Graph, Port
from jukebox_core.families.jukebox.export.names import DECODER, ENCODER
from jukebox_core.families.jukebox.model.vqvae import LevelCodec, nearest

if TYPE_CHECKING:
    from torch import Generator

    from jukebox_core.export.graph import Sizes
    from jukebox_core.families.jukebox.config import VQVAEConfig
    from jukebox_core.families.jukebox.model.vqvae import VQVAE

_LOUDNESS = 0.2  # of the noise that encoders are compared on
_BATCHES_AND_TOKENS = ((1, 1), (1, 2), (3, 7), (2, 65), (1, 300))


class EncoderGraph(nn.Module):
    """Audio of whole tokens to codes of one level."""

    def __init__(self, codec: LevelCodec) -> None:
        super().__init__()
        self.codec = codec
        del codec.decoder, codec.output

    def forward(self, audio_BN: Tensor) -> Tensor:
        """Returns [B, T]."""
        features_BCT = self.codec.encode(audio_BN)
        codes_M = nearest(features_BCT.transpose(1, 2).flatten(0, 1), self.codec.codebook)
        return codes_M.view(features_BCT.shape[0], -1)


class DecoderGraph(nn.Module):
    """Codes of one level to audio."""

    def __init__(self, codec: LevelCodec) -> None:
        super().__init__()
        self.codec = codec
        del codec.encoder

    def forward(self, codes_BT: Tensor) -> Tensor:
        """Returns [B, N]."""
        return self.codec.decode(self.codec.codebook[codes_BT].transpose(1, 2))


def codec_graph(vqvae: VQVAE, part: str, level: int) -> Graph:
    """Returns a graph of a loaded VQ-VAE, which is changed."""
    config, codec = vqvae.config, vqvae.levels[level]
    assert isinstance(codec, LevelCodec)
    hop, reach = config.hops[level], codec.decoder_reach()
    audio = Port("audio", ("batch", f"{hop}*tokens"), "float32", "sound")
    codes = Port("codes", ("batch", "tokens"), "int64", "tokens")

    def draw(sizes: Sizes, generator: Generator) -> tuple[Tensor, ...]:
        if part == ENCODER:
            return (torch.randn(audio.shape(sizes), generator=generator) * _LOUDNESS,)
        return (torch.randint(config.bins, codes.shape(sizes), generator=generator),)

    module = EncoderGraph(codec) if part == ENCODER else DecoderGraph(codec)
    return Graph(
        name=f"{part}_{level}",
        module=module.eval(),
        inputs=(audio,) if part == ENCODER else (codes,),
        outputs=(codes,) if part == ENCODER else (audio,),
        example={"batch": 2, "tokens": 6},
        cases=tuple({"batch": batch, "tokens": tokens} for batch, tokens in _BATCHES_AND_TOKENS),
        draw=draw,
        facts=_facts(config, level) | ({"reach": reach} if part == DECODER else {}),
    )


def _facts(config: VQVAEConfig, level: int) -> dict[str, object]:
    hop = config.hops[level]
    return {
        "sample_rate": config.sample_rate,
        "level": level,
        "hop": hop,
        "codes": config.bins,
        "length": f"audio has a multiple of {hop} samples: pad it with zeros at its end. A length between is accepted, "
        "and its last samples are context without a token of their own",
        "levels": "codes are in [0, codes); audio is mono, about -1 to 1, and may exceed that: limit it",
    }
