"""What the VQ-VAE is trained on: distances between sound and its reconstruction (paper, section 3; golden README 2.2).

Pure functions. Every distance is divided by a *bandwidth*, its typical size in the data, so that terms compare.

Shape suffixes: B batch, T time (samples), C channels, F frequency bins, S spectrogram frames.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from jukebox_core.errors import AudioError, ConfigError

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

QUIET = 2e-3  # a target whose spectrogram has no larger norm counts as silent


@dataclass(frozen=True, kw_only=True, slots=True)
class Bandwidths:
    """Typical sizes in the training data: mean absolute value, mean square, and norm of a spectrogram."""

    l1: float = 1.0
    l2: float = 1.0
    spec: float = 1.0

    def __post_init__(self) -> None:
        """Checks ranges."""
        for name in ("l1", "l2", "spec"):
            if not getattr(self, name) > 0:
                raise ConfigError(f"bandwidth {name} is {getattr(self, name)}; it must be positive (1 changes nothing)")


@dataclass(frozen=True, kw_only=True, slots=True)
class Resolution:
    """One short-time Fourier transform; sizes in samples."""

    n_fft: int
    hop: int
    window: int


@dataclass(frozen=True, kw_only=True, slots=True)
class LossConfig:
    """Which distances count, and how much. The defaults are the released VQ-VAE's."""

    bandwidths: Bandwidths = Bandwidths()
    l1: float = 0.0
    l2: float = 1.0
    linf: float = 0.02
    linf_k: int = 2048  # how many of an item's largest squared residuals linf averages
    spectral: float = 0.0
    multispectral: float = 1.0
    commit: float = 0.02
    resolution: Resolution = Resolution(n_fft=2048, hop=256, window=1536)
    resolutions: tuple[Resolution, ...] = (
        Resolution(n_fft=2048, hop=240, window=1200),
        Resolution(n_fft=1024, hop=120, window=600),
        Resolution(n_fft=512, hop=50, window=240),
    )


def l1_loss(target_BT: Tensor, output_BT: Tensor, bandwidths: Bandwidths) -> Tensor:
    """Returns the mean absolute residual over its bandwidth, a scalar."""
    return (output_BT - target_BT).abs().mean() / bandwidths.l1


def l2_loss(target_BT: Tensor, output_BT: Tensor, bandwidths: Bandwidths) -> Tensor:
    """Returns the mean squared residual over its bandwidth, a scalar."""
    return (output_BT - target_BT).square().mean() / bandwidths.l2


def linf_loss(target_BT: Tensor, output_BT: Tensor, bandwidths: Bandwidths, k: int) -> Tensor:
    """Returns the mean of each item's `k` largest squared residuals over the l2 bandwidth, a scalar.

    Raises:
        AudioError: the audio has fewer than `k` samples.
    """
    if target_BT.shape[1] < k:
        raise AudioError(f"audio has {target_BT.shape[1]} samples; linf needs at least linf_k = {k}")
    return (output_BT - target_BT).square().topk(k, dim=1).values.mean() / bandwidths.l2


def reconstruction_loss(target_BT: Tensor, output_BT: Tensor, config: LossConfig) -> Tensor:
    """Returns the weighted sum of l1, l2 and linf that upstream calls lmix, a scalar.

    Raises:
        AudioError: linf counts and the audio has fewer than `config.linf_k` samples.
    """
    loss = config.l1 * l1_loss(target_BT, output_BT, config.bandwidths)
    loss = loss + config.l2 * l2_loss(target_BT, output_BT, config.bandwidths)
    if config.linf:
        loss = loss + config.linf * linf_loss(target_BT, output_BT, config.bandwidths, config.linf_k)
    return loss


def spectrogram(audio_BT: Tensor, resolution: Resolution) -> Tensor:
    """Returns magnitudes, [B, F, S], of centred, mirrored frames under a periodic Hann window.

    Raises:
        AudioError: the audio is too short to be mirrored by half a frame.
    """
    half = resolution.n_fft // 2
    if audio_BT.shape[1] <= half:
        raise AudioError(f"audio has {audio_BT.shape[1]} samples; an n_fft of {resolution.n_fft} needs over {half}")
    window = torch.hann_window(resolution.window, dtype=audio_BT.dtype, device=audio_BT.device)
    frames_BFS: Tensor = torch.stft(
        audio_BT, resolution.n_fft, resolution.hop, resolution.window, window, pad_mode="reflect", return_complex=True
    )
    return frames_BFS.abs()


