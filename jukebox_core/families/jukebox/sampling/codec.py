"""The VQ-VAE behind the door: audio to codes and back, with arrays in and out."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, cast

import numpy as np
import torch

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from jukebox_core.families.jukebox.model.vqvae import VQVAE, LevelCodec


@dataclass(frozen=True, slots=True)
class VQVAECodec:
    """A VQ-VAE on its device."""

    vqvae: VQVAE
    code_axes: int = field(default=1, init=False)

    @torch.inference_mode()
    def encode(self, audio: NDArray[np.float32], levels: Sequence[int]) -> list[NDArray[np.int32]]:
        """Returns the codes of audio [batch, time] at each of `levels`, int32 [batch, tokens].

        Raises:
            AudioError: the audio is shorter than one token of a level.
            ConfigError: a level that the model does not have.
        """
        codes = self.vqvae.encode(torch.from_numpy(audio).to(self.vqvae.device), list(levels))
        return [tokens.cpu().numpy().astype(np.int32) for tokens in codes]

    @torch.inference_mode()
    def decode(self, codes: NDArray[np.integer[Any]], level: int) -> NDArray[np.float32]:
        """Returns audio, float32 [batch, time], of one level's codes [batch, tokens]; it may exceed 1.

        Raises:
            ConfigError: values outside the codebook, or a level that the model does not have.
        """
        tokens = torch.from_numpy(codes.astype(np.int64)).to(self.vqvae.device)
        audio: NDArray[np.float32] = self.vqvae.decode(tokens, level).float().cpu().numpy()
        return audio

    def decode_reach(self, level: int) -> int:
        """Returns the decoder's receptive field: tokens on either side of a token that change its audio."""
        return cast("LevelCodec", self.vqvae.levels[level]).decoder_reach()
