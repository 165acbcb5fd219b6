"""The engine that tests of priors use: what `--engine` says."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch

from jukebox_core.families.jukebox.engines import prepare

if TYPE_CHECKING:
    from jukebox_core.families.jukebox.prior import Prior

chosen = "eager"


def prepared(prior: Prior) -> Prior:
    """The prior, ready to sample by the chosen engine; half precision goes the plain way where an engine has none."""
    return prepare(prior, "auto" if prior.compute_dtype is torch.float16 else chosen)
