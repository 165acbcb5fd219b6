"""Excerpts of recordings as the codec hears them: mono, at its rate, made -24 LUFS one by one. Legend: N samples."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import torch
from torch.utils.data import Dataset

from jukebox_core.families.vampnet.sound.front_end import TARGET, limited, normalised
from jukebox_core.families.vampnet.sound.loudness import loudness

if TYPE_CHECKING:
    from collections.abc import Sequence

    from torch import Tensor

    from jukebox_core.datasets.clips import AudioClips


class LevelledClips(Dataset["Tensor"]):
    """Clips of one loudness, float32 [N]; with a gain, each differs from it at random.

    Args:
        clips: mono.
        rate: their sample rate, Hz.
        gain_db: the level differs by up to this much, either way.
        seed: of the levels.
    """

    def __init__(self, clips: AudioClips, rate: int, gain_db: float, seed: int) -> None:
        self._clips, self._rate, self._gain_db, self._seed = clips, rate, gain_db, seed

    def __len__(self) -> int:
        """Number of clips of an epoch."""
        return len(self._clips)

    def __getitem__(self, index: int) -> Tensor:
        """Returns item ``index`` >= 0; AudioError as `AudioClips`."""
        audio_1N = self._clips[index].audio_TC.T
        gain = np.random.default_rng((self._seed, index)).uniform(-self._gain_db, self._gain_db)
        measured = loudness(audio_1N.numpy(), self._rate)
        return limited(normalised(audio_1N[None], measured, TARGET + gain))[0, 0]


def stack(clips: Sequence[Tensor]) -> Tensor:
    """Returns clips as a batch, [B, N]."""
    return torch.stack(list(clips))
