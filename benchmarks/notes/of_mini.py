"""The notes of songs that mini made, as mini_mt3 hears them, beside those of the songs that mini learned from.

The same artists, genres and lyrics three times: the composer's own notes, those that are heard in its songs, and those
that are heard in mini's. ``python -m benchmarks.notes.of_mini --help``; the last line printed is JSON.
"""

from __future__ import annotations

import argparse
import json
from typing import TYPE_CHECKING, Any

import numpy as np

from benchmarks.mini.subject import HELD_OUT_SEED
from jukebox_core import Song, load_model
from jukebox_core.composer.album import plan_album, render_score
from jukebox_core.composer.config import AlbumConfig
from jukebox_core.composer.styles import GENRES
from jukebox_core.composer.transcript import score_notes
from jukebox_core.evaluation.rhythm import tempo_is
from jukebox_core.evaluation.scores import average, statistics
from jukebox_core.notes.notes import Notes
from jukebox_core.runtime.config import HardwareConfig
from pipelines.settings.compose import GENERATE, compose

if TYPE_CHECKING:
    from collections.abc import Sequence

    from jukebox_core.evaluation.scores import ScoreStatistics

SHOWN = (
    "notes_per_second", "instruments", "key_clarity", "tempo", "tempo_of_genre", "polyphony", "most_at_once", "silence",
    "median_length", "long_length", "loop_seconds", "loop_share",
)  # fmt: skip


def main(arguments: Sequence[str] | None = None) -> None:
    """Measures, prints a table, and one line of JSON last."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.notes.of_mini", description=__doc__)
    parser.add_argument("--songs", type=int, default=8)
    parser.add_argument("--seconds", type=float, default=12.0, help="length of each song")
    parser.add_argument("--threads", type=int, default=1)
    options = parser.parse_args(arguments)
    found = run(options.songs, options.seconds, threads=options.threads)
    for name in ("of", *SHOWN):
        print(f"{name:<18}" + "".join(f"{_text(row[name]):>22}" for row in found))
    print(json.dumps({"benchmark": "notes_of_mini", "songs": options.songs, "seconds": options.seconds, "rows": found}))


def run(songs: int, seconds: float, *, threads: int = 1) -> list[dict[str, Any]]:
    """Returns the mean statistics of the composer's notes, of its songs and of mini's."""
    hardware = HardwareConfig(device="cpu", threads=threads)
    mini, transcriber = load_model("mini", hardware=hardware), load_model("mini_mt3", hardware=hardware)
    album = AlbumConfig(songs=songs, seconds=4 * seconds, seed=HELD_OUT_SEED)
    scores = [track.compose() for track in plan_album(album)]
    asked = [Song(artist=s.artist, genre=s.genre, lyrics=s.lyrics, total_seconds=s.seconds) for s in scores]
    how = compose(GENERATE, ["experiment=demo"]).sampling  # with temperatures for mini
    music = mini.generate(asked, seconds=seconds, seed=1, sampling=how)
    length = music.audio.shape[1]
    seconds = length / album.sample_rate
    written = [Notes.of((n for n in score_notes(s) if n.start < seconds), seconds=seconds) for s in scores]
    kinds = {"the composer's notes": written}
    for name, pieces in {
        "heard in its songs": [render_score(score, album)[:length, 0] for score in scores],
        "heard in mini's": list(music.audio),
    }.items():
        kinds[name] = [transcriber.transcribe(np.asarray(each), rate=album.sample_rate) for each in pieces]
    return [_row(name, [statistics(each) for each in pieces], scores) for name, pieces in kinds.items()]


def _row(name: str, found: Sequence[ScoreStatistics], scores: Sequence[Any]) -> dict[str, Any]:
    means = average(found)
    pairs = zip(found, scores, strict=True)
    fits = [tempo_is(each.tempo, GENRES[score.genre].tempos) for each, score in pairs if each.tempo]
    means["tempo_of_genre"] = float(np.mean(fits)) if fits else None
    return {"of": name, **{key: _rounded(means[key]) for key in SHOWN}}


def _rounded(value: float | None) -> float | None:
    return None if value is None else round(value, 3)


def _text(value: float | str | None) -> str:
    return "-" if value is None else str(value)


if __name__ == "__main__":
    main()
