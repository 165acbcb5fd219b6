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
from jukebox_core.families.mt3.training.guide import event_frames, guide_loss
from jukebox_core.families.mt3.training.targets import EDGES, FRAME_KINDS, mel_front_end
from jukebox_core.training.devices import averaged

if TYPE_CHECKING:
    from jukebox_core.families.mt3.model.transformer import MT3, CrossInputs
    from jukebox_core.families.mt3.training.excerpts import Batch

_RARE = -4.0  # logit of a kind before training: few frames hold any
_FOUND_WEIGHT = 4.0  # of what a frame holds, against what it does not hold
_EDGE_WEIGHT = 4.0  # of kinds of single frames, against those of many frames


class TranscriberStep(nn.Module):
    """The network in training; its call returns the loss and the metrics of a batch."""

    def __init__(
        self, model: MT3, frame_weight: float, groups: int, *, guide_weight: float = 0.0, guide_sigma: float = 1.5
    ) -> None:
        """Takes the network.

        Args:
            model: is trained.
            frame_weight: of the loss of frames; 0: there is none.
            groups: in which segments of similar length are decoded.
            guide_weight: of `guide_loss` in training mode; 0: there is none.
            guide_sigma: of that loss, in frames.
        """
        super().__init__()
        self.model, self._weight, self._groups = model, frame_weight, groups
        self._guide_weight, self._guide_sigma = guide_weight, guide_sigma
        self.frame_head: nn.Linear | None = None
        if frame_weight:
            self.frame_head = nn.Linear(model.config.transformer.width, FRAME_KINDS)
            nn.init.zeros_(self.frame_head.weight)  # the same in every process and after every restart
            nn.init.constant_(self.frame_head.bias, _RARE)

    def forward(self, batch: Batch, _generator: torch.Generator | None = None) -> tuple[Tensor, dict[str, Tensor]]:
        """Returns the loss, and as metrics the cross-entropy in nats per id and the share of ids that are right."""
        encoded_BFW = self.model.encode(batch.frames_BFM)
        source_BSW = self.model.with_memory(encoded_BFW, batch.before_BN)
        count = averaged((batch.labels_BN != IGNORED).sum().float())
        total, right, guide = self._decode(batch.labels_BN, source_BSW)
        metrics = {"nats": total.detach() / count}
        if right is not None:
            metrics["right"] = right / count
        loss = total / count
        if guide is not None:
            metrics["guide"] = guide.detach() / count
            loss = loss + self._guide_weight * guide / count
        if self.frame_head is not None:
            frames = self.frame_loss(encoded_BFW, batch.kinds_BFK)
            metrics["frames"] = frames.detach()
            loss = loss + self._weight * frames
        return loss, metrics

    def _decode(self, labels_BN: Tensor, source_BSW: Tensor) -> tuple[Tensor, Tensor | None, Tensor | None]:
        """Returns sums over labels: cross-entropy, those with the highest logit (None in training), guide (or None)."""
        lengths_B = (labels_BN != IGNORED).sum(dim=1)
        total = source_BSW.new_zeros(())
        right = None if self.training else source_BSW.new_zeros(())
        guide = source_BSW.new_zeros(()) if self._guide_weight and self.training else None
        for rows in lengths_B.argsort().chunk(self._groups):
            labels, source = labels_BN[rows, : int(lengths_B[rows].max())], source_BSW[rows]
            layers: list[CrossInputs] | None = None if guide is None else []
            logits_BNV = self.model(shifted_right(labels), source, layers)
            total = total + self.summed_loss(logits_BNV, labels)
            if right is not None:
                right = right + (logits_BNV.detach().argmax(dim=-1) == labels).sum()
            if guide is not None and layers is not None:
                frames_BHN = event_frames(self.model.config, labels)
                frames = mel_front_end(self.model.config).segment_frames
                guide = guide + guide_loss(layers, frames_BHN, frames, self._guide_sigma)
        return total, right, guide

    @staticmethod
    def summed_loss(logits_BNV: Tensor, labels_BN: Tensor) -> Tensor:
        """Returns the summed cross-entropy of labels, in nats."""
        return functional.cross_entropy(
            logits_BNV.flatten(0, 1), labels_BN.flatten(), ignore_index=IGNORED, reduction="sum"
        )

    def frame_loss(self, encoded_BFW: Tensor, kinds_BFK: Tensor) -> Tensor:
        """Returns the mean over frames of the summed binary cross-entropy of all kinds, weighted."""
        assert self.frame_head is not None
        logits_BFK = self.frame_head(encoded_BFW).float()
        losses_BFK = functional.binary_cross_entropy_with_logits(
            logits_BFK, kinds_BFK.float(), pos_weight=logits_BFK.new_tensor(_FOUND_WEIGHT), reduction="none"
        )
        total = losses_BFK.sum() + (_EDGE_WEIGHT - 1) * losses_BFK[..., EDGES].sum()
        return total / (kinds_BFK.shape[0] * kinds_BFK.shape[1])


def shifted_right(labels_BN: Tensor) -> Tensor:
    """Returns the decoder's input [B, N]: the labels one later, after the start token; padding is 0."""
    start_B1 = labels_BN.new_full((len(labels_BN), 1), PAD_ID)
    return torch.cat([start_B1, labels_BN[:, :-1].clamp(min=PAD_ID)], dim=1)
