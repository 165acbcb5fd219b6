"""From logits and noise to tokens: pure functions without a random generator and without device synchronisation.

Shape suffixes: B samples of the batch, V vocabulary.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch

from jukebox_core.errors import ConfigError

if TYPE_CHECKING:
    from torch import Tensor

    from jukebox_core.sampling.config import DrawConfig


def draw_tokens(logits_BV: Tensor, noise_BV: Tensor, sampling: DrawConfig) -> Tensor:
    """Returns one token per sample, int64 [B], drawn from the distribution after temperature and filters.

    The argmax of probabilities divided by standard exponentials is a draw from the distribution (the Gumbel-max trick).
    Torch's `multinomial` of one sample does the same on the CPU, so noise from the same generator state gives the same
    tokens as upstream's categorical draw (docs/upstream.md, Sampling).

    Args:
        logits_BV: Unnormalised log probabilities; converted to float32.
        noise_BV: Standard exponentials above 0, float32, on the same device.
        sampling: Temperature, and `top_k` or `top_p`.

    Raises:
        ValueError: The shapes differ.
    """
    if logits_BV.shape != noise_BV.shape:  # broadcasting would give several samples the same noise
        shapes = f"logits {[*logits_BV.shape]}, noise {[*noise_BV.shape]}"
        raise ValueError(f"{shapes}: shapes must agree; draw one row of noise for each sample of the batch")
    logits_BV = filter_logits(logits_BV.float() / sampling.temperature, sampling.top_k, sampling.top_p)
    return (torch.softmax(logits_BV, dim=-1) / noise_BV).argmax(dim=-1)


def filter_logits(logits_BV: Tensor, top_k: int | None = None, top_p: float | None = None) -> Tensor:
    """Returns the logits [B, V] with those of excluded tokens at minus infinity (docs/upstream.md, Sampling).

    Args:
        logits_BV: Logits, after the temperature.
        top_k: Keep the k largest, and all that equal the k-th. More than V keeps everything.
        top_p: Keep the most likely tokens up to and including the one whose cumulative probability exceeds this.

    Raises:
        ConfigError: Both filters are given.
    """
    if top_k is not None and top_p is not None:
        raise ConfigError(f"top_k={top_k} and top_p={top_p} are both set; choose one, set the other to None")
    if top_k is not None:
        kth_B1 = torch.topk(logits_BV, min(top_k, logits_BV.shape[-1]), dim=-1).values[:, -1:]
        return logits_BV.masked_fill(logits_BV < kth_B1, -torch.inf)
    if top_p is not None:
        sorted_BV, order_BV = torch.sort(logits_BV, dim=-1, descending=True, stable=True)
        sum_BV = torch.softmax(sorted_BV, dim=-1).cumsum(dim=-1)
        excluded_BV = torch.zeros_like(sum_BV, dtype=torch.bool)
        excluded_BV[:, 1:] = sum_BV[:, :-1] > top_p  # shifted by one: the token that crosses top_p stays
        return logits_BV.masked_fill(torch.zeros_like(excluded_BV).scatter(-1, order_BV, excluded_BV), -torch.inf)
    return logits_BV
