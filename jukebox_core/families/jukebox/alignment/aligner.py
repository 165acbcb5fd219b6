"""A top prior behind the door as a `jukebox_core.protocols.Aligner`: codes of a song to its attention to the lyrics."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, cast

import torch

from jukebox_core.families.jukebox.alignment.matrix import Merge, align_codes
from jukebox_core.families.jukebox.conditioning.lengths import window_hop

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    import numpy as np
    from numpy.typing import NDArray

    from jukebox_core.families.jukebox.alignment.heads import Head
    from jukebox_core.families.jukebox.conditioning.labels import SongLabels
    from jukebox_core.families.jukebox.config import JukeboxConfig
    from jukebox_core.families.jukebox.model.prior import Prior

_BATCH_CODES = 8192  # of a forward pass


@dataclass(frozen=True, slots=True)
class PriorAligner:
    """The layers of a top prior up to the head that attends to the lyrics."""

    config: JukeboxConfig
    prior: Prior
    head: Head

    @torch.inference_mode()
    def align(
        self,
        codes: NDArray[np.integer[Any]],
        conditioning: Sequence[SongLabels],
        *,
        hop: float,
        merge: str,
        before_batch: Callable[[], None] | None = None,
    ) -> NDArray[np.float32]:
        """Returns the attention from each code to each character of the lyrics, float32 [tokens, characters]."""
        top = self.config.top
        return align_codes(
            self.prior,
            codes,
            conditioning[top],
            self.head,
            hop=window_hop(self.config, top, hop),
            code_samples=self.config.hops[top],
            merge=cast("Merge", merge),
            batch=max(1, _BATCH_CODES // self.prior.config.context),
            before_batch=before_batch,
        )
