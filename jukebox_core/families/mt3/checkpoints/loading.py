"""Loads models from files, and checks files: built on the meta device, then filled tensor by tensor."""

from __future__ import annotations

from functools import lru_cache
from typing import TYPE_CHECKING, Any

import torch

from jukebox_core.errors import CheckpointError
from jukebox_core.families.mt3.checkpoints.renames import PERCEIVER, RENAMES
from jukebox_core.families.mt3.checkpoints.sizes import other_sizes
from jukebox_core.families.mt3.checkpoints.t5x import as_port, is_t5x
from jukebox_core.families.mt3.model.transformer import MT3, frequencies
from jukebox_core.models.checkpoints.checkpoint import Checkpoint, load_into, open_checkpoint, save_safetensors
from jukebox_core.models.checkpoints.shapes import shapes_only

if TYPE_CHECKING:
    from pathlib import Path

    from torch import Tensor

    from jukebox_core.families.mt3.checkpoints.renames import Renames
    from jukebox_core.families.mt3.config import MT3Config, MT3Network


def build(network: MT3Network) -> MT3:
    """Returns a model on the meta device: shapes without memory."""
    with shapes_only():
        return MT3(network)


def load_model(network: MT3Network, path: Path, *, device: torch.device | str | None = None) -> MT3:
    """Returns the model with the weights in `path`, in float32.

    Args:
        network: its sizes.
        path: a file of one of the torch ports, of Lightning, with Magenta's names, or one of this program's own.
        device: where the weights go; None leaves them in main memory.

    Raises:
        CheckpointError: the file is no checkpoint of this model; all differences are in one message.
    """
    model = build(network)

    def cast(_: str, stored: Tensor) -> torch.dtype:
        return torch.float32 if stored.is_floating_point() else stored.dtype

    _fill(model, _opened(network, path), cast=cast, device=device)
    sizes = network.transformer
    if sizes.positions != "file":
        for name, buffer in list(model.named_buffers()):
            owner, _, attribute = name.rpartition(".")
            made = frequencies(sizes.width, sizes.positions).to(buffer.device)
            setattr(model.get_submodule(owner), attribute, made)
    return model.eval().requires_grad_(requires_grad=False)


def check_weights(network: MT3Network, path: Path) -> None:
    """Checks that the file at `path` holds every tensor of the model, in its shape, and nothing else.

    The result is cached until the file's size or time changes.

    Raises:
        CheckpointError: the file is truncated, no checkpoint, unsafe, or of another model.
    """
    stat = path.stat()
    _check(network, path, (stat.st_size, stat.st_mtime_ns))


@lru_cache
def _check(network: MT3Network, path: Path, _state: tuple[int, int]) -> None:
    _fill(build(network), _opened(network, path), device="meta")


def _fill(model: MT3, checkpoint: Checkpoint, **options: Any) -> None:
    table = renames(model.config)
    try:
        load_into(model, checkpoint, table, **options)
    except CheckpointError as error:
        raise CheckpointError(f"{error}{other_sizes(model.config, checkpoint, table)}") from error


def renames(network: MT3Network) -> Renames:
    """Returns the names of upstream's files that hold a model of this kind."""
    return PERCEIVER if network.perceiver is not None else RENAMES


def write_seeded(config: MT3Config, seed: int, path: Path) -> None:
    """Writes untrained weights, drawn from `seed`, to `path`; atomic."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = MT3(config.network)
    save_safetensors(model, path, {"seed": seed, "model": config.name, "trained": False})


def _opened(network: MT3Network, path: Path) -> Checkpoint:
    checkpoint = open_checkpoint(path)
    return as_port(checkpoint, network.transformer.width) if is_t5x(checkpoint) else checkpoint
