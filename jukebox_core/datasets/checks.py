"""Checks of recordings before anything is learnt from them. Imports no torch.

A finding is one of: unreadable, short, silent, duplicate, which leave a song out; and clipped, which is only told.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, get_args

import numpy as np

from jukebox_core.audio.files import read_audio
from jukebox_core.base.hashing import digest_bytes
from jukebox_core.errors import AudioError

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from numpy.typing import NDArray

    from jukebox_core.datasets.config import CheckConfig
    from jukebox_core.datasets.songs import Song

Problem = Literal["unreadable", "short", "silent", "duplicate", "clipped"]

_FULL_SCALE = 0.999  # samples from here on count as clipped
_NAMED = 3  # files of each problem that a summary names


@dataclass(frozen=True, kw_only=True, slots=True)
class Finding:
    """What is wrong with one recording."""

    name: str
    problem: Problem
    detail: str


@dataclass(frozen=True, kw_only=True, slots=True)
class Checked:
    """A recording as it was found."""

    song: Song
    samples: int  # at the rate asked for
    sound: str  # digest of the sound


class Checks:
    """Looks at one recording after the other, and remembers what it found."""

    def __init__(self, config: CheckConfig, rate: int) -> None:
        """Takes the rate that recordings are read at."""
        self._config, self._rate = config, rate
        self._first: dict[str, str] = {}  # the first song of each sound
        self.findings: list[Finding] = []
        self.seen = 0
        self.seconds = 0.0  # of the songs that can be used

    def check(self, song: Song) -> tuple[Checked, NDArray[np.float32]] | None:
        """Returns the recording and its sound, mono float32 [time]; None if it cannot be used."""
        self.seen += 1
        try:
            audio = read_audio(song.path, rate=self._rate)
        except AudioError as error:
            self._left_out(song, "unreadable", str(error))
            return None
        seconds = len(audio) / self._rate
        if seconds < self._config.shortest_seconds:
            self._left_out(song, "short", f"{seconds:.2f} s of {self._config.shortest_seconds:g} s at least")
            return None
        level = 20 * np.log10(max(float(np.sqrt(np.mean(np.square(audio, dtype=np.float64)))), 1e-9))
        if level < self._config.silence_db:
            self._left_out(song, "silent", f"{-level:.0f} dB below full scale")
            return None
        sound = digest_bytes(audio.tobytes())
        if sound in self._first:
            self._left_out(song, "duplicate", f"sounds as {self._first[sound]} does")
            return None
        self._first[sound] = song.name
        clipped = float(np.mean(np.abs(audio) >= _FULL_SCALE))
        if clipped > self._config.clipped_share:
            detail = f"{clipped:.1%} of its samples at full scale"
            self.findings.append(Finding(name=song.name, problem="clipped", detail=detail))
        self.seconds += seconds
        return Checked(song=song, samples=len(audio), sound=sound), audio

    def _left_out(self, song: Song, problem: Problem, detail: str) -> None:
        self.findings.append(Finding(name=song.name, problem=problem, detail=detail))

    def require_enough(self, folder: Path) -> None:
        """Refuses a folder in which too many files are unreadable, or none can be used; call it when all were seen.

        Raises:
            AudioError: so it is; the first unreadable file is named.
        """
        unreadable = [finding for finding in self.findings if finding.problem == "unreadable"]
        if len(unreadable) > self._config.most_unreadable * self.seen:
            raise AudioError(
                f"{len(unreadable)} of {self.seen} files in {folder} cannot be read, more than the share of "
                f"{self._config.most_unreadable:g} that is passed over; the first: {unreadable[0].detail}"
            )
        if not self._first:
            raise AudioError(f"none of {self.seen} files in {folder} can be used: {'; '.join(self.summary()[1:])}")

    def summary(self) -> list[str]:
        """Returns plain lines that say what was found."""
        used = len(self._first)
        lines = [f"{used} of {self.seen} files can be used, {self.seconds / 60:.1f} minutes"]
        counts = Counter(finding.problem for finding in self.findings)
        for problem in get_args(Problem):
            if counts[problem]:
                of_it: Sequence[Finding] = [finding for finding in self.findings if finding.problem == problem]
                named = ", ".join(f"{finding.name} ({finding.detail})" for finding in of_it[:_NAMED])
                more = f", and {len(of_it) - _NAMED} more" if len(of_it) > _NAMED else ""
                lines.append(f"{counts[problem]} {problem}: {named}{more}")
        return lines
