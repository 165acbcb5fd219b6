"""What the training flow says about the music that it is given."""

from __future__ import annotations

from types import SimpleNamespace
from typing import TYPE_CHECKING, Any, cast

import numpy as np
import pytest

from jukebox_core.audio.files import write_audio
from jukebox_core.datasets.songs import scan_songs
from jukebox_core.errors import ConfigError
from pipelines.flows.train import _music
from pipelines.settings.compose import TRAIN, compose

if TYPE_CHECKING:
    from pathlib import Path


def test_songs_that_are_all_too_short_name_the_setting(tmp_path: Path) -> None:
    for number in range(2):
        write_audio(tmp_path / f"{number}.wav", np.full(4410, 0.1, np.float32), 44100)
    stages = cast("Any", SimpleNamespace(find_songs=scan_songs))
    with pytest.raises(ConfigError, match=r"^data\.checks\.shortest_seconds is 6, but none of 2 recordings .*lower it"):
        _music(compose(TRAIN, [f"data.audio={tmp_path}"]), stages)
    songs, lengths = _music(compose(TRAIN, [f"data.audio={tmp_path}", "data.checks.shortest_seconds=0.05"]), stages)
    assert (len(songs), len(lengths)) == (2, 2)
