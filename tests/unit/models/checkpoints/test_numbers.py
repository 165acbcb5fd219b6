"""Numbers of numpy in the settings of a checkpoint of torch."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pytest
import torch

from jukebox_core.errors import CheckpointError
from jukebox_core.models.checkpoints.checkpoint import open_checkpoint

if TYPE_CHECKING:
    from pathlib import Path


@pytest.mark.parametrize("protocol", [2, 4])
@pytest.mark.parametrize("zipped", [True, False])
def test_numbers_of_numpy_in_the_settings_are_numbers(tmp_path: Path, zipped: bool, protocol: int) -> None:
    settings = {"width": np.int64(32), "rate": np.float64(0.1), "half": np.float16(1.5), "is_prior": np.bool_(True)}
    path = tmp_path / "x.pth.tar"
    content = {"model": {"a": torch.zeros(2)}, "hps": settings, "step": 3}
    torch.save(content, path, _use_new_zipfile_serialization=zipped, pickle_protocol=protocol)
    found = dict(open_checkpoint(path).metadata)
    assert found == {"width": 32, "rate": 0.1, "half": 1.5, "is_prior": True}
    assert [type(value) for value in found.values()] == [int, float, float, bool]


def test_an_array_of_numpy_is_refused_as_what_it_is(tmp_path: Path) -> None:
    path = tmp_path / "x.pth.tar"
    torch.save({"model": {"a": torch.zeros(2)}, "hps": {"ids": np.arange(3)}}, path)
    with pytest.raises(CheckpointError, match="_reconstruct: it holds objects of numpy, and nothing of it was run"):
        open_checkpoint(path)