def _item_norms(magnitudes_BFS: Tensor) -> Tensor:
    norms_B: Tensor = torch.linalg.vector_norm(magnitudes_BFS, dim=(1, 2))
    return norms_B


def spectral_loss(target_BT: Tensor, output_BT: Tensor, bandwidths: Bandwidths, resolution: Resolution) -> Tensor:
    """Returns the norm of each item's difference of magnitudes over its bandwidth, averaged to a scalar.

    Raises:
        AudioError: the audio is too short for the resolution.
    """
    residual_BFS = spectrogram(output_BT, resolution) - spectrogram(target_BT, resolution)
    return (_item_norms(residual_BFS) / bandwidths.spec).mean()


def multispectral_loss(
    target_BT: Tensor, output_BT: Tensor, bandwidths: Bandwidths, resolutions: Sequence[Resolution]
) -> Tensor:
    """Returns the mean of `spectral_loss` over `resolutions`, a scalar.

    Raises:
        AudioError: the audio is too short for a resolution.
    """
    losses = [spectral_loss(target_BT, output_BT, bandwidths, resolution) for resolution in resolutions]
    return torch.stack(losses).mean()


def spectral_convergence(target_BT: Tensor, output_BT: Tensor, resolution: Resolution) -> Tensor:
    """Returns the norm of the difference of magnitudes relative to the target's, averaged to a scalar; 0 for silence.

    Raises:
        AudioError: the audio is too short for the resolution.
    """
    target_BFS = spectrogram(target_BT, resolution)
    target_B = _item_norms(target_BFS)
    residual_B = _item_norms(spectrogram(output_BT, resolution) - target_BFS)
    return (residual_B * (target_B > QUIET) / target_B.clamp_min(QUIET)).mean()


def commitment_loss(features_BCT: Tensor, codewords_BCT: Tensor) -> Tensor:
    """Returns the mean squared distance of the features from their codewords, which receive no gradient; a scalar."""
    return (codewords_BCT.detach() - features_BCT).square().mean()


def vqvae_loss(
    target_BT: Tensor, outputs_BT: Sequence[Tensor], commitments: Sequence[Tensor], config: LossConfig
) -> tuple[Tensor, Mapping[str, Tensor]]:
    """Returns the loss to minimise, a scalar, and every metric by its name, scalars too.

    Losses are summed over levels; ``..._l1`` to ``..._l3`` are those of level 0 to 2. Metrics that carry no level
    and are not such sums (l1, l2, linf and spectral_convergence) describe level 0.

    Args:
        target_BT: the sound, mono.
        outputs_BT: its reconstruction from each level, bottom first.
        commitments: `commitment_loss` of each level.
        config: weights, bandwidths and resolutions.

    Raises:
        AudioError: the audio is too short for linf or for a spectrogram.
    """
    bandwidths, bottom_BT = config.bandwidths, outputs_BT[0]
    by_name = {
        "recons_loss": [reconstruction_loss(target_BT, output_BT, config) for output_BT in outputs_BT],
        "spectral_loss": [spectral_loss(target_BT, out_BT, bandwidths, config.resolution) for out_BT in outputs_BT],
        "multispectral_loss": [
            multispectral_loss(target_BT, output_BT, bandwidths, config.resolutions) for output_BT in outputs_BT
        ],
    }
    sums = {name: torch.stack(losses).sum() for name, losses in by_name.items()}
    sums["commit_loss"] = torch.stack(list(commitments)).sum()
    loss = (
        sums["recons_loss"]
        + config.spectral * sums["spectral_loss"]
        + config.multispectral * sums["multispectral_loss"]
        + config.commit * sums["commit_loss"]
    )
    with torch.no_grad():
        metrics = {f"{name}_l{level + 1}": value for name, all_ in by_name.items() for level, value in enumerate(all_)}
        metrics |= sums
        metrics["spectral_convergence"] = spectral_convergence(target_BT, bottom_BT, config.resolution)
        metrics["l2_loss"] = l2_loss(target_BT, bottom_BT, bandwidths)
        metrics["l1_loss"] = l1_loss(target_BT, bottom_BT, bandwidths)
        metrics["linf_loss"] = linf_loss(target_BT, bottom_BT, bandwidths, config.linf_k)
    return loss, {name: value.detach() for name, value in metrics.items()}
