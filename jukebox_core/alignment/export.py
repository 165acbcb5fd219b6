"""Files of a text in time with music: JSON, LRC, SRT, WebVTT and Praat's TextGrid. Imports no torch.

All times are seconds from the start of the music. JSON has everything and can be read again; the others have lines,
WebVTT and TextGrid words as well.
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from html import escape
from io import BytesIO
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from jukebox_core.alignment.pictures import animation, picture, shown_characters
from jukebox_core.alignment.times import Timed
from jukebox_core.base.atomic import atomic_write
from jukebox_core.base.records import read_json
from jukebox_core.base.structuring import build
from jukebox_core.errors import ConfigError, RecordError, StoreError, did_you_mean

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from jukebox_core.alignment.config import AlignmentConfig
    from jukebox_core.alignment.times import Alignment

SCHEMA = 1


def to_json(alignment: Alignment) -> str:
    """Returns text, and times of characters, words and lines, as JSON."""
    content = {
        "schema": SCHEMA,
        "text": alignment.text,
        "seconds": len(alignment.weights) * alignment.row_seconds,
        "offset_seconds": alignment.offset_seconds,
        "focus": round(alignment.focus(), 4),
        "words": _plain(alignment.words()),
        "lines": _plain(alignment.lines()),
        "characters": _plain(alignment.characters()),
    }
    return json.dumps(content, ensure_ascii=False, indent=1)


def to_lrc(alignment: Alignment) -> str:
    """Returns the lines as LRC: ``[mm:ss.xx]text``."""
    lines = [f"[{int(line.start // 60):02}:{line.start % 60:05.2f}]{_one(line.text)}" for line in alignment.lines()]
    return "\n".join([*lines, ""])


def to_srt(alignment: Alignment) -> str:
    """Returns the lines as SubRip captions."""
    cues = [
        f"{number}\n{_clock(line.start, ',')} --> {_clock(line.end, ',')}\n{_one(line.text)}\n"
        for number, line in enumerate(alignment.lines(), 1)
    ]
    return "\n".join(cues)


def to_vtt(alignment: Alignment) -> str:
    """Returns the lines as WebVTT captions, with a time before each word after the first."""
    words, cues = alignment.words(), ["WEBVTT\n"]
    for line in alignment.lines():
        own = [word for word in words if line.first <= word.first < line.stop]
        text = " ".join(
            (f"<{_clock(word.start, '.')}>" if line.start < word.start < line.end and at else "") + escape(word.text)
            for at, word in enumerate(own)
        )
        cues.append(f"{_clock(line.start, '.')} --> {_clock(line.end, '.')}\n{text}\n")
    return "\n".join(cues)


def to_textgrid(alignment: Alignment) -> str:
    """Returns lines and words as two tiers of a TextGrid, in its long text format."""
    end = len(alignment.weights) * alignment.row_seconds
    tiers = [("lines", alignment.lines()), ("words", alignment.words())]
    text = ['File type = "ooTextFile"', 'Object class = "TextGrid"', "", "xmin = 0", f"xmax = {end!r}"]
    text += ["tiers? <exists>", f"size = {len(tiers)}", "item []:"]
    for number, (name, pieces) in enumerate(tiers, 1):
        intervals = _intervals(pieces, end)
        text += [f"    item [{number}]:", '        class = "IntervalTier"', f'        name = "{name}"']
        text += ["        xmin = 0", f"        xmax = {end!r}", f"        intervals: size = {len(intervals)}"]
        for at, (begin, stop, label) in enumerate(intervals, 1):
            quoted = label.replace('"', '""')
            text += [f"        intervals [{at}]:", f"            xmin = {begin!r}", f"            xmax = {stop!r}"]
            text += [f'            text = "{quoted}"']
    return "\n".join([*text, ""])


WRITERS: dict[str, Callable[[Alignment], str]] = {
    "json": to_json,
    "lrc": to_lrc,
    "srt": to_srt,
    "vtt": to_vtt,
    "TextGrid": to_textgrid,
}
"""By suffix of the file."""


MATRIX = "npy"
_UPSTREAM: dict[str, Callable[[Alignment], bytes]] = {
    "align.json": lambda alignment: json.dumps(animation(alignment.weights).tolist()).encode(),
    "align.png": lambda alignment: _png(alignment),
    "lyrics.json": lambda alignment: json.dumps(shown_characters(alignment.text, alignment.weights)).encode(),
}
"""The files that upstream's page reads, by the end of their name."""


