"""The report of a run: one HTML page beside its audio and pictures, to listen and choose.

The page needs neither a server nor a network, and the folder can be moved or zipped.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import partial
from pathlib import PurePosixPath
from typing import TYPE_CHECKING, NamedTuple
from urllib.parse import quote

from jukebox_core.alignment.times import word_spans
from jukebox_core.base.atomic import atomic_write
from jukebox_core.base.text import format_seconds
from jukebox_core.errors import RunError
from jukebox_core.models.download.web import without_secrets

if TYPE_CHECKING:
    from pathlib import Path

    from jukebox_core.alignment.export import TimedText

_ADDRESS = re.compile(r"[a-z][a-z0-9+.-]*://\S+")
_LINGERS = 1.0  # seconds that a word stays marked after its end, if no other begins
LEVEL_NAMES = {0: "Bottom level", 1: "Middle level", 2: "Top level"}


@dataclass(frozen=True, kw_only=True, slots=True)
class Track:
    """One level of a song as sound. Paths are relative to the report's folder, with forward slashes."""

    level: int
    audio: str
    seconds: float
    peak: float  # largest absolute value before writing; above 1 is beyond full scale
    rms: float  # root of the mean square
    waveform: str | None = None  # a picture
    spectrogram: str | None = None  # a picture


class Piece(NamedTuple):
    """A part of the lyrics. Without a time it is text between words, or a word that the music does not reach."""

    text: str
    start: float | None = None  # seconds from the start of the music
    end: float | None = None  # until when it is marked while the music plays
    estimated: bool = False


class Picture(NamedTuple):
    """A picture, and what it shows."""

    path: str
    shows: str


@dataclass(frozen=True, kw_only=True, slots=True)
class Original:
    """The recording that a song varies, as the codec hears it, and pictures of codes: the mask, and the result."""

    sound: Track
    grids: tuple[Picture, ...] = ()


@dataclass(frozen=True, kw_only=True, slots=True)
class Song:
    """One sample of the run: its labels, and its levels as sound, in any order."""

    index: int
    artist: str
    genre: str
    lyrics: str
    tracks: tuple[Track, ...]
    words: TimedText | None = None  # the lyrics in time with the music, as they were aligned
    original: Original | None = None  # None: it varies none

    @property
    def labels(self) -> str:
        """What the song is, in a line."""
        said = [each for each in (self.artist, self.genre) if each]
        return ", ".join([*said, *(["no lyrics"] if self.original is None and not self.lyrics.strip() else [])])

    @property
    def pieces(self) -> list[Piece]:
        """The lyrics piece by piece: words with their times, and what is between them or has no time."""
        return [] if self.words is None else pieces(self.lyrics, self.words)


@dataclass(frozen=True, kw_only=True, slots=True)
class Timing:
    """Cost of one stage, or of one level of a stage, in this run. None: it has no tokens or no windows."""

    stage: str
    seconds: float
    level: int | None = None
    tokens: int | None = None  # sampled in this run, all songs together; reused ones do not count
    windows_sampled: int | None = None
    windows_reused: int | None = None  # found in the store, so not sampled again

    @property
    def tokens_per_second(self) -> float | None:
        """Tokens per second, or None if no token was sampled."""
        return self.tokens / self.seconds if self.tokens and self.seconds > 0 else None


@dataclass(frozen=True, kw_only=True, slots=True)
class Report:
    """The content of the page. All settings are shown, addresses without user, password and query."""

    title: str
    model: str
    trained: bool
    training_note: str = ""  # one line on the training data
    licence: str
    settings: Mapping[str, object]
    songs: tuple[Song, ...]
    timings: tuple[Timing, ...] = ()
    notes: tuple[str, ...] = ()
    level_names: Mapping[int, str] = field(default_factory=lambda: LEVEL_NAMES)


