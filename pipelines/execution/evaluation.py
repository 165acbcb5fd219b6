"""What `evaluate` prints: scores of notes against the right ones, or statistics where there are none."""

from __future__ import annotations

import json
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from jukebox_core.base.paths import files_below, user_path
from jukebox_core.base.text import format_table
from jukebox_core.errors import ConfigError
from jukebox_core.evaluation.notes import NoteScores, Score, evaluate
from jukebox_core.evaluation.scores import average, statistics
from jukebox_core.notes.notes import read_notes
from pipelines.execution.recordings import run_of, songs_of

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from pipelines.settings.transcribe import EvaluateSettings

_SUFFIXES = (".json", ".mid", ".midi")  # in the order in which they are preferred
_MOST_COLUMNS = 5  # pieces that a table has columns for; JSON has all
_UNITS = {
    "seconds": "seconds of music",
    "drums": "of these, drums",
    "key_clarity": "clarity of the key, at most 1",
    "tempo": "tempo, beats a minute",
    "polyphony": "notes at a time",
    "silence": "share of silence",
    "median_length": "length of notes, median, s",
    "short_length": "length, shortest tenth, s",
    "long_length": "length, longest tenth, s",
    "loop_seconds": "best loop, s",
    "loop_share": "share of notes in it",
}


def report(settings: EvaluateSettings) -> str:
    """Returns the table of the settings, or JSON; errors as of `pipelines.commands.evaluate`."""
    pieces = _pieces(settings.estimate, settings)
    if settings.reference is None:
        return _statistics(pieces, as_json=settings.json)
    reference = _pieces(settings.reference, settings)
    if len(pieces) == len(reference) == 1:
        [name], [right] = pieces, reference.values()
        return _scores({name: _score(right, pieces[name], settings)}, as_json=settings.json)
    missing = sorted(set(pieces) - set(reference))
    if missing:
        raise ConfigError(
            f"{settings.reference} has no notes called {missing[0]}.json or {missing[0]}.mid, and {settings.estimate} "
            "has: give each piece the same name in both"
        )
    return _scores({name: _score(reference[name], pieces[name], settings) for name in pieces}, as_json=settings.json)


def _score(reference: Path, estimate: Path, settings: EvaluateSettings) -> NoteScores:
    return evaluate(read_notes(reference), read_notes(estimate), settings.granularity)


def _pieces(name: str, settings: EvaluateSettings) -> dict[str, Path]:
    """Returns the files of notes by the names of their pieces: of a file, of a folder, or of a run's transcripts.

    Raises:
        ConfigError: a folder has none, or a run was not transcribed.
    """
    run = run_of(name, settings.storage.root)
    if run is not None:
        folder = user_path(settings.folder) / run.name
        found = {song.stem: folder / f"{song.stem}.json" for song in songs_of(run)}
        if not all(path.is_file() for path in found.values()):
            raise ConfigError(
                f"run {run.name} has no notes in {folder}; transcribe it first: jukebox transcribe audio=[{name}]"
            )
        return found
    given = user_path(name)
    if not given.is_dir():
        return {given.stem: given}
    pieces: dict[str, Path] = {}
    for suffix in _SUFFIXES:
        for path in files_below(given, (suffix,)):
            hidden = any(part.startswith(".") for part in path.relative_to(given).parts)
            if not hidden and _holds_notes(path):
                pieces.setdefault(path.relative_to(given).with_suffix("").as_posix(), path)
    if not pieces:
        raise ConfigError(
            f"{given} holds no notes; name a folder of MIDI files, or of JSON files of jukebox transcribe"
        )
    return pieces


def _holds_notes(path: Path) -> bool:
    """Whether a file of a folder is one of notes; folders have other JSON files too, such as an album's recipe."""
    if path.suffix != ".json":
        return True
    try:
        with path.open("rb") as file:
            return b'"truncated_segments"' in file.read(4096)
    except OSError:  # reading its notes says why
        return True


def _scores(scores: Mapping[str, NoteScores], *, as_json: bool) -> str:
    """Returns the scores of each piece and their means over the pieces."""
    mean = {
        field: Score(*(sum(getattr(each, field)[at] for each in scores.values()) / len(scores) for at in range(3)))
        for field in NoteScores._fields
    }
    if as_json:
        plain = {
            name: {field: value._asdict() for field, value in each._asdict().items()} for name, each in scores.items()
        }
        return json.dumps(
            {"pieces": plain, "mean": {field: value._asdict() for field, value in mean.items()}}, indent=2
        )
    rows = [(field.replace("_", " "), *(f"{value:.3f}" for value in score)) for field, score in mean.items()]
    lines = [*format_table([("", "PRECISION", "RECALL", "F1"), *rows])]
    if len(scores) > 1:
        pieces = [(name, *(f"{value.f1:.3f}" for value in each)) for name, each in scores.items()]
        heads = ("F1 OF EACH", *(field.replace("_", " ").upper() for field in NoteScores._fields))
        lines = [f"means over {len(scores)} pieces", *lines, "", *format_table([heads, *pieces])]
    return "\n".join(lines)


def _statistics(pieces: Mapping[str, Path], *, as_json: bool) -> str:
    """Returns the statistics of each piece, and those of all."""
    found = {name: statistics(read_notes(path)) for name, path in pieces.items()}
    mean = average(list(found.values()))
    if as_json:
        return json.dumps({"pieces": {name: asdict(each) for name, each in found.items()}, "mean": mean}, indent=2)
    columns = {name: asdict(each) for name, each in found.items()} if len(found) <= _MOST_COLUMNS else {}
    if len(found) > 1:
        columns = {f"mean of {len(found)}": mean, **columns}
    rows = [
        (_UNITS.get(field, field.replace("_", " ")), *(_shown(column[field]) for column in columns.values()))
        for field in mean
    ]
    return "\n".join(format_table([("", *columns), *rows]))


def _shown(value: Any) -> str:
    if value is None:
        return "-"
    return (
        value
        if isinstance(value, str)
        else f"{value:.0f}"
        if abs(value) >= 100 or value == int(value)
        else f"{value:.2f}"
    )
