"""Checks that a file holds the weights of a role of a model, by names and shapes, without reading them."""

from __future__ import annotations

from functools import lru_cache
from typing import TYPE_CHECKING

from jukebox_core.families.jukebox.checkpoints.loading import build_prior, build_vqvae
from jukebox_core.families.jukebox.checkpoints.renames import PRIOR_RENAMES, VQVAE_RENAMES
from jukebox_core.families.jukebox.config import JukeboxConfig, level_of
from jukebox_core.models.checkpoints.checkpoint import load_into, open_checkpoint

if TYPE_CHECKING:
    from pathlib import Path


def check_weights(config: JukeboxConfig, role: str, path: Path) -> None:
    """Checks that the file at `path` holds every tensor of `role`, in its shape, and nothing else.

    The result is cached until the file's size or time changes.

    Raises:
        CheckpointError: the file is truncated, no checkpoint, unsafe, or of another model.
    """
    stat = path.stat()
    _check(config, role, path, (stat.st_size, stat.st_mtime_ns))


@lru_cache
def _check(config: JukeboxConfig, role: str, path: Path, _state: tuple[int, int]) -> None:
    checkpoint = open_checkpoint(path)
    if role == "vqvae":
        load_into(build_vqvae(config), checkpoint, VQVAE_RENAMES, device="meta")
    else:
        load_into(build_prior(config, level_of(role)), checkpoint, PRIOR_RENAMES, device="meta")