def write_report(folder: Path, report: Report) -> Path:
    """Writes ``report.html`` into ``folder`` and returns its path. The write is atomic.

    Args:
        folder: the run's folder; it holds the audio and the pictures that the tracks name.
        report: the content. Every text is escaped: lyrics are never interpreted as HTML.

    Raises:
        RunError: a track names a file that is outside ``folder`` or missing, or a song has a level twice.
        DiskError: the page cannot be written.
    """
    from jinja2 import Environment, PackageLoader, StrictUndefined  # only a run that reaches its end needs it

    for song in report.songs:
        _check_song(folder, song)
    environment = Environment(
        loader=PackageLoader("stages.sound"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters.update(
        url=quote,
        clock=clock,
        position=position,
        decibels=decibels,
        standing=standing,
        level_name=partial(level_name, names=report.level_names),
    )
    html = environment.get_template("report.html.j2").render(report=report, groups=setting_groups(report.settings))
    page = folder / "report.html"
    with atomic_write(page) as file:
        file.write(html.encode("utf-8"))
    return page


def pieces(lyrics: str, timed: TimedText) -> list[Piece]:
    """Returns the lyrics of a song piece by piece, with the times of its words.

    Joined, the pieces are the song's own lyrics if these have as many words as the text that the model read; else that
    text. A word is marked until the next one begins, but at most a second after its own end.
    """
    read, own = word_spans(timed.text), word_spans(lyrics)
    text, spans = (lyrics, own) if len(own) == len(read) else (timed.text, read)
    following = [*(word.start for word in timed.words[1:]), math.inf]
    times = {
        word.first: (word.start, min(until, word.end + _LINGERS), word.estimated)
        for word, until in zip(timed.words, following, strict=False)
    }
    found, at = list[Piece](), 0
    for (place, _), (first, stop) in zip(read, spans, strict=True):
        if first > at:
            found.append(Piece(text[at:first]))
        found.append(Piece(text[first:stop], *times.get(place, ())))
        at = stop
    return [*found, Piece(text[at:])] if at < len(text) else found


def level_name(level: int, names: Mapping[int, str] = LEVEL_NAMES) -> str:
    """Returns the field's word for a level: bottom, middle or top, or another of the model's family."""
    return names.get(level, f"Level {level}")


def standing(level: int) -> str:
    """Returns ``final`` for level 0 and ``draft`` for the levels above it."""
    return "final" if level == 0 else "draft"


def clock(seconds: float) -> str:
    """Returns a duration in the format of players: ``6.0 s``, ``1:05``, ``1:02:03``."""
    if seconds < 59.95:
        return f"{seconds:.1f} s"
    return format_seconds(round(seconds))


def position(seconds: float) -> str:
    """Returns a position in the music in the format of players: ``0:03.4``, ``1:02:03.4``."""
    minutes, tenths = divmod(round(seconds * 10), 600)
    hours, minutes = divmod(minutes, 60)
    whole = f"{hours}:{minutes:02}" if hours else str(minutes)
    return f"{whole}:{tenths // 10:02}.{tenths % 10}"


def decibels(value: float) -> str:
    """Returns an amplitude as decibels relative to full scale, with a sign; silence is minus infinity."""
    if value <= 0:
        return "\N{MINUS SIGN}\N{INFINITY} dB"
    level = round(20 * math.log10(value), 1) + 0.0  # + 0.0: no negative zero
    return f"{level:+.1f} dB".replace("-", "\N{MINUS SIGN}")


def setting_groups(settings: Mapping[str, object]) -> list[tuple[str, list[tuple[str, str]]]]:
    """Returns the settings as (group, rows): a group for each nested one, plain ones first under ``run``."""
    plain = {name: value for name, value in settings.items() if not isinstance(value, Mapping)}
    groups = [("run", setting_rows(plain))] if plain else []
    return groups + [(name, setting_rows(value)) for name, value in settings.items() if isinstance(value, Mapping)]


def setting_rows(settings: Mapping[str, object], prefix: str = "") -> list[tuple[str, str]]:
    """Returns (dotted name, value) of every setting, as one would override it on the command line."""
    rows: list[tuple[str, str]] = []
    for name, value in settings.items():
        if isinstance(value, Mapping) and value:
            rows += setting_rows(value, f"{prefix}{name}.")
        else:
            shown = _without_secrets(value)
            text = shown if isinstance(shown, str) else json.dumps(shown, ensure_ascii=False, default=str)
            rows.append((f"{prefix}{name}", text))
    return rows


def _without_secrets(value: object) -> object:
    """Returns a setting with user, password and query removed from addresses in it: a report is passed on."""
    if isinstance(value, (list, tuple)):
        return [_without_secrets(each) for each in value]
    return without_secrets(value) if isinstance(value, str) and _ADDRESS.fullmatch(value) else value


def _check_song(folder: Path, song: Song) -> None:
    levels = [track.level for track in song.tracks]
    if len(set(levels)) < len(levels):
        raise RunError(f"sample {song.index} has levels {levels}; give each level once")
    original = song.original
    shown = [*song.tracks, *([] if original is None else [original.sound])]
    grids = [] if original is None else [each.path for each in original.grids]
    for paths in (grids, *((track.audio, track.waveform, track.spectrogram) for track in shown)):
        for path in paths:
            if path is None:
                continue
            parts = PurePosixPath(path)
            if parts.is_absolute() or ".." in parts.parts or "\\" in path:
                raise RunError(f"{path!r} is not inside the report's folder; give a path relative to {folder}")
            if not (folder / parts).is_file():
                raise RunError(f"{path!r} is not in {folder}; write audio and pictures before the report")
