"""Checkpoints of Lightning, and bare dicts of tensors."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from jukebox_core.errors import CheckpointError
from jukebox_core.models.checkpoints.checkpoint import open_checkpoint


class Bomb:
    """Touches a file if it is unpickled by a reader that runs code in a pickle."""

    def __init__(self, target: Path) -> None:
        self.target = target

    def __reduce__(self) -> tuple[Any, ...]:
        return Path.touch, (self.target,)


def weights(prefix: str = "") -> dict[str, Tensor]:
    return {f"{prefix}a": torch.arange(6.0).reshape(2, 3), f"{prefix}b": torch.ones(2)}


def assert_weights(path: Path) -> None:
    found = open_checkpoint(path).tensors
    assert found.keys() == weights().keys()
    assert all(torch.equal(found[name], tensor) for name, tensor in weights().items())


@pytest.mark.parametrize("zipped", [True, False])
@pytest.mark.parametrize("key", [None, "state_dict"])
def test_weights_may_be_the_whole_object_or_the_state_of_lightning(
    tmp_path: Path, key: str | None, zipped: bool
) -> None:
    state = weights("module.")
    torch.save({key: state} if key else state, tmp_path / "x.pt", _use_new_zipfile_serialization=zipped)
    assert_weights(tmp_path / "x.pt")


def test_objects_beside_the_weights_of_lightning_are_ignored_and_never_run(tmp_path: Path) -> None:
    trap, path = tmp_path / "trap", tmp_path / "x.ckpt"
    settings = {"lr": 0.1, "manager": Bomb(trap), "seen": {1, 2}, "when": Path("a")}
    content = {"state_dict": weights(), "pytorch-lightning_version": "2.0.9", "hyper_parameters": settings}
    torch.save(content, path)
    assert_weights(path)
    torch.save({**content, "state_dict": {"a": Bomb(trap)}}, path)
    with pytest.raises(CheckpointError, match="'state_dict' holds a"):
        open_checkpoint(path)
    assert not trap.exists()
