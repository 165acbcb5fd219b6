"""Sampling one window, or a whole level, of a batch of songs (golden README 2.5 and 2.6).

Shape suffixes: B songs, T tokens of this level, N label columns.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING

import torch

from jukebox_core.families.jukebox.sampling.decoder import WindowDecoder, clamp_codes, draw_codes
from jukebox_core.runtime.oom import BatchSizes
from jukebox_core.tokens.plan import split_batch

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence

    from torch import Tensor

    from jukebox_core.families.jukebox.model.prior import Prior
    from jukebox_core.sampling.config import LevelSampling
    from jukebox_core.sampling.noise import Noise
    from jukebox_core.tokens.plan import Window


@dataclass(frozen=True, slots=True)
class WindowInputs:
    """What a window of a batch of songs reads."""

    window: Window
    known_BT: Tensor  # tokens [start, known) of this level, int64
    above_BT: Tensor | None  # tokens of the level above that the window stands under, int64; None at the top
    labels_BN: Tensor  # label rows of this window, int64

    @property
    def told_alike(self) -> bool:
        """Whether all songs are told the same: labels, lyrics and codes above."""
        return all(_alike(rows).all() for rows in (self.labels_BN, self.above_BT) if rows is not None)

    @property
    def known_alike(self) -> int:
        """How many of the known tokens begin the window of every song."""
        return int(_alike(self.known_BT).cumprod(0).sum())


@torch.inference_mode()
def open_window(prior: Prior, inputs: WindowInputs) -> WindowDecoder:
    """Returns the decoder of a window that has read nothing yet; what is constant in the window is computed here.

    Songs that are told the same share what is computed of it.
    """
    device, songs = next(prior.parameters()).device, len(inputs.labels_BN)
    different = slice(1 if inputs.told_alike else songs)
    above = None if inputs.above_BT is None else inputs.above_BT[different].to(device)
    condition = prior.condition(inputs.labels_BN[different].to(device), above)
    return WindowDecoder(prior, condition.expand(songs) if inputs.told_alike else condition)


def sample_window(
    decoder: WindowDecoder,
    inputs: WindowInputs,
    sampling: LevelSampling,
    noise: Noise,
    *,
    forced_BT: Tensor | None = None,
    prefill_chunk: int | None = None,
    block: int = 64,
) -> Iterator[Tensor]:
    """Yields the window's new tokens as they are drawn, int64 [B, at most `block`], in order.

    `forced_BT` are tokens that an interrupted attempt drew before: they are taken through the same steps again, not
    drawn again and not yielded. The single-sequence kind can yield negative values; `clamp_codes` ends a window.
    """
    device = next(decoder.prior.parameters()).device
    shared = decoder.prior.config.lyric_positions + inputs.known_alike if inputs.told_alike else 0
    return draw_codes(
        decoder,
        inputs.known_BT.to(device),
        inputs.window.new,
        sampling,
        noise,
        start=inputs.window.start,
        forced_BF=None if forced_BT is None else forced_BT.to(device),
        prefill_chunk=prefill_chunk,
        flush=block,
        shared=shared,
    )


def _alike(rows_BN: Tensor) -> Tensor:
    """Returns which columns are the same in every row, bool [N]."""
    return (rows_BN == rows_BN[:1]).all(0)


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

    The whole batch takes a window before any of it takes the next; parts of at most `batch_size` songs go one after
    the other, half as many where memory runs out. Label rows come from ``labels(window, songs)`` and noise from
    ``noise(songs)``, where `songs` is the slice of the batch. `factor` is how many tokens of this level one token
    above stands for.
    """
    parts, sizes = _parts(tokens_BT.shape[0], batch_size), BatchSizes()

    def fill(window: Window, some: Sequence[int]) -> Tensor:
        songs = slice(some[0], some[-1] + 1)
        inputs = WindowInputs(
            window=window,
            known_BT=tokens_BT[songs, window.start : window.known],
            above_BT=None if above_BT is None else above_BT[songs, window.start // factor : window.stop // factor],
            labels_BN=labels(window, songs),
        )
        blocks = sample_window(open_window(prior, inputs), inputs, sampling, noise(songs), prefill_chunk=prefill_chunk)
        return clamp_codes(torch.cat([*blocks], dim=1))

    for window in windows:
        work = f"level {prior.config.level}"
        filled = [codes for part in parts for codes in sizes.run_with_oom_retry(work, part, partial(fill, window))]
        tokens_BT = torch.cat([tokens_BT[:, : window.known], torch.cat(filled).to(tokens_BT.device)], dim=1)
    return tokens_BT


def _parts(samples: int, batch_size: int) -> Sequence[range]:
    parts, start = [], 0
    for size in split_batch(samples, batch_size):
        parts.append(range(start, start + size))
        start += size
    return parts
