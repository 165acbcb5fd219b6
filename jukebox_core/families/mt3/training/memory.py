"""Memory of training an MT3 model, estimated."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch

from jukebox_core.families.mt3.model.transformer import MT3, DecoderLayer, EncoderLayer
from jukebox_core.families.mt3.training.guide import event_frames, guide_loss
from jukebox_core.families.mt3.training.step import TranscriberStep
from jukebox_core.families.mt3.training.targets import FRAME_KINDS, mel_front_end
from jukebox_core.training.memory import TrainingMemory, training_memory

if TYPE_CHECKING:
    from collections.abc import Callable

    from torch import Tensor, nn

    from jukebox_core.families.mt3.config import MT3Network
    from jukebox_core.families.mt3.model.transformer import CrossInputs
    from jukebox_core.families.mt3.training.config import TranscriberTraining

UNITS = (EncoderLayer, DecoderLayer)


def transcriber_memory(network: MT3Network, training: TranscriberTraining) -> TrainingMemory:
    """Returns the estimated memory of training the network, in bytes, where every segment has the most ids."""
    front_end, ids = mel_front_end(network), network.transformer.max_tokens

    def build(batch: int) -> tuple[nn.Module, Callable[[], Tensor]]:
        step = TranscriberStep(MT3(network), training.frame_loss_weight, groups=1)
        segments = batch * training.segments

        def loss() -> Tensor:
            frames_BFM = torch.zeros(segments, front_end.segment_frames, front_end.mels)
            ids_BN = torch.zeros(segments, ids, dtype=torch.int64)
            encoded_BFW = step.model.encode(frames_BFM)
            layers: list[CrossInputs] | None = [] if training.guide_weight else None
            logits_BNV = step.model(ids_BN, step.model.with_memory(encoded_BFW, ids_BN), layers)
            total = step.summed_loss(logits_BNV, ids_BN)
            if layers is not None:
                guide = guide_loss(layers, event_frames(network, ids_BN), encoded_BFW.shape[1], training.guide_sigma)
                total = total + guide
            if step.frame_head is None:
                return total
            kinds_BFK = torch.zeros(segments, front_end.segment_frames, FRAME_KINDS, dtype=torch.bool)
            return total + step.frame_loss(encoded_BFW, kinds_BFK)

        return step, loss

    return training_memory(build, UNITS, training.loop)
