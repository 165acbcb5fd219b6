"""Filters of logits: typical and nucleus. Legend: N rows, V codes."""

from __future__ import annotations

import torch
from torch import Tensor


def typical(logits_NV: Tensor, mass: float, min_tokens: int) -> Tensor:
    """Returns logits with those of untypical codes at minus infinity (Meister et al. 2022).

    A code is the more typical, the closer its surprisal is to the entropy. The most typical codes are kept until their
    cumulative probability reaches `mass`, and all as typical as the last of them; at least `min_tokens`.
    """
    log_p_NV = logits_NV.log_softmax(-1)
    p_NV = log_p_NV.exp()
    entropy_N1 = -(p_NV * log_p_NV).nansum(-1, keepdim=True)
    shift_NV = (-log_p_NV - entropy_N1).abs()
    sorted_NV, order_NV = shift_NV.sort(-1)
    sum_NV = p_NV.gather(-1, order_NV).cumsum(-1)
    last_N1 = (sum_NV < mass).sum(-1, keepdim=True).clamp(max=logits_NV.shape[-1] - 1)
    removed_NV = sorted_NV > sorted_NV.gather(-1, last_N1)
    removed_NV[..., :min_tokens] = False
    return logits_NV.masked_fill(removed_NV.scatter(-1, order_NV, removed_NV), -torch.inf)


def nucleus(logits_NV: Tensor, top_p: float) -> Tensor:
    """Returns logits with those beyond the most likely codes up to `top_p` at minus infinity; one is always kept."""
    sorted_NV, order_NV = logits_NV.sort(-1, descending=True)
    sum_NV = sorted_NV.softmax(-1).cumsum(-1)
    removed_NV = (sum_NV > top_p).roll(1, -1)
    removed_NV[..., 0] = False
    return logits_NV.masked_fill(removed_NV.scatter(-1, order_NV, removed_NV), -torch.inf)
