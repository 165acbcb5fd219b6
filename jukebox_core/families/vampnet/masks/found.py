"""What masks take from files and recordings: beats, onsets, drawn tokens. Imports no torch.

A mask with all of it (`complete`) needs neither again: a run stores it, and is resumed without them. librosa finds
beats (dynamic programming over onset strengths; Ellis 2007) and onsets; it is an optional dependency.
"""

from __future__ import annotations

import re
from dataclasses import replace
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from jukebox_core.base.checks import require
from jukebox_core.base.paths import user_path
from jukebox_core.errors import ConfigError
from jukebox_core.families.vampnet.masks.config import TRACKER
from jukebox_core.families.vampnet.masks.drawn import read_drawn

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.typing import NDArray

    from jukebox_core.families.vampnet.config import CodebooksConfig
    from jukebox_core.families.vampnet.masks.config import MaskConfig

    Sound = Callable[[], NDArray[np.float32]]  # the recording, mono, at the codec's rate

BEAT_FILES = (".txt", ".csv", ".tsv", ".beats")
_SEPARATORS = re.compile(r"[,;\s]+")
_LARGEST = 1_000_000  # beats of one file


def check_found(mask: MaskConfig, books: int) -> None:
    """Checks what a mask takes from elsewhere, as far as that needs no recording.

    Raises:
        ConfigError: the drawn mask or a file of beats cannot be read, or librosa is needed and not installed.
    """
    if mask.file is not None:
        read_drawn(mask.file, books)
    source = mask.beats.source
    if (source == TRACKER or mask.needs_onsets) and find_spec("librosa") is None:
        wanted, given = (
            ("mask.beats.source", "mask.beats.times") if source == TRACKER else ("mask.onset_width", "mask.onsets")
        )
        raise ConfigError(
            f"{wanted} needs librosa, which is not installed; pip install 'jukebox-pipelines[beats]', or give {given}"
        )
    if source not in (None, TRACKER) and not user_path(str(source)).is_dir():
        read_beats(user_path(str(source)))


def complete(mask: MaskConfig, recording: str, sound: Sound, codec: CodebooksConfig) -> MaskConfig:
    """Returns a mask with the beats, onsets and drawn tokens of one recording in it.

    Args:
        mask: the mask.
        recording: name of its file, by which its beats are found in a folder of them.
        sound: returns the recording; called where something has to be found in it.
        codec: of the model.

    Raises:
        ConfigError: as `check_found`, or a beat is beyond the end of the recording.
    """
    if mask.file is not None:
        mask = replace(mask, file=None, drawn=read_drawn(mask.file, codec.n_codebooks))
    if mask.needs_onsets:
        mask = replace(mask, onsets=tuple(onsets(sound(), codec)))
    source = mask.beats.source
    if source is not None:
        times, bars = (
            track(sound(), codec.sample_rate) if source == TRACKER else read_beats(_file_of(source, recording))
        )
        mask = replace(mask, beats=replace(mask.beats, source=None, times=times, bars=bars))
    return mask


def track(sound: NDArray[np.float32], rate: int) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Returns the times of the beats in a recording, in seconds; librosa's tracker finds no bars."""
    librosa = _librosa()
    if len(sound) < rate // 10 or not np.any(sound):
        return (), ()
    _, found = librosa.beat.beat_track(y=sound, sr=rate, units="time", trim=False)
    end = len(sound) / rate
    return tuple(round(float(at), 6) for at in found if at < end), ()


def onsets(sound: NDArray[np.float32], codec: CodebooksConfig) -> list[int]:
    """Returns the steps of a recording at which something begins."""
    librosa = _librosa()
    if len(sound) < codec.hop or not np.any(sound):
        return []
    found = librosa.onset.onset_detect(y=sound, sr=codec.sample_rate, hop_length=codec.hop, backtrack=True)
    return [int(at) for at in found if at * codec.hop < len(sound)]


def read_beats(file: Path) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Returns the times of all beats in a file, and of those that begin bars.

    A line is a time in seconds, and may have the number of the beat in its bar, where 1 begins one; lines that begin
    with ``#`` are comments.

    Raises:
        ConfigError: the file cannot be read, or holds no times.
    """
    try:
        lines = file.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeError) as error:
        reason = getattr(error, "strerror", None) or error
        raise ConfigError(f"the beats {file} cannot be read ({reason}); correct mask.beats.source") from None
    rows = [_SEPARATORS.split(line.strip()) for line in lines if line.strip() and not line.startswith("#")]
    try:
        times = [(float(row[0]), len(row) > 1 and float(row[1]) == 1) for row in rows]
    except ValueError:
        raise ConfigError(
            f"the beats {file} hold something else than times; write a line for each beat: its time in seconds, and "
            "the number of the beat in its bar, if known"
        ) from None
    require(len(times) <= _LARGEST, f"the beats {file} are {len(times):,}; give at most {_LARGEST:,}")
    require(bool(times), f"the beats {file} hold no time; write a line for each beat, or set mask.beats.source=null")
    return tuple(at for at, _ in times), tuple(at for at, first in times if first)


def _file_of(source: str, recording: str) -> Path:
    """Returns the file of beats of one recording: the source itself, or the one of the same name in that folder."""
    given = user_path(source)
    if not given.is_dir():
        return given
    stem = Path(recording).stem
    found = [path for suffix in BEAT_FILES if (path := given / f"{stem}{suffix}").is_file()]
    require(
        bool(found), f"{given} has no beats of {recording}; name its file {stem}.txt, a line for each beat in seconds"
    )
    return found[0]


def _librosa() -> Any:
    return import_module("librosa")  # it takes seconds, and has no types
