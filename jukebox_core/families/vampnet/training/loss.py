"""The loss of the transformers. Legend: B items, K codebooks, T time, N = T P, V codes."""

from __future__ import annotations

from typing import TYPE_CHECKING

from torch.nn import functional

from jukebox_core.families.vampnet.model.transformer import flatten_books

if TYPE_CHECKING:
    from torch import Tensor

    from jukebox_core.families.vampnet.config import TransformerConfig

LABEL_SMOOTHING = 0.1

_IGNORED = -100


def masked_loss(
    logits_BNV: Tensor,
    codes_BKT: Tensor,
    mask_BKT: Tensor,
    config: TransformerConfig,
    label_smoothing: float = LABEL_SMOOTHING,
) -> Tensor:
    """Returns the cross-entropy of the masked tokens, with label smoothing: a scalar in nats.

    Args:
        logits_BNV: of the masked codes, as the transformer returns them.
        codes_BKT: the true codes.
        mask_BKT: true where they were masked.
        config: of the transformer.
        label_smoothing: share of the target that is spread over all codes.
    """
    predicted = slice(config.n_conditioning_codebooks, None)
    targets_BKT = codes_BKT.masked_fill(~mask_BKT, _IGNORED)[:, predicted]
    targets_BN = flatten_books(targets_BKT)
    return functional.cross_entropy(
        logits_BNV.flatten(0, 1), targets_BN.flatten(), ignore_index=_IGNORED, label_smoothing=label_smoothing
    )
