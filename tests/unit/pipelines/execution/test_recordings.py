"""Recordings that cannot be used: left out of a folder, an error where the user named one."""

from __future__ import annotations

import pytest

from jukebox_core.errors import AudioError
from pipelines.execution.recordings import usable


def seconds(path: str) -> float:
    if "bad" in path:
        raise AudioError(f"{path} is text")
    return 2.0


def test_those_of_a_folder_are_left_out_with_a_warning(caplog: pytest.LogCaptureFixture) -> None:
    assert usable([("b.wav", False), ("bad.wav", False), ("a.wav", True)], seconds) == {"b.wav": 2.0, "a.wav": 2.0}
    assert "bad.wav is left out: bad.wav is text" in caplog.text


def test_one_that_the_user_named_is_an_error_whatever_the_others_are() -> None:
    with pytest.raises(AudioError, match=r"^bad\.wav is text$"):
        usable([("a.wav", True), ("bad.wav", True)], seconds)


def test_none_that_can_be_used_is_an_error() -> None:
    with pytest.raises(AudioError, match=r"none of 2 recordings can be used; the first: bad1\.wav is text"):
        usable([("bad1.wav", False), ("bad2.wav", False)], seconds)
