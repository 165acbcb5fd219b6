"""A Jukebox model in Python: `jukebox_core.api.Model`, and access to its networks."""

from __future__ import annotations

from typing import TYPE_CHECKING, cast

from jukebox_core.api import Model

if TYPE_CHECKING:
    from jukebox_core.families.jukebox.config import JukeboxConfig
    from jukebox_core.families.jukebox.model.prior import Prior
    from jukebox_core.families.jukebox.model.vqvae import VQVAE
    from jukebox_core.families.jukebox.sampling.codec import VQVAECodec
    from jukebox_core.families.jukebox.sampling.prior_model import PriorModel


class Jukebox(Model):
    """A VQ-VAE and its priors, each loaded when it is first needed; one prior is in memory at a time."""

    @property
    def config(self) -> JukeboxConfig:
        """The model's hyperparameters."""
        return cast("JukeboxConfig", self._settings.config)

    @property
    def vqvae(self) -> VQVAE:
        """The VQ-VAE, loaded."""
        return cast("VQVAECodec", self._open_codec()).vqvae

    def prior(self, level: int) -> Prior:
        """Returns the prior of `level`, loaded; the one of another level is freed first."""
        return cast("PriorModel", self._open_network(self._family.role_of(level))).prior
