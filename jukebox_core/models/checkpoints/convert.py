"""The safetensors copy of a checkpoint in a pickle: where it belongs, and how it is written. Imports no torch."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path

_PICKLES = (".pth.tar", ".pth", ".pt", ".bin", ".ckpt")


def is_pickle(path: str) -> bool:
    """Whether a file of that name is a checkpoint of torch."""
    return path.endswith(_PICKLES)


def copy_path(path: Path) -> Path:
    """Returns where the safetensors copy of a checkpoint belongs: beside it."""
    ending = next(ending for ending in _PICKLES if path.name.endswith(ending))
    return path.with_name(f"{path.name.removesuffix(ending)}.safetensors")


def convert(original: Path, copy: Path) -> None:
    """Writes the safetensors copy of a checkpoint; this needs torch.

    Raises:
        CheckpointError: the file is no checkpoint, damaged, or names code.
    """
    from jukebox_core.models.checkpoints.checkpoint import open_checkpoint, save_safetensors

    checkpoint = open_checkpoint(original)
    steps = {} if checkpoint.step is None else {"step": checkpoint.step}
    save_safetensors(checkpoint.tensors, copy, {**checkpoint.metadata, **steps}, own_names=checkpoint.own_names)
