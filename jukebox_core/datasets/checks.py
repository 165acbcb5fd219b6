"""Checks of recordings before training. Imports no torch.

A finding is one of: unreadable, short, silent, duplicate, unlabelled, which exclude the song; and clipped, which is
only reported.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, get_args

import numpy as np

from jukebox_core.audio.files import read_whole
from jukebox_core.base.hashing import digest_bytes
from jukebox_core.base.text import printable
from jukebox_core.errors import AudioError

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

    from numpy.typing import NDArray

    from jukebox_core.datasets.config import CheckConfig
    from jukebox_core.datasets.songs import Song

Problem = Literal["unreadable", "short", "silent", "duplicate", "unlabelled", "clipped"]

_FULL_SCALE = 0.999  # samples of at least this amplitude are clipped
_NAMED = 3  # files of each problem that a summary names


@dataclass(frozen=True, kw_only=True, slots=True)
class Finding:
    """A problem of one recording."""

    name: str
    problem: Problem
    detail: str


@dataclass(frozen=True, kw_only=True, slots=True)
class Checked:
    """A recording that can be used."""

    song: Song
    sound: str  # digest of its samples


@dataclass(frozen=True, kw_only=True, slots=True)
class Measured:
    """What the checks know of a recording's audio."""

    seconds: float  # at the file's own rate, counted
    samples: int  # at the requested rate
    level_db: float  # RMS relative to full scale
    clipped: float  # share of samples at full scale
    sound: str  # digest of the samples


def measure(path: Path, rate: int) -> tuple[Measured, NDArray[np.float32]]:
    """Returns the measures of a recording and its audio, mono float32 [T] at `rate` Hz; AudioError as `read_audio`."""
    audio_T, seconds = read_whole(path, rate=rate)
    level = 20 * np.log10(max(float(np.sqrt(np.mean(np.square(audio_T, dtype=np.float64)))), 1e-9))
    measured = Measured(
        seconds=seconds,
        samples=len(audio_T),
        level_db=float(level),
        clipped=float(np.mean(np.abs(audio_T) >= _FULL_SCALE)),
        sound=digest_bytes(audio_T.tobytes()),
    )
    return measured, audio_T


class Checks:
    """Checks recordings one after the other, and collects findings."""

    def __init__(
        self, config: CheckConfig, rate: int, problem: Callable[[Song, float], str | None] | None = None
    ) -> None:
        """Starts without findings.

        Args:
            config: thresholds.
            rate: at which recordings are read, in Hz.
            problem: returns why a song that lasts so many seconds cannot be learned from, besides its audio.
        """
        self._config, self.rate, self._problem = config, rate, problem
        self._first: dict[str, str] = {}  # name of the first song by digest of its samples
        self.findings: list[Finding] = []
        self.seen = 0
        self.seconds = 0.0  # total duration of the songs that can be used

    def check(self, song: Song) -> tuple[Checked, NDArray[np.float32]] | None:
        """Returns the recording and its audio, mono float32 [time]; None if it cannot be used."""
        try:
            measured, audio_T = measure(song.path, self.rate)
        except AudioError as error:
            self.exclude_unreadable(song, error)
            return None
        checked = self.judge(song, measured)
        return None if checked is None else (checked, audio_T)

    def judge(self, song: Song, measured: Measured) -> Checked | None:
        """Returns the recording, judged by its measures; None if it cannot be used."""
        self.seen += 1
        seconds = measured.samples / self.rate
        if seconds < self._config.shortest_seconds:
            self._exclude(song, "short", f"{seconds:.2f} s, shorter than {self._config.shortest_seconds:g} s")
            return None
        if measured.level_db < self._config.silence_db:
            self._exclude(song, "silent", f"{-measured.level_db:.0f} dB below full scale")
            return None
        if measured.sound in self._first:
            self._exclude(song, "duplicate", f"same audio as {self._first[measured.sound]}")
            return None
        problem = self._problem(song, measured.seconds) if self._problem is not None else None
        if problem is not None:
            self._exclude(song, "unlabelled", problem)
            return None
        self._first[measured.sound] = song.name
        if measured.clipped > self._config.clipped_share:
            detail = f"{measured.clipped:.1%} of its samples at full scale"
            self.findings.append(Finding(name=song.name, problem="clipped", detail=detail))
        self.seconds += seconds
        return Checked(song=song, sound=measured.sound)

    def exclude_unreadable(self, song: Song, error: AudioError) -> None:
        """Counts a recording that cannot be read."""
        self.seen += 1
        self._exclude(song, "unreadable", str(error))

    def _exclude(self, song: Song, problem: Problem, detail: str) -> None:
        self.findings.append(Finding(name=song.name, problem=problem, detail=detail))

    def require_enough(self, folder: Path) -> None:
        """Checks, after all recordings, that most files of a folder were readable and that some can be used.

        Raises:
            AudioError: too many files are unreadable, the first of which is named, or none can be used.
        """
        unreadable = [finding for finding in self.findings if finding.problem == "unreadable"]
        if len(unreadable) > self._config.most_unreadable * self.seen:
            raise AudioError(
                f"{len(unreadable)} of {self.seen} files in {folder} cannot be read, more than the allowed share of "
                f"{self._config.most_unreadable:g}; the first: {unreadable[0].detail}"
            )
        if not self._first:
            short = any(finding.problem == "short" for finding in self.findings)
            remedy = (
                "make checks.shortest_seconds (in `train`: data.checks.shortest_seconds) smaller, or give longer music"
                if short
                else "give other music"
            )
            raise AudioError(
                f"none of {self.seen} files in {folder} can be used: {'; '.join(self.summary()[1:])}; {remedy}"
            )

    def summary(self) -> list[str]:
        """Returns the findings as lines of text."""
        used = len(self._first)
        lines = [f"{used} of {self.seen} files can be used, {self.seconds / 60:.1f} minutes"]
        counts = Counter(finding.problem for finding in self.findings)
        for problem in get_args(Problem):
            if counts[problem]:
                of_problem: Sequence[Finding] = [finding for finding in self.findings if finding.problem == problem]
                named = ", ".join(f"{finding.name} ({finding.detail})" for finding in of_problem[:_NAMED])
                more = f", and {len(of_problem) - _NAMED} more" if len(of_problem) > _NAMED else ""
                lines.append(printable(f"{counts[problem]} {problem}: {named}{more}"))
        return lines
