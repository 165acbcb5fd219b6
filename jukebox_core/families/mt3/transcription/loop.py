"""The decode loop: from the source of a batch of segments to their ids."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor

from jukebox_core.families.mt3.config import EOS_ID, PAD_ID
from jukebox_core.families.mt3.transcription.blocks import Row

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from jukebox_core.families.mt3.events.grammar import Grammar
    from jukebox_core.families.mt3.model.transformer import MT3


@torch.inference_mode()
def decode_rows(
    model: MT3,
    source_BSW: Tensor,
    *,
    max_tokens: int,
    banned: NDArray[np.bool_] | None = None,
    grammars: Sequence[Grammar] | None = None,
) -> list[Row]:
    """Returns the likeliest ids of each segment, greedily: at every step the id with the highest logit.

    Segments do not affect each other; one that has ended leaves the batch.

    Args:
        model: the network.
        source_BSW: what the decoder reads, of each segment (`MT3.with_memory`).
        max_tokens: limit of a segment's ids, the start token included.
        banned: which ids are never chosen, bool [V].
        grammars: the rules that restrict the ids of each segment; they see every id that is chosen.
    """
    rows: list[list[int]] = [[] for _ in source_BSW]
    active = list(range(len(rows)))
    cache = model.start(source_BSW)
    ids_B = torch.full((len(rows),), PAD_ID, device=source_BSW.device)
    never = never_chosen(banned, source_BSW.device)
    for _ in range(max_tokens - 1):
        rules = None if grammars is None else [grammars[row] for row in active]
        ids_B = mask_logits(model.step(ids_B, cache), never, rules).argmax(dim=-1)
        for row, each in zip(active, ids_B.tolist(), strict=True):
            rows[row].append(each)
            if grammars is not None:
                grammars[row].feed_id(each)
        left = [place for place, row in enumerate(active) if rows[row][-1] != EOS_ID]
        if len(left) < len(active):
            if not left:
                break
            kept = torch.tensor(left, device=ids_B.device)
            cache.select(kept)
            ids_B, active = ids_B[kept], [active[place] for place in left]
    return [Row(ids, ids[-1:] == [EOS_ID]) for ids in rows]


def never_chosen(banned: NDArray[np.bool_] | None, device: torch.device) -> Tensor | None:
    """Returns the banned ids on a device, bool [V]; None if there are none."""
    return None if banned is None else torch.from_numpy(banned).to(device)


def mask_logits(logits_RV: Tensor, never_V: Tensor | None, grammars: Sequence[Grammar] | None) -> Tensor:
    """Returns logits that are -inf for banned ids, and for those that the grammar of each row does not allow."""
    if never_V is not None:
        logits_RV = logits_RV.masked_fill(never_V, -torch.inf)
    if grammars is not None:
        allowed = torch.from_numpy(np.stack([each.allowed_ids() for each in grammars]))
        logits_RV = logits_RV.masked_fill(~allowed.to(logits_RV.device), -torch.inf)
    return logits_RV
