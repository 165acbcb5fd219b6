"""The graphs of a VampNet: the codec's encoder and decoder, and the transformers.

Weight normalisation is folded, and low-rank updates are merged. The loop over passes, masks, noise, resampling,
loudness and padding stay outside. Legend: B batch, K codebooks, T tokens, N audio samples, P predicted, V codes.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from jukebox_core.export.graph import Graph, Port
from jukebox_core.families.vampnet.checkpoints.loading import load_codec, load_transformer
from jukebox_core.families.vampnet.config import CODEC
from jukebox_core.families.vampnet.export.names import DECODER, ENCODER
from jukebox_core.families.vampnet.model.convolution import fold_norms
from jukebox_core.families.vampnet.sampling.codec import decoder_reach, encoder_reach

if TYPE_CHECKING:
    from collections.abc import Mapping

    from torch import Generator

    from jukebox_core.export.graph import Sizes
    from jukebox_core.families.vampnet.config import CodecConfig, TransformerConfig
    from jukebox_core.families.vampnet.model.codec import Codec
    from jukebox_core.families.vampnet.model.transformer import VampTransformer
    from jukebox_core.protocols import WeightFile

_LOUDNESS = 0.1  # of the noise that encoders are compared on
_SOME = 64  # tokens, on which strides are tried
_SECONDS = 3.0  # of the longest codec case


class EncoderGraph(nn.Module):
    """Prepared audio of whole tokens to codes."""

    def __init__(self, codec: Codec) -> None:
        super().__init__()
        self.codec = codec
        del codec.decoder

    def forward(self, audio_B1N: Tensor) -> Tensor:
        """Returns [B, K, T]."""
        return self.codec.quantise(self.codec.encoder(audio_B1N)).codes_BKT


class DecoderGraph(nn.Module):
    """Codes to audio."""

    same_KV: Tensor | None

    def __init__(self, codec: Codec) -> None:
        super().__init__()
        self.codec = codec
        del codec.encoder
        ids_KV = torch.arange(codec.config.codebook_size).expand(codec.config.n_codebooks, -1)
        same_KV = codec.canonical(ids_KV[None])[0]
        # Codes whose vectors have one direction sound as the first of them (`Codec.canonical`): most codecs have none.
        self.register_buffer("same_KV", None if torch.equal(same_KV, ids_KV) else same_KV)

    def forward(self, codes_BKT: Tensor) -> Tensor:
        """Returns [B, 1, N]."""
        if self.same_KV is not None:
            books = zip(self.same_KV, codes_BKT.unbind(1), strict=True)
            codes_BKT = torch.stack([same_V[codes_BT] for same_V, codes_BT in books], 1)
        return self.codec.decoder(self.codec.quantised(codes_BKT))  # type: ignore[no-any-return]


def open_graph(name: str, files: Mapping[str, WeightFile]) -> Graph:
    """Returns a graph of a model, with its weights; errors as `load_codec` and `load_transformer`."""
    codec = load_codec(files[CODEC].path)
    if name in (ENCODER, DECODER):
        fold_norms(codec)
        return encoder_graph(codec) if name == ENCODER else decoder_graph(codec)
    return transformer_graph(name, load_transformer(files[name].path, codec), codec.config)


def encoder_graph(codec: Codec) -> Graph:
    """Returns the graph of an encoder; `codec` is changed."""
    config = codec.config
    unit = math.prod(config.encoder_rates)

    def draw(sizes: Sizes, generator: Generator) -> tuple[Tensor, ...]:
        shape = sizes["batch"], 1, unit * sizes["frames"]
        return (torch.randn(shape, generator=generator) * _LOUDNESS,)

    made = "frames" if config.frames(unit * _SOME) == _SOME else "tokens"  # odd strides lose some
    return Graph(
        name=ENCODER,
        module=EncoderGraph(codec).eval(),
        inputs=(Port("audio", ("batch", 1, f"{unit}*frames"), "float32"),),
        outputs=(Port("codes", ("batch", config.n_codebooks, made), "int64", "tokens"),),
        example={"batch": 2, "frames": 6},
        cases=_cases(config, "frames"),
        draw=draw,
        facts=_codec_facts(config)
        | {
            "length": f"audio has a multiple of {unit} samples: pad it with zeros at its end. A length between is "
            "accepted, and its last samples are ignored",
            "reach": encoder_reach(config),
            "before": "mono, at sample_rate, at a loudness of -24 LUFS",
        },
    )


def decoder_graph(codec: Codec) -> Graph:
    """Returns the graph of a decoder; `codec` is changed."""
    config = codec.config

    def draw(sizes: Sizes, generator: Generator) -> tuple[Tensor, ...]:
        shape = sizes["batch"], config.n_codebooks, sizes["frames"]
        return (torch.randint(config.codebook_size, shape, generator=generator),)

    made = f"{config.hop}*frames" if config.decoded(_SOME) == _SOME * config.hop else "samples"  # odd strides add some
    return Graph(
        name=DECODER,
        module=DecoderGraph(codec).eval(),
        inputs=(Port("codes", ("batch", config.n_codebooks, "frames"), "int64"),),
        outputs=(Port("audio", ("batch", 1, made), "float32", "sound"),),
        example={"batch": 2, "frames": 6},
        cases=_cases(config, "frames"),
        draw=draw,
        facts=_codec_facts(config) | {"reach": decoder_reach(config)},
    )


def transformer_graph(name: str, model: VampTransformer, codec: CodecConfig) -> Graph:
    """Returns the graph of a transformer, coarse or c2f; `model` is changed."""
    fold_norms(model)
    sizes = model.config

    def draw(named: Sizes, generator: Generator) -> tuple[Tensor, ...]:
        shape = named["batch"], sizes.n_codebooks, named["time"]
        codes_BKT = torch.randint(sizes.vocab_size, shape, generator=generator)
        masked_BKT = torch.rand(shape, generator=generator) < 0.5
        masked_BKT[:, : sizes.n_conditioning_codebooks] = False
        return (codes_BKT.masked_fill(masked_BKT, sizes.mask_id),)

    lengths = (("time", 1), ("time", 2), ("time", 10), ("time", 100), ("time", 173), ("time", 575))
    batches = (1, 3, 2, 1, 2, 1)
    return Graph(
        name=name,
        module=model,
        inputs=(Port("codes", ("batch", sizes.n_codebooks, "time"), "int64"),),
        outputs=(Port("logits", ("batch", f"{sizes.n_predicted}*time", sizes.vocab_size), "float32", "logits"),),
        example={"batch": 2, "time": 17},
        cases=tuple({"batch": batch, axis: length} for batch, (axis, length) in zip(batches, lengths, strict=True)),
        draw=draw,
        quantised=("classifier",),
        facts=_transformer_facts(sizes, codec),
    )


def _cases(config: CodecConfig, axis: str) -> tuple[Sizes, ...]:
    long = max(8, round(_SECONDS * config.sample_rate / config.hop))
    return tuple({"batch": batch, axis: frames} for batch, frames in ((1, 1), (1, 2), (3, 7), (2, 57), (1, long)))


def _codec_facts(config: CodecConfig) -> dict[str, Any]:
    return {
        "sample_rate": config.sample_rate,
        "hop": config.hop,
        "codebooks": config.n_codebooks,
        "codes": config.codebook_size,
        "levels": "codes are in [0, codes); audio is in (-1, 1)",
    }


def _transformer_facts(sizes: TransformerConfig, codec: CodecConfig) -> dict[str, Any]:
    kept, predicted = sizes.n_conditioning_codebooks, sizes.n_predicted
    return {
        "sample_rate": codec.sample_rate,
        "hop": codec.hop,
        "codebooks": sizes.n_codebooks,
        "conditioning_codebooks": kept,
        "codes": sizes.vocab_size,
        "mask_id": sizes.mask_id,
        "logits": f"row t * {predicted} + p is codebook {kept} + p at time t",
        "loop": [
            "Set the tokens to be made to mask_id. Repeat for s = 1 to S passes, usually 12:",
            "logits of the codes; divide by the temperature; softmax; draw a code for each token, as the argmax of "
            "probability / standard exponential noise",
            "a token that was masked takes the code drawn; the others stay, and their confidence is infinite",
            "confidence = log probability of the code drawn + mask temperature (10.5) * (1 - s / S) * Gumbel noise",
            "n = floor(cos(pi / 2 * s / S) * tokens masked at first); before the last pass at least 1, and less than "
            "before this one; the n tokens of least confidence are masked again",
        ],
    }
