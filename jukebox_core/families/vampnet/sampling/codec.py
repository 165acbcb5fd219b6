"""The codec behind the door: recordings of any length to grids of codes and back, in pieces of bounded memory.

A piece is computed with the audio or the codes on either side of it that reach into it, so that the pieces are the
whole. Legend: B batch, N audio samples, K codebooks, T tokens.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
import torch

from jukebox_core.errors import ConfigError
from jukebox_core.families.vampnet.config import FINE_LEVEL
from jukebox_core.families.vampnet.sound.front_end import prepare

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray
    from torch import Tensor

    from jukebox_core.families.vampnet.config import CodecConfig

PIECE = 1500  # tokens that are computed at once, about 26 s of the released models
_ENCODER_UNITS = 3 * (1 + 3 + 9)  # samples on one side that three residual units of kernel 7 see
_DECODER_UNITS = 5 * (1 + 3 + 5) + 3 * 5  # and three residual units of kernel 11


class AnyCodec(Protocol):
    """A codec, whatever computes it."""

    @property
    def config(self) -> CodecConfig:
        """Its sizes."""
        ...

    @property
    def device(self) -> torch.device:
        """Where audio and codes are."""
        ...

    def codes(self, audio_B1N: Tensor, first: int = 0, stop: int | None = None) -> Tensor:
        """Returns the codes [B, K, T] of the tokens from `first` to `stop` of audio of whole tokens."""
        ...

    def decode(self, codes_BKT: Tensor) -> Tensor:
        """Returns audio [B, 1, N] of the codes of the first K codebooks."""
        ...


@dataclass(frozen=True, slots=True)
class GridCodec:
    """A codec on its device."""

    codec: AnyCodec
    coarse: int  # codebooks of level 1
    piece: int = PIECE
    code_axes: int = field(default=2, init=False)

    @torch.inference_mode()
    def encode(self, audio: NDArray[np.float32], levels: Sequence[int]) -> list[NDArray[np.int32]]:
        """Returns the codes of audio [batch, time] at each of `levels`, int32 [batch, codebooks, tokens].

        The audio is at the codec's rate. Its loudness is made -24 LUFS first, as `prepare` does.
        """
        prepared = prepare(torch.from_numpy(audio)[:, None], self.codec.config.sample_rate, self.codec.config)
        codes = encoded(self.codec, prepared.audio_B1T, self.piece).cpu().numpy().astype(np.int32)
        return [codes if level == FINE_LEVEL else codes[:, : self.coarse].copy() for level in levels]

    @torch.inference_mode()
    def decode(self, codes: NDArray[np.integer[Any]], level: int) -> NDArray[np.float32]:  # noqa: ARG002 - by the protocol
        """Returns audio [batch, time] of codes [batch, codebooks, tokens]; fewer codebooks sound coarser.

        Raises:
            ConfigError: values outside the codebooks, or more codebooks than the codec has.
        """
        config = self.codec.config
        if codes.ndim != 3 or not 1 <= codes.shape[1] <= config.n_codebooks or not codes.shape[2]:
            raise ConfigError(
                f"codes have shape {list(codes.shape)}; give [batch, codebooks, tokens] with at most "
                f"{config.n_codebooks} codebooks"
            )
        if not 0 <= codes.min() <= codes.max() < config.codebook_size:
            raise ConfigError(
                f"codes are from {codes.min()} to {codes.max()}; they must be from 0 to {config.codebook_size - 1}"
            )
        audio: NDArray[np.float32] = decoded(self.codec, torch.from_numpy(codes.astype(np.int64)), self.piece).numpy()
        return audio

    def decode_reach(self, level: int) -> int:  # noqa: ARG002 - by the protocol
        """Returns the decoder's receptive field: tokens on either side of a token that change its audio."""
        return decoder_reach(self.codec.config)


def encoded(codec: AnyCodec, audio_B1N: Tensor, piece: int = PIECE) -> Tensor:
    """Returns the codes [B, K, T] of prepared audio, which is computed in pieces of `piece` tokens."""
    device, stride = codec.device, math.prod(codec.config.encoder_rates)
    reach, total = encoder_reach(codec.config), codec.config.frames(audio_B1N.shape[-1])
    if total <= piece + 2 * reach:
        padding = codec.config.padded(audio_B1N.shape[-1]) - audio_B1N.shape[-1]
        return codec.codes(torch.nn.functional.pad(audio_B1N.to(device), (0, padding)))
    made = []
    for at in range(0, total, piece):
        first, stop = max(0, at - reach), min(total, at + piece)
        last = audio_B1N.shape[-1] if stop + reach >= total else (stop + reach) * stride
        made.append(codec.codes(audio_B1N[..., first * stride : last].to(device), at - first, stop - first))
    return torch.cat(made, 2)


def decoded(codec: AnyCodec, codes_BKT: Tensor, piece: int = PIECE) -> Tensor:
    """Returns audio [B, N] of codes, on the CPU, which is computed in pieces of `piece` tokens."""
    device, stride = codec.device, codec.config.hop
    reach, total = decoder_reach(codec.config), codes_BKT.shape[2]
    if total <= piece + 2 * reach:
        return codec.decode(codes_BKT.to(device))[:, 0].float().cpu()
    made = []
    for at in range(0, total, piece):
        first, stop = max(0, at - reach), min(total, at + piece)
        part_BN = codec.decode(codes_BKT[..., first : min(total, stop + reach)].to(device))[:, 0].float().cpu()
        end = part_BN.shape[-1] if stop == total else (stop - first) * stride
        made.append(part_BN[:, (at - first) * stride : end])
    return torch.cat(made, 1)


def encoder_reach(config: CodecConfig) -> int:
    """Returns how many tokens on either side of a token share audio with it, at most."""
    reach, hop = 3.0, 1
    for rate in config.encoder_rates:
        reach += hop * (_ENCODER_UNITS + 2 * rate)
        hop *= rate
    return math.ceil((reach + hop) / hop) + 1  # the last convolution reaches a token further


def decoder_reach(config: CodecConfig) -> int:
    """Returns how many tokens on either side of a token change its audio, at most."""
    reach, hop = 3.0, 1
    for rate in config.decoder_rates:
        reach += 2 / hop
        hop *= rate
        reach += _DECODER_UNITS / hop
    return math.ceil(reach + 3 / hop) + 1
