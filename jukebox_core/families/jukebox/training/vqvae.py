"""One training step of the VQ-VAE (docs/upstream.md, VQ-VAE and Training).

Shape suffixes: B batch, T time (samples or tokens), C channels, N feature rows.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, cast

import torch
from torch import Tensor, nn

from jukebox_core.families.jukebox.training.codebook import CodebookLearner
from jukebox_core.families.jukebox.training.config import Bandwidths
from jukebox_core.families.jukebox.training.losses import commitment_loss, spectrogram, vqvae_loss

if TYPE_CHECKING:
    from collections.abc import Iterable

    from jukebox_core.families.jukebox.model.vqvae import VQVAE, LevelCodec
    from jukebox_core.families.jukebox.training.config import CodebookConfig, LossConfig, Resolution


class VQVAEStep(nn.Module):
    """The VQ-VAE with the state of its codebooks: a call returns the loss of a batch and updates the codebooks.

    Args:
        vqvae: trained in place.
        loss: weights and bandwidths of the losses.
        codebook: settings of the moving average.
        expected_counts: how often a batch is expected to choose an entry of each level, to continue trained codebooks;
            None: codebooks are initialised with features of the first batch.
    """

    def __init__(
        self,
        vqvae: VQVAE,
        loss: LossConfig,
        codebook: CodebookConfig,
        *,
        expected_counts: Iterable[float] | None = None,
    ) -> None:
        super().__init__()
        self.vqvae, self.loss = vqvae, loss
        self.learners = nn.ModuleList(CodebookLearner(codec.codebook, codebook) for codec in self._codecs)
        if expected_counts is not None:
            for learner, codec, count in zip(self.learners, self._codecs, expected_counts, strict=True):
                cast("CodebookLearner", learner).restore(codec.codebook, count)

    def forward(self, audio_BT: Tensor, generator: torch.Generator | None = None) -> tuple[Tensor, dict[str, Tensor]]:
        """Returns the loss of a batch of mono audio and the metrics by name, all scalars.

        In training mode the codebooks are initialised, then updated; codes are those before the update.

        Raises:
            AudioError: the audio is too short for a token, for linf or for a spectrogram.
        """
        outputs_BT, commitments, measured = [], [], []
        for level, codec in enumerate(self._codecs):
            output_BT, commitment, metrics = self._level(codec, level, audio_BT, generator)
            outputs_BT.append(output_BT)
            commitments.append(commitment)
            measured.append(metrics)
        target_BT = audio_BT[:, : min(output_BT.shape[1] for output_BT in outputs_BT)]
        outputs_BT = [output_BT[:, : target_BT.shape[1]] for output_BT in outputs_BT]
        loss, losses = vqvae_loss(target_BT, outputs_BT, commitments, self.loss)
        means = {name: torch.stack([each[name] for each in measured]).mean() for name in measured[0]}
        usage = {f"usage_l{level + 1}": each["usage"] for level, each in enumerate(measured) if "usage" in each}
        return loss, {**losses, **means, **usage}

    def reconstructions(self, audio_BT: Tensor) -> list[Tensor]:
        """Returns the reconstruction of mono audio from each level, [B, T] each, bottom level first."""
        codes = self.vqvae.encode(audio_BT)
        return [self.vqvae.decode(codes_BT, level) for level, codes_BT in enumerate(codes)]

    def _level(
        self, codec: LevelCodec, level: int, audio_BT: Tensor, generator: torch.Generator | None
    ) -> tuple[Tensor, Tensor, dict[str, Tensor]]:
        """Returns a level's reconstruction, its commitment loss, and its metrics."""
        features_BCT = self.vqvae.features(audio_BT, level)
        rows_NC = features_BCT.detach().transpose(1, 2).flatten(0, 1)
        learner = cast("CodebookLearner", self.learners[level])
        if self.training:
            learner.start(codec.codebook, rows_NC, generator)
        codes_BT = self.vqvae.quantise(features_BCT.detach(), level)
        codewords_BCT = self.vqvae.dequantise(codes_BT, level).detach()
        metrics = {
            "fit": (features_BCT.detach() - codewords_BCT).square().sum(1).mean(),
            "pn": (rows_NC - rows_NC.mean()).norm() / rows_NC.numel() ** 0.5,
        }
        if self.training:
            metrics |= learner.update(codec.codebook, rows_NC, codes_BT.flatten(), generator)
        # Straight-through estimator: the gradient of the codewords is passed to the features.
        passed_BCT = features_BCT + (codewords_BCT - features_BCT).detach()
        return codec.decode(passed_BCT), commitment_loss(features_BCT, codewords_BCT), metrics

    @property
    def _codecs(self) -> list[LevelCodec]:
        return [cast("LevelCodec", codec) for codec in self.vqvae.levels]


@torch.no_grad()
def measure_bandwidths(batches_BT: Iterable[Tensor], resolution: Resolution) -> Bandwidths:
    """Returns the bandwidths of the losses, measured on batches of audio.

    As upstream: l1 is the mean absolute value, l2 the variance, spec the norm of a spectrogram, averaged over batches.
    """
    found = [
        torch.stack(
            [
                audio_BT.abs().mean(),
                audio_BT.square().mean() - audio_BT.mean().square(),
                torch.linalg.vector_norm(spectrogram(audio_BT, resolution), dim=(1, 2)).mean(),
            ]
        )
        for audio_BT in batches_BT
    ]
    l1, l2, spec = (float(value) for value in torch.stack(found).mean(0))
    return Bandwidths(l1=l1, l2=l2, spec=spec)
