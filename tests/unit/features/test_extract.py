from __future__ import annotations

from typing import Any, cast

import numpy as np
import pytest

from jukebox_core.errors import AudioError, CheckpointError, JukeboxError
from jukebox_core.features import extract


@pytest.fixture
def opening(monkeypatch: pytest.MonkeyPatch) -> list[JukeboxError]:
    """The errors that opening a recording raises, in order."""
    errors: list[JukeboxError] = []

    def fails(*_: object) -> None:
        raise errors.pop(0)

    monkeypatch.setattr(extract, "_open", fails)
    return errors


def test_an_error_of_a_recording_leaves_it_out_and_one_of_the_weights_ends_all(opening: list[JukeboxError]) -> None:
    opening += [AudioError("too short"), CheckpointError("a tensor is not finite")]
    recording = extract.Recording(audio=np.zeros(9, np.float32), song=None)
    given = AudioError("cannot be read")
    found = extract.extract([given, recording, recording], cast("Any", None))
    assert next(found) == (0, given)
    index, left_out = next(found)
    assert (index, str(left_out)) == (1, "too short")
    with pytest.raises(CheckpointError, match="not finite"):
        next(found)
