"""One training step of a transformer: tokens are masked at random, and the loss is that of the masked ones.

Legend: B items, K codebooks, P predicted, T time, N = T P.
"""

from __future__ import annotations

import math
from contextlib import contextmanager
from typing import TYPE_CHECKING

import torch
import torch.distributed as dist
from torch import Tensor, nn

from jukebox_core.families.vampnet.masks.draws import GeneratorDraws
from jukebox_core.families.vampnet.masks.parts import apply
from jukebox_core.families.vampnet.training.loss import masked_loss
from jukebox_core.families.vampnet.training.masking import MaskRatios, training_mask

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from jukebox_core.datasets.windows import CodeWindow
    from jukebox_core.families.vampnet.model.transformer import VampTransformer


class TransformerStep(nn.Module):
    """A transformer in training; its call returns the loss and the metrics of a batch.

    Args:
        model: is trained.
        label_smoothing: of the loss.
        seed: of the sequence of mask ratios.
    """

    drawn: Tensor  # mask ratios that were drawn, so that a checkpoint continues the sequence

    def __init__(self, model: VampTransformer, label_smoothing: float, seed: int) -> None:
        super().__init__()
        self.model, self._smoothing, self._seed = model, label_smoothing, seed
        self.register_buffer("drawn", torch.zeros((), dtype=torch.int64))
        self._ratios: MaskRatios | None = None

    def forward(self, codes_BKT: Tensor, generator: torch.Generator | None = None) -> tuple[Tensor, dict[str, Tensor]]:
        """Returns the loss, and as metrics bits a masked token and the share of masked tokens that are right."""
        sizes = self.model.config
        codes_BKT = codes_BKT[:, : sizes.n_codebooks]
        ratio_B = self._draw(len(codes_BKT)) if self.training else (torch.arange(len(codes_BKT)) + 0.5) / len(codes_BKT)
        draws = _DeviceDraws(generator, codes_BKT.device)
        mask_BKT = training_mask(codes_BKT, ratio_B.to(codes_BKT.device), sizes, draws)
        with self._seeded(generator):
            logits_BNV = self.model.ordered(apply(codes_BKT, mask_BKT, sizes.mask_id))
        loss = masked_loss(logits_BNV, codes_BKT, mask_BKT, sizes, self._smoothing)
        with torch.no_grad():
            nats = masked_loss(logits_BNV, codes_BKT, mask_BKT, sizes, 0.0) if self._smoothing else loss
        return loss, {"bits": nats / math.log(2)}

    @contextmanager
    def _seeded(self, generator: torch.Generator | None) -> Iterator[None]:
        """Makes dropout within the block depend on the loop's generator alone; torch gives it no generator."""
        if generator is None or not self.training:
            yield
            return
        device = generator.device
        with torch.random.fork_rng([device] if device.type == "cuda" else []):
            torch.manual_seed(int(torch.randint(2**62, (), generator=generator, device=device)))
            yield

    def _draw(self, count: int) -> Tensor:
        """Returns this process's part of the next ratios."""
        rank, world = (
            (dist.get_rank(), dist.get_world_size()) if dist.is_available() and dist.is_initialized() else (0, 1)
        )
        if self._ratios is None or self._ratios.drawn != int(self.drawn):
            self._ratios = MaskRatios(self._seed, int(self.drawn))
        drawn = self._ratios.draw(count * world)
        self.drawn += count * world
        return drawn[rank * count : (rank + 1) * count]


class _DeviceDraws(GeneratorDraws):
    """Draws on the device of the loop's generator."""

    def __init__(self, generator: torch.Generator | None, device: torch.device) -> None:
        super().__init__(generator)
        self._device = device

    def bernoulli(self, probability: Tensor) -> Tensor:
        """Returns booleans of the probabilities' shape."""
        return torch.rand(probability.shape, generator=self._generator, device=self._device) < probability


def stack_grids(windows: Sequence[CodeWindow]) -> Tensor:
    """Returns the codes of windows as a batch, [B, K, T]."""
    return torch.stack([window.codes_T for window in windows])
