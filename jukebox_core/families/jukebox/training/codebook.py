"""Codebooks that learn by exponential moving average of their entries' features (docs/upstream.md, VQ-VAE).

Shape suffixes: N feature rows, V codebook entries, C channels.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import torch
import torch.distributed as dist
from torch import Tensor, nn

if TYPE_CHECKING:
    from jukebox_core.families.jukebox.training.config import CodebookConfig


class CodebookLearner(nn.Module):
    """State of a codebook's moving average: sums and counts of the features assigned to each entry.

    The codebook itself belongs to the network, and is updated in place.
    """

    sums_VC: Tensor
    counts_V: Tensor
    started: Tensor

    def __init__(self, codebook_VC: Tensor, config: CodebookConfig) -> None:
        super().__init__()
        self.config = config
        self.register_buffer("sums_VC", torch.zeros_like(codebook_VC, dtype=torch.float32))
        self.register_buffer("counts_V", torch.zeros(len(codebook_VC), device=codebook_VC.device))
        self.register_buffer("started", torch.zeros((), dtype=torch.bool, device=codebook_VC.device))

    @torch.no_grad()
    def restore(self, codebook_VC: Tensor, expected: float) -> None:
        """Initialises the averages from a trained codebook, with a count of `expected` for each entry."""
        self.counts_V.fill_(expected)
        self.sums_VC.copy_(codebook_VC * expected)
        self.started.fill_(value=True)

    @torch.no_grad()
    def start(self, codebook_VC: Tensor, rows_NC: Tensor, generator: torch.Generator | None = None) -> None:
        """Initialises the codebook with random rows, in place, at the first call; later calls do nothing."""
        if self.started:
            return
        codebook_VC.copy_(_random_rows(rows_NC, len(codebook_VC), generator))
        self.restore(codebook_VC, 1.0)

    @torch.no_grad()
    def update(
        self, codebook_VC: Tensor, rows_NC: Tensor, codes_N: Tensor, generator: torch.Generator | None = None
    ) -> dict[str, Tensor]:
        """Sets each entry to the mean of its features, and replaces dead entries by random rows, in place.

        Random rows are drawn in every call, needed or not. In distributed training counts and sums are all-reduced,
        and the rows are those of the first process.

        Returns:
            Scalars: entropy of the codes (nats), used_curr and usage (entries in use in this batch, and on average),
            dk (root mean square change of the entries).
        """
        old_VC, entries = codebook_VC.clone(), len(codebook_VC)
        counts_V = torch.bincount(codes_N, minlength=entries).to(self.counts_V.dtype)
        sums_VC = torch.zeros_like(self.sums_VC).index_add_(0, codes_N, rows_NC.float())
        random_VC = _random_rows(rows_NC, entries, generator).float()
        if dist.is_available() and dist.is_initialized():
            dist.broadcast(random_VC, 0)
            dist.all_reduce(counts_V)
            dist.all_reduce(sums_VC)
        self.sums_VC.lerp_(sums_VC, 1 - self.config.ema_decay)
        self.counts_V.lerp_(counts_V, 1 - self.config.ema_decay)
        alive_V1 = (self.counts_V >= self.config.threshold_ema_dead_code)[:, None]
        codebook_VC.copy_(torch.where(alive_V1, self.sums_VC / self.counts_V[:, None], random_VC))
        shares_V = counts_V / counts_V.sum()
        return {
            "entropy": -(shares_V * (shares_V + 1e-8).log()).sum(),
            "used_curr": (counts_V >= self.config.threshold_ema_dead_code).sum().float(),
            "usage": alive_V1.sum().float(),
            "dk": (codebook_VC - old_VC).norm() / math.sqrt(old_VC.numel()),
        }


def _random_rows(rows_NC: Tensor, count: int, generator: torch.Generator | None) -> Tensor:
    """Returns `count` random rows; if there are fewer, they are repeated with a little noise."""
    if len(rows_NC) < count:
        rows_NC = rows_NC.repeat(-(-count // len(rows_NC)), 1)
        noise_NC = torch.randn(rows_NC.shape, generator=generator, device=rows_NC.device, dtype=rows_NC.dtype)
        rows_NC = rows_NC + noise_NC * (0.01 / math.sqrt(rows_NC.shape[1]))
    order_N = torch.randperm(len(rows_NC), generator=generator, device=rows_NC.device)
    return rows_NC[order_N[:count]]
