"""Guided attention: a loss by which two heads of each decoder layer attend to the frames that an id is about.

Without it, a decoder learns only after very many steps where in the spectrogram an event is. The frames are known from
the shifts among the labels: one head is guided to the time of the last shift, one to that of the id that comes next.
The loss is that of guided attention (Tachibana et al. 2018, section 3.3), with a band around a known frame.

Legend: B segments, N ids, H guided heads, S source positions (frames, then memory).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import Tensor
from torch.nn import functional

from jukebox_core.families.mt3.config import EOS_ID
from jukebox_core.families.mt3.events.vocabulary import vocabulary_of
from jukebox_core.families.mt3.training.targets import mel_front_end

if TYPE_CHECKING:
    from collections.abc import Sequence

    from jukebox_core.families.mt3.config import MT3Network
    from jukebox_core.families.mt3.model.transformer import CrossInputs


def event_frames(network: MT3Network, labels_BN: Tensor) -> Tensor:
    """Returns the frames that labels are about, float32 [B, H, N]: of the last shift before each, and of each itself.

    NaN where there is none: for padding, and for the end of sequence.
    """
    vocabulary, front_end = vocabulary_of(network.vocabulary), mel_front_end(network)
    first, last = vocabulary.to_ids([vocabulary.range("shift").start, vocabulary.range("shift").stop - 1])[:2]
    is_shift = (labels_BN >= first) & (labels_BN <= last)
    # Shifts count from the start of the segment. A long one is several in a row, which add up.
    steps_BN = torch.where(is_shift, labels_BN - first, 0)
    sums_BN = steps_BN.cumsum(1)
    begins = is_shift.clone()
    begins[:, 1:] &= ~is_shift[:, :-1]
    own_BN = sums_BN - torch.where(begins, sums_BN - steps_BN, 0).cummax(1).values
    before_BN = functional.pad(own_BN[:, :-1], (1, 0))
    rate = front_end.sample_rate / front_end.hop / network.vocabulary.steps_per_second
    frames_BHN = rate * torch.stack([before_BN, own_BN], dim=1).float()
    return frames_BHN.masked_fill(((labels_BN < 0) | (labels_BN == EOS_ID))[:, None], torch.nan)


def guide_loss(layers: Sequence[CrossInputs], frames_BHN: Tensor, frames: int, sigma: float) -> Tensor:
    """Returns the summed negative logarithm of the first heads' attention near their frames; nats.

    A mean over layers, summed over the heads and ids.

    Args:
        layers: what the attention of each decoder layer compares.
        frames_BHN: as `event_frames` gives them.
        frames: of the source; what follows is memory, which is never near.
        sigma: standard deviation of the tolerated distance, in frames.
    """
    frames_BHN = frames_BHN[:, -layers[0].attention.heads :]  # of a single head, the time of the next id
    known_BHN = frames_BHN.isfinite()
    at_S = torch.arange(layers[0].k_BHSD.shape[2], device=frames_BHN.device)
    away_BHNS = at_S - frames_BHN.nan_to_num()[..., None]
    band_BHNS = (-away_BHNS.square() / (2 * sigma**2)).masked_fill(at_S >= frames, -torch.inf)
    total = frames_BHN.new_zeros(())
    for layer in layers:
        logits_BHNS = layer.attention.logits(layer.x_BTW, layer.k_BHSD, frames_BHN.shape[1])
        near_BHN = logits_BHNS.logsumexp(-1) - (logits_BHNS + band_BHNS).logsumexp(-1)
        total = total + near_BHN.where(known_BHN, 0.0).sum()
    return total / len(layers)
