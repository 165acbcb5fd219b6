"""Memory of training a VampNet model, estimated."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch

from jukebox_core.families.vampnet.model.codec import Codec, DecoderStage, EncoderStage
from jukebox_core.families.vampnet.model.transformer import Layer, VampTransformer
from jukebox_core.families.vampnet.training.codec_step import CodecStep
from jukebox_core.families.vampnet.training.loss import masked_loss
from jukebox_core.training.memory import TrainingMemory, training_memory

if TYPE_CHECKING:
    from collections.abc import Callable

    from torch import Tensor, nn

    from jukebox_core.families.vampnet.config import VampNetConfig
    from jukebox_core.families.vampnet.training.config import CodecTraining, TransformerTraining

    Built = tuple[nn.Module, Callable[[], Tensor]]

CODEC_UNITS = (EncoderStage, DecoderStage)
TRANSFORMER_UNITS = (Layer,)


def codec_memory(config: VampNetConfig, training: CodecTraining) -> TrainingMemory:
    """Returns the estimated memory of training the codec, in bytes."""
    sizes = training.networks.config(config.network.codec)
    samples = int(training.seconds * sizes.sample_rate)

    def build(batch: int) -> Built:
        step = CodecStep(Codec(sizes), training).eval()  # replacing entries depends on values
        step.requires_grad_(requires_grad=True)
        return step, lambda: step(torch.zeros(batch, samples))[0]

    return training_memory(build, CODEC_UNITS, training.loop)


def transformer_memory(config: VampNetConfig, role: str, training: TransformerTraining) -> TrainingMemory:
    """Returns the estimated memory of training a transformer, in bytes, as if all its weights were trained."""
    sizes, tokens = config.sizes(role), config.network.codec.tokens_of(training.seconds)

    def build(batch: int) -> Built:
        model = VampTransformer(sizes, training.lora_rank)

        def loss() -> Tensor:
            codes_BKT = torch.zeros(batch, sizes.n_codebooks, tokens, dtype=torch.int64)
            mask_BKT = torch.ones_like(codes_BKT, dtype=torch.bool)
            return masked_loss(model.ordered(codes_BKT), codes_BKT, mask_BKT, sizes, training.label_smoothing)

        return model, loss

    return training_memory(build, TRANSFORMER_UNITS, training.loop)
