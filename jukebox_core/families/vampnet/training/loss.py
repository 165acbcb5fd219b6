"""The loss of the transformers, and their learning rate. Legend: B items, K codebooks, T time, N = T P, V codes."""

from __future__ import annotations

from typing import TYPE_CHECKING

from torch.nn import functional

from jukebox_core.families.vampnet.model.transformer import flatten_books

if TYPE_CHECKING:
    from torch import Tensor

    from jukebox_core.families.vampnet.config import TransformerConfig

LABEL_SMOOTHING = 0.1
MAX_GRAD_NORM = 5.0
_IGNORED = -100


def masked_loss(logits_BNV: Tensor, codes_BKT: Tensor, mask_BKT: Tensor, config: TransformerConfig) -> Tensor:
    """Returns the cross-entropy of the masked tokens, with label smoothing: a scalar in nats.

    Args:
        logits_BNV: of the masked codes, as the transformer returns them.
        codes_BKT: the true codes.
        mask_BKT: true where they were masked.
        config: of the transformer.
    """
    predicted = slice(config.n_conditioning_codebooks, None)
    targets_BKT = codes_BKT.masked_fill(~mask_BKT, _IGNORED)[:, predicted]
    targets_BN = flatten_books(targets_BKT)
    return functional.cross_entropy(
        logits_BNV.flatten(0, 1), targets_BN.flatten(), ignore_index=_IGNORED, label_smoothing=LABEL_SMOOTHING
    )


def noam(step: int, width: int, *, factor: float = 2.0, warmup: int = 10_000) -> float:
    """Returns the learning rate of an update: rising for `warmup` updates, then falling with the square root.

    Args:
        step: number of the update, from 1.
        width: of the model.
        factor: scale.
        warmup: updates until the peak; 500 for fine-tunes.
    """
    return float(factor * width**-0.5 * min(step**-0.5, step * warmup**-1.5))
