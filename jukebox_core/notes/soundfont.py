"""Notes as sound by FluidSynth, with a General MIDI soundfont of the user's. Imports no torch.

A program, not a library, as ffmpeg is here: a soundfont that crashes it ends a process of its own.
"""

from __future__ import annotations

import shutil
import subprocess
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from jukebox_core.audio.files import read_audio
from jukebox_core.base.paths import user_path
from jukebox_core.errors import AudioError, ConfigError

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from jukebox_core.notes.notes import Notes

_HEADER = 12  # bytes: RIFF, the size, and the kind of content
_LONGEST = 900.0  # seconds after which FluidSynth hangs: it plays some hundred times as fast as the music
_PEAK = 0.9


def check_soundfont(name: str) -> Path:
    """Returns the path of a soundfont that FluidSynth can play.

    Raises:
        ConfigError: it is not there or no soundfont, or FluidSynth is not installed.
    """
    path = user_path(name)
    if not path.is_file():
        raise ConfigError(f"soundfont is {path}, but there is no such file; correct the path")
    with path.open("rb") as file:
        header = file.read(_HEADER)
    if header[:4] != b"RIFF" or header[8:] != b"sfbk":
        raise ConfigError(f"soundfont is {path}, which is no soundfont; give an .sf2 file")
    if shutil.which("fluidsynth") is None:
        raise ConfigError(f"soundfont is {path}, but FluidSynth is not installed; install it, or leave soundfont out")
    return path


def play_soundfont(notes: Notes, soundfont: Path, seconds: float, rate: int) -> NDArray[np.float32]:
    """Returns notes as sound, float32 [time] with a peak of 0.9, as FluidSynth plays them; silence without notes.

    Args:
        notes: those that begin within the time.
        soundfont: an .sf2 file (`check_soundfont`).
        seconds: length of the sound.
        rate: sample rate in Hz.

    Raises:
        AudioError: FluidSynth failed.
    """
    out = np.zeros(max(1, round(seconds * rate)), np.float32)
    if not len(notes):
        return out
    with tempfile.TemporaryDirectory(prefix="jukebox-") as folder:
        midi, sound = Path(folder) / "notes.mid", Path(folder) / "notes.wav"
        notes.to_midi(midi)
        command = ["fluidsynth", "-n", "-i", "-q", "-T", "wav", "-O", "s16", "-r", str(rate), "-F", str(sound)]
        try:
            done = subprocess.run(  # noqa: S603
                [*command, str(soundfont), str(midi)], stdin=subprocess.DEVNULL, capture_output=True, text=True,
                errors="replace", timeout=_LONGEST, check=False,
            )  # fmt: skip
        except (OSError, subprocess.TimeoutExpired) as error:
            raise AudioError(f"FluidSynth cannot play {soundfont} ({error}); try another soundfont") from None
        if done.returncode or not sound.is_file():
            reason = (done.stderr.strip().splitlines() or [f"status {done.returncode}"])[-1]
            raise AudioError(f"FluidSynth cannot play {soundfont} ({reason}); try another soundfont")
        played_T = read_audio(sound, rate=rate)[: len(out)]
    out[: len(played_T)] = played_T
    peak = float(np.abs(out).max())
    return out * np.float32(_PEAK / peak) if peak > 0 else out
