"""One training step of the codec. Legend: B batch, N audio samples."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from jukebox_core.families.vampnet.training.codebooks import CodeUsage
from jukebox_core.families.vampnet.training.discriminator import Discriminators, detached
from jukebox_core.families.vampnet.training.spectral import distortion_db, scale_invariant_db, spectral_losses

if TYPE_CHECKING:
    from jukebox_core.families.vampnet.model.codec import Codec
    from jukebox_core.families.vampnet.training.config import CodecTraining


class CodecStep(nn.Module):
    """The codec in training; its call returns the loss and the metrics of a batch of audio."""

    def __init__(self, codec: Codec, training: CodecTraining) -> None:
        super().__init__()
        self.codec, self._training = codec, training
        config = codec.config
        self.usage = CodeUsage(config.n_codebooks, config.codebook_size, training.dead_codes)
        self.discriminators: Discriminators | None = None
        if training.loss.adversarial:
            self.discriminators = Discriminators(training.loss.resolutions.windows, training.loop.seed)

    def forward(self, audio_BN: Tensor, generator: torch.Generator | None = None) -> tuple[Tensor, dict[str, Tensor]]:
        """Returns the loss of a batch of mono audio, and the metrics by name, all scalars.

        In training mode codebook entries that are rarely chosen are replaced; codes are those before it.
        """
        weights, config = self._training.loss, self.codec.config
        encoded = self.codec.encode(audio_BN[:, None], self._codebooks(audio_BN.device, generator))
        decoded_BN: Tensor = self.codec.decoder(encoded.quantised_BWT)[:, 0]
        length = min(audio_BN.shape[1], decoded_BN.shape[1])
        target_BN, made_BN = audio_BN[:, :length], decoded_BN[:, :length]
        # 1) losses
        spectral, mel = spectral_losses(target_BN, made_BN, config.sample_rate, weights.resolutions)
        losses = {
            "waveform": distortion_db(target_BN, made_BN),
            "spectral": spectral,
            "mel": mel,
            "codebook": encoded.codebook_loss,
            "commitment": encoded.commitment_loss,
        }
        loss = torch.stack([getattr(weights, name) * value for name, value in losses.items()]).sum()
        metrics = {name: value.detach() for name, value in losses.items()}
        metrics["si_sdr"] = scale_invariant_db(target_BN, made_BN).detach()
        if self.discriminators is not None:
            added, parts = self._adversarial(self.discriminators, target_BN, made_BN)
            loss, metrics = loss + added, metrics | parts
        # 2) codebooks
        if self.training:
            metrics["usage"] = self.usage.update(self.codec, encoded, generator)
        return loss, metrics

    def _codebooks(self, device: torch.device, generator: torch.Generator | None) -> int | None:
        """Returns how many codebooks a batch uses; None: all."""
        share, count = self._training.quantizer_dropout, self.codec.config.n_codebooks
        if not self.training or not share:
            return None
        drawn = torch.rand(2, generator=generator, device=device).tolist()
        return 1 + int(drawn[1] * count) if drawn[0] < share else None

    def _adversarial(
        self, judges: Discriminators, target_BN: Tensor, made_BN: Tensor
    ) -> tuple[Tensor, dict[str, Tensor]]:
        """Returns the loss of the codec against the discriminators plus their own, and both as metrics.

        Each is computed with the other's parameters held, so that one backward pass serves both.
        """
        weights = self._training.loss
        own = judges.loss(target_BN, made_BN.detach())
        fooled, feature = detached(judges).fool(target_BN, made_BN)
        added = own + weights.adversarial * (fooled + weights.feature * feature)
        return added, {"judged": own.detach(), "fooled": fooled.detach(), "feature": feature.detach()}
