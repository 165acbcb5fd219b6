"""A whole level sampled window by window over tensors: the order in which the original consumes its generator.

The package samples by `jukebox_core.sampling.windows`; this shows that its parts give the original's tokens.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch

from jukebox_core.families.jukebox.sampling.decoder import clamp_codes
from jukebox_core.families.jukebox.sampling.sampler import WindowInputs, open_window, sample_window
from jukebox_core.tokens.plan import split_batch

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from torch import Tensor

    from jukebox_core.families.jukebox.model.prior import Prior
    from jukebox_core.families.jukebox.sampling.config import LevelSampling
    from jukebox_core.sampling.noise import Noise
    from jukebox_core.tokens.plan import Window


def sample_level(
    prior: Prior,
    windows: Iterable[Window],
    tokens_BT: Tensor,
    *,
    labels: Callable[[Window, slice], Tensor],
    above_BT: Tensor | None,
    factor: int,
    sampling: LevelSampling,
    noise: Callable[[slice], Noise],
    batch_size: int,
    prefill_chunk: int | None = None,
) -> Tensor:
    """Returns `tokens_BT` with every window of the level filled, int64 [B, T].

    The whole batch samples a window, in parts of at most `batch_size` songs, before any part samples the next. Label
    rows come from ``labels(window, songs)`` and noise from ``noise(songs)``, where `songs` is the slice of the batch.
    `factor` is how many tokens of this level one token of the upper level covers.
    """
    sizes = split_batch(tokens_BT.shape[0], batch_size)
    stops = torch.tensor(sizes).cumsum(0).tolist()
    for window in windows:
        filled = []
        for size, stop in zip(sizes, stops, strict=True):
            songs = slice(stop - size, stop)
            inputs = WindowInputs(
                window=window,
                known_BT=tokens_BT[songs, window.start : window.known],
                above_BT=None if above_BT is None else above_BT[songs, window.start // factor : window.stop // factor],
                labels_BN=labels(window, songs),
            )
            decoder = open_window(prior, inputs)
            blocks = sample_window(decoder, inputs, sampling, noise(songs), prefill_chunk=prefill_chunk)
            filled.append(clamp_codes(torch.cat([*blocks], dim=1)))
        tokens_BT = torch.cat([tokens_BT[:, : window.known], torch.cat(filled).to(tokens_BT.device)], dim=1)
    return tokens_BT
