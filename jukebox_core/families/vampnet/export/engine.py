"""VampNet's networks as graphs in onnxruntime, in the place of the networks. Legend as in `graphs`."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from jukebox_core.families.vampnet.checkpoints.loading import load_codec
from jukebox_core.families.vampnet.export.names import DECODER, ENCODER

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from jukebox_core.export.session import Session
    from jukebox_core.families.vampnet.config import CodecConfig, TransformerConfig
    from jukebox_core.families.vampnet.model.codec import Codec

_HOST = torch.device("cpu")  # where sessions take and leave tensors, whatever computes


@dataclass(frozen=True, slots=True)
class GraphTransformer:
    """What sampling uses of a `VampTransformer`."""

    config: TransformerConfig
    session: Session
    device: torch.device = _HOST

    def __call__(self, codes_BKT: Tensor) -> Tensor:
        """Returns logits [B, T P, V], as `VampTransformer.forward`."""
        return torch.from_numpy(self.session.run({"codes": codes_BKT.numpy()})[0])


@dataclass(frozen=True, slots=True)
class GraphCodec:
    """What encoding and decoding use of a `Codec`."""

    config: CodecConfig
    sessions: Mapping[str, Session]
    path: Path  # of the weights
    device: torch.device = _HOST

    def codes(self, audio_B1N: Tensor, first: int = 0, stop: int | None = None) -> Tensor:
        """Returns codes [B, K, T], as `Codec.codes`."""
        codes_BKT = torch.from_numpy(self.sessions[ENCODER].run({"audio": audio_B1N.contiguous().numpy()})[0])
        return codes_BKT[..., first:stop]

    def decode(self, codes_BKT: Tensor) -> Tensor:
        """Returns audio [B, 1, N] of the codes of the first K codebooks, as `Codec.decode`.

        The graph takes all codebooks; of fewer, as the coarse ones alone, plain torch makes the sound.
        """
        if codes_BKT.shape[1] != self.config.n_codebooks:
            return _plain(self.path).decode(codes_BKT)
        return torch.from_numpy(self.sessions[DECODER].run({"codes": codes_BKT.contiguous().numpy()})[0])


@lru_cache(maxsize=1)
def _plain(path: Path) -> Codec:
    return load_codec(path)
