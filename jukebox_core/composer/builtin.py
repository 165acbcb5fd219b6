"""Audio that prompts begin with: a file, or ``builtin:tune``, which the composer renders. Imports no torch."""

from __future__ import annotations

import math
from pathlib import Path
from typing import TYPE_CHECKING

from jukebox_core.audio.files import read_audio, require_range
from jukebox_core.composer.tune import TUNE_SECONDS, tune
from jukebox_core.errors import AudioError

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

BUILTIN_TUNE = "builtin:tune"  # accepted in place of the path of a prompt


def read_prompt_audio(
    path: str | Path, *, rate: int, seconds: float | None = None, offset: float = 0.0
) -> NDArray[np.float32]:
    """Returns a prompt as mono float32 [T] at ``rate`` Hz.

    Args:
        path: A wav, flac, ogg or mp3 file, or ``builtin:tune``.
        rate: Sample rate of the result, in Hz.
        seconds: Length; None is to the end, for ``builtin:tune`` the first `TUNE_SECONDS`.
        offset: Start, in seconds.

    Raises:
        AudioError: The range is invalid or too long, or the file cannot be read; see `read_audio`.
    """
    require_range(path, seconds, offset)
    if str(path) != BUILTIN_TUNE:
        if _is_missing(path):
            raise AudioError(f"audio file {path} does not exist; correct the path, or use {BUILTIN_TUNE}")
        return read_audio(path, rate=rate, seconds=seconds, offset=offset)
    if seconds is None and offset >= TUNE_SECONDS:
        raise AudioError(
            f"{path} lasts {TUNE_SECONDS:.2f} s, too short to read from {offset:g} s on; "
            "choose an earlier start, or give a length: the tune goes on for as long"
        )
    stop = TUNE_SECONDS if seconds is None else offset + seconds
    samples_T = tune(stop, rate)[math.floor(offset * rate + 1e-6) :]
    return samples_T if seconds is None else samples_T[: math.floor(seconds * rate + 1e-6)]


def _is_missing(path: str | Path) -> bool:
    try:
        Path(path).stat()
    except FileNotFoundError:
        return True
    except (OSError, ValueError):  # a name that no file can have: reading says why
        return False
    return False
