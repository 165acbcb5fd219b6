"""Losses of the VQ-VAE: distances between audio and its reconstruction (paper, section 3; docs/upstream.md, VQ-VAE).

Pure functions. Every distance is divided by a *bandwidth*, its typical magnitude in the data: terms are comparable.

Shape suffixes: B batch, T time (samples), C channels, F frequency bins, S spectrogram frames.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import Tensor

from jukebox_core.errors import AudioError

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from jukebox_core.families.jukebox.training.config import Bandwidths, LossConfig, Resolution

LOG_FLOOR = 1e-4  # of magnitudes whose logarithm is taken, times the window: 74 dB below a full-scale sine
QUIET = 2e-3  # a target whose spectrogram has no larger norm counts as silent


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
        AudioError: linf has a weight, and the audio has fewer than `config.linf_k` samples.
    """
    loss = config.l1 * l1_loss(target_BT, output_BT, config.bandwidths)
    loss = loss + config.l2 * l2_loss(target_BT, output_BT, config.bandwidths)
    if config.linf:
        loss = loss + config.linf * linf_loss(target_BT, output_BT, config.bandwidths, config.linf_k)
    return loss


def spectrogram(audio_BT: Tensor, resolution: Resolution) -> Tensor:
    """Returns magnitudes, [B, F, S], of centred frames with reflection padding under a periodic Hann window.

    Raises:
        AudioError: the audio is shorter than the padding of half a frame.
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


def log_spectral_loss(target_BT: Tensor, output_BT: Tensor, resolutions: Sequence[Resolution]) -> Tensor:
    """Returns the mean difference of log magnitudes, in nats, over bins, frames and `resolutions`, a scalar.

    Raises:
        AudioError: the audio is too short for a resolution.
    """
    losses = []
    for resolution in resolutions:
        floor = LOG_FLOOR * resolution.window
        target_BFS, output_BFS = (spectrogram(each, resolution) + floor for each in (target_BT, output_BT))
        losses.append((output_BFS.log() - target_BFS.log()).abs().mean())
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
    """Returns the mean squared distance of the features from their codewords, which receive no gradient, a scalar."""
    return (codewords_BCT.detach() - features_BCT).square().mean()


def vqvae_loss(
    target_BT: Tensor, outputs_BT: Sequence[Tensor], commitments: Sequence[Tensor], config: LossConfig
) -> tuple[Tensor, Mapping[str, Tensor]]:
    """Returns the loss to minimise, a scalar, and the metrics by name, scalars.

    Losses are summed over levels; ``..._l1`` to ``..._l3`` are those of level 0 to 2. Metrics that carry no level
    and are not such sums (l1, l2, linf and spectral_convergence) describe level 0.

    Args:
        target_BT: audio, mono.
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
    if config.log_spectral:
        by_name["log_spectral_loss"] = [
            log_spectral_loss(target_BT, output_BT, config.resolutions) for output_BT in outputs_BT
        ]
    sums = {name: torch.stack(losses).sum() for name, losses in by_name.items()}
    sums["commit_loss"] = torch.stack(list(commitments)).sum()
    loss = (
        sums["recons_loss"]
        + config.spectral * sums["spectral_loss"]
        + config.multispectral * sums["multispectral_loss"]
        + config.commit * sums["commit_loss"]
    )
    if config.log_spectral:
        loss = loss + config.log_spectral * sums["log_spectral_loss"]
    with torch.no_grad():
        metrics = {f"{name}_l{level + 1}": value for name, all_ in by_name.items() for level, value in enumerate(all_)}
        metrics |= sums
        metrics["spectral_convergence"] = spectral_convergence(target_BT, bottom_BT, config.resolution)
        metrics["l2_loss"] = l2_loss(target_BT, bottom_BT, bandwidths)
        metrics["l1_loss"] = l1_loss(target_BT, bottom_BT, bandwidths)
        metrics["linf_loss"] = linf_loss(target_BT, bottom_BT, bandwidths, config.linf_k)
    return loss, {name: value.detach() for name, value in metrics.items()}
