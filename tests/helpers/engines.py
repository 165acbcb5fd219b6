"""The engine that tests of priors and of the VQ-VAE use: the option `--engine`.

Every process of a test run asks for it, also those that need no torch, which is imported only when a prior is prepared.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from jukebox_core.families.jukebox.model.prior import Prior
    from jukebox_core.families.jukebox.model.vqvae import VQVAE

chosen = "eager"


def prepared(prior: Prior) -> Prior:
    """The prior, ready to sample with the chosen engine; half precision goes the plain way where an engine has none."""
    import torch

    from jukebox_core.families.jukebox.engines.engines import prepare

    return prepare(prior, "auto" if prior.compute_dtype is torch.float16 else chosen)


def prepared_vqvae(vqvae: VQVAE) -> VQVAE:
    """The VQ-VAE, ready to encode and decode by the chosen engine."""
    from jukebox_core.families.jukebox.engines.engines import prepare_vqvae

    return prepare_vqvae(vqvae, chosen)