def alignment_paths(config: AlignmentConfig, stem: Path) -> list[Path]:
    """Returns the paths of the files that `write_files` writes: `stem` and an ending for each."""
    endings = (*config.formats, *([MATRIX] if config.matrix else []), *(_UPSTREAM if config.upstream else []))
    return [stem.with_name(f"{stem.name}.{ending}") for ending in endings]


def write_files(alignment: Alignment, config: AlignmentConfig, stem: Path) -> list[Path]:
    """Writes an alignment in every form that `config` asks for, each atomically; returns the paths."""
    paths = alignment_paths(config, stem)
    for path in paths:
        ending = path.name.removeprefix(f"{stem.name}.")
        if ending in WRITERS:
            write_alignment(alignment, path)
            continue
        with atomic_write(path) as file:
            if ending == MATRIX:
                np.save(file, alignment.weights, allow_pickle=False)
            else:
                file.write(_UPSTREAM[ending](alignment))
    return paths


def write_alignment(alignment: Alignment, path: Path) -> Path:
    """Writes an alignment in the format of the path's suffix, atomically; returns the path.

    Raises:
        ConfigError: unknown suffix.
    """
    suffix = path.suffix.removeprefix(".")
    if suffix not in WRITERS:
        raise ConfigError(
            f"{path}: unknown format {suffix!r}; choose one of {', '.join(WRITERS)}{did_you_mean(suffix, WRITERS)}"
        )
    with atomic_write(path) as file:
        file.write(WRITERS[suffix](alignment).encode())
    return path


@dataclass(frozen=True, slots=True)
class TimedText:
    """A text, and the times of its words that the music reaches."""

    text: str
    words: tuple[Timed, ...]


def read_words(path: str | Path) -> list[Timed]:
    """Returns the words in a JSON file that `write_alignment` wrote, or that another aligner gave in the same form.

    Raises:
        StoreError: the file cannot be read, or is not of that form.
    """
    return list(read_text(path).words)


def read_text(path: str | Path) -> TimedText:
    """Returns the text and the words of such a file; the text is "" if the file has none.

    Raises:
        StoreError: the file cannot be read, or is not of that form.
    """
    try:
        content = read_json(Path(path))
        words = [build(Timed, word, f"words.{at}") for at, word in enumerate(content["words"])]
        return TimedText(str(content.get("text", "")), tuple(words))
    except (OSError, RecordError, ValueError, TypeError, KeyError) as error:
        raise StoreError(
            f"{path} holds no words with times ({error}); give a JSON file as `jukebox align` writes"
        ) from None


def _plain(pieces: Sequence[Timed]) -> list[dict[str, Any]]:
    return [asdict(piece) | {"start": round(piece.start, 6), "end": round(piece.end, 6)} for piece in pieces]


def _one(text: str) -> str:
    """Returns a text on one line."""
    return " ".join(text.split())


def _png(alignment: Alignment) -> bytes:
    from PIL import Image

    made = BytesIO()
    Image.fromarray(np.ascontiguousarray(picture(alignment.weights))).save(made, "PNG")
    return made.getvalue()


def _clock(seconds: float, point: str) -> str:
    milliseconds = round(seconds * 1000)
    minutes, rest = divmod(milliseconds, 60_000)
    hours, minutes = divmod(minutes, 60)
    return f"{hours:02}:{minutes:02}:{rest // 1000:02}{point}{rest % 1000:03}"


def _intervals(pieces: Sequence[Timed], end: float) -> list[tuple[float, float, str]]:
    """Returns intervals without gaps and overlaps, as a tier must have them; gaps have no text."""
    intervals: list[tuple[float, float, str]] = []
    at = 0.0
    for piece in pieces:
        start, stop = max(at, piece.start), min(max(piece.end, at), end)
        if stop <= start:
            continue
        if start > at:
            intervals.append((at, start, ""))
        intervals.append((start, stop, _one(piece.text)))
        at = stop
    if at < end or not intervals:
        intervals.append((at, end, ""))
    return intervals
