"""One training step: teacher forcing, with the network's own modules.

    loss = cross-entropy(labels | labels before) + weight * loss of the notes in each frame

Legend: B segments, F frames, N ids, K kinds of what a frame holds, W width, V ids of the vocabulary.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn
from torch.nn import functional

from jukebox_core.families.mt3.config import PAD_ID
from jukebox_core.families.mt3.training.excerpts import IGNORED
from jukebox_core.families.mt3.training.targets import FRAME_KINDS

if TYPE_CHECKING:
    from jukebox_core.families.mt3.model.transformer import MT3
    from jukebox_core.families.mt3.training.excerpts import Batch

_RARE = -4.0  # logit of a kind before training: few frames hold any
_FOUND_WEIGHT = 4.0  # of what a frame holds, against what it does not hold


class TranscriberStep(nn.Module):
    """The network in training; its call returns the loss and the metrics of a batch."""

    def __init__(self, model: MT3, frame_weight: float, groups: int) -> None:
        """Takes the network.

        Args:
            model: is trained.
            frame_weight: of the loss of frames; 0: there is none.
            groups: in which segments of similar length are decoded.
        """
        super().__init__()
        self.model, self._weight, self._groups = model, frame_weight, groups
        self.frame_head: nn.Linear | None = None
        if frame_weight:
            self.frame_head = nn.Linear(model.config.transformer.width, FRAME_KINDS)
            nn.init.zeros_(self.frame_head.weight)  # the same in every process and after every restart
            nn.init.constant_(self.frame_head.bias, _RARE)

    def forward(self, batch: Batch, _generator: torch.Generator | None = None) -> tuple[Tensor, dict[str, Tensor]]:
        """Returns the loss, and as metrics the cross-entropy in nats per id and the share of ids that are right."""
        encoded_BFW = self.model.encode(batch.frames_BFM)
        source_BSW = self.model.with_memory(encoded_BFW, batch.before_BN)
        total, right, count = self._decode(batch.labels_BN, source_BSW)
        metrics = {"nats": total.detach() / count}
        if right is not None:
            metrics["right"] = right / count
        loss = total / count
        if self.frame_head is not None:
            frames = self.frame_loss(encoded_BFW, batch.kinds_BFK)
            metrics["frames"] = frames.detach()
            loss = loss + self._weight * frames
        return loss, metrics

    def _decode(self, labels_BN: Tensor, source_BSW: Tensor) -> tuple[Tensor, Tensor | None, int]:
        """Returns the summed cross-entropy, how many labels have the highest logit (None in training), of how many."""
        lengths_B = (labels_BN != IGNORED).sum(dim=1)
        total = source_BSW.new_zeros(())
        right = None if self.training else source_BSW.new_zeros(())
        for rows in lengths_B.argsort().chunk(self._groups):
            labels = labels_BN[rows, : int(lengths_B[rows].max())]
            logits_BNV = self.model(shifted_right(labels), source_BSW[rows])
            total = total + self.summed_loss(logits_BNV, labels)
            if right is not None:
                right = right + (logits_BNV.detach().argmax(dim=-1) == labels).sum()
        return total, right, int(lengths_B.sum())

    @staticmethod
    def summed_loss(logits_BNV: Tensor, labels_BN: Tensor) -> Tensor:
        """Returns the summed cross-entropy of labels, in nats."""
        return functional.cross_entropy(
            logits_BNV.flatten(0, 1), labels_BN.flatten(), ignore_index=IGNORED, reduction="sum"
        )

    def frame_loss(self, encoded_BFW: Tensor, kinds_BFK: Tensor) -> Tensor:
        """Returns the mean over frames of the summed binary cross-entropy of all kinds."""
        assert self.frame_head is not None
        logits_BFK = self.frame_head(encoded_BFW).float()
        loss = functional.binary_cross_entropy_with_logits(
            logits_BFK, kinds_BFK.float(), pos_weight=logits_BFK.new_tensor(_FOUND_WEIGHT), reduction="sum"
        )
        return loss / (kinds_BFK.shape[0] * kinds_BFK.shape[1])


def shifted_right(labels_BN: Tensor) -> Tensor:
    """Returns the decoder's input [B, N]: the labels one later, after the start token; padding is 0."""
    start_B1 = labels_BN.new_full((len(labels_BN), 1), PAD_ID)
    return torch.cat([start_B1, labels_BN[:, :-1].clamp(min=PAD_ID)], dim=1)
