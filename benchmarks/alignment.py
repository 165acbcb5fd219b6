"""Word onsets of mini's held-out songs, whose truth is known: the ways of finding times, and what they are worth.

``python -m benchmarks.alignment --help``. The controls do without the music: `evenly` spreads the characters
over the song, and `other codes` gives the network random codes instead of the song's.
"""

from __future__ import annotations

import argparse
import json
import time
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np

import jukebox_core as jukebox
from benchmarks.full_size import machine
from jukebox_core.alignment.times import monotone_path, rows_of, word_spans
from jukebox_core.base.text import format_table
from jukebox_core.composer.album import plan_album, render_score
from jukebox_core.composer.config import AlbumConfig
from jukebox_core.families.jukebox.alignment.heads import alignment_head

if TYPE_CHECKING:
    from collections.abc import Sequence

    from jukebox_core.alignment.times import Alignment

    Onsets = dict[int, float]  # seconds, by the word's first character

HELD_OUT = AlbumConfig(songs=480, seed=271_828, sample_rate=22050, channels=1)  # of no training
NEAR = 0.3  # seconds
HARDWARE = jukebox.HardwareConfig(device="cpu", dtype="float32", engine="eager")


@dataclass(frozen=True, slots=True)
class Sung:
    """A song with its true onsets."""

    song: jukebox.Song
    codes: Any  # int [tokens] of the top level
    seconds: float
    true: Onsets


def songs(model: Any, count: int, seconds: float) -> list[Sung]:
    """Returns the first `count` held-out songs with words; their lengths are 0.5 to 1.5 times `seconds`."""
    config, found = replace(HELD_OUT, seconds=seconds), []
    for track in [each for each in plan_album(config) if each.sung][:count]:
        score = track.compose()
        places = [at for at, character in enumerate(score.lyrics) if not character.isspace()]
        begins = {at: letter.start for at, letter in zip(places, score.letters, strict=False)}
        audio = render_score(score, config)[:, 0]
        found.append(
            Sung(
                song=jukebox.Song(artist=track.artist, genre=track.genre, lyrics=score.lyrics),
                codes=model.encode(audio, [model.config.top])[model.config.top],
                seconds=len(audio) / config.sample_rate,
                true={first: begins[first] for first, _ in word_spans(score.lyrics) if first in begins},
            )
        )
    return found


def own(alignment: Alignment) -> Onsets:
    """Returns onsets as `jukebox align` gives them: normalised rows, ends of the song spread, words between others."""
    return {word.first: word.start for word in alignment.words()}


def plain(alignment: Alignment) -> Onsets:
    """Returns onsets on the path through the matrix as it is; words that the path skips have none."""
    path = monotone_path(alignment.weights)
    rows = {first: rows_of(path, first, stop) for first, stop in word_spans(alignment.text)}
    return {first: found[0] * alignment.row_seconds for first, found in rows.items() if found is not None}


def evenly(each: Sung) -> Onsets:
    """Returns onsets as if every character took the same time."""
    return {first: first / len(each.song.lyrics) * each.seconds for first in each.true}


def measure(count: int, seconds: float, hop: float) -> dict[str, Any]:
    """Returns a row for each way: words, those with a time, median error in ms, share of all within 300 ms.

    And the focus of each song: of the model's head, of the same with the lyrics of another song, of another head.
    """
    began, model = time.monotonic(), jukebox.load_model("mini", hardware=HARDWARE)
    random = np.random.default_rng(0)
    ways: dict[str, list[tuple[Onsets, Onsets]]] = {}

    def note(way: str, each: Sung, found: Onsets) -> None:
        ways.setdefault(way, []).append((each.true, found))

    def aligned(each: Sung, **how: Any) -> Alignment:
        found: Alignment = model.align(**{"codes": each.codes, "song": each.song, "hop": hop} | how)
        return found

    found, focus = songs(model, count, seconds), dict[str, list[float]]()
    other_head = (alignment_head(model.config).head + 1) % model.config.priors[model.config.top].transformer.heads
    for each, following in zip(found, [*found[1:], *found[:1]], strict=True):
        mean, first = aligned(each, merge="mean"), aligned(each, merge="first")
        note("merge=mean, own times", each, own(mean))
        note("merge=first, own times", each, own(first))
        note("merge=first, plain path", each, plain(first))
        codes = random.integers(0, model.config.bins, len(each.codes))
        note("other codes, own times", each, own(aligned(each, codes=codes)))
        note("evenly, without music", each, evenly(each))
        for name, alignment in (
            ("model's head", mean),
            ("lyrics of another song", aligned(each, song=replace(each.song, lyrics=following.song.lyrics))),
            ("other head", aligned(each, head=other_head)),
        ):
            focus.setdefault(name, []).append(round(alignment.focus(), 3))
        print(f"{each.seconds:.0f} s, {len(each.true)} words", flush=True)
    return {
        "benchmark": "alignment",
        "machine": machine(),
        "songs": count,
        "seconds": seconds,
        "hop": hop,
        "took_seconds": round(time.monotonic() - began, 1),
        "rows": [{"way": way} | figures(pairs) for way, pairs in ways.items()],
        "focus": focus,
    }


def figures(pairs: Sequence[tuple[Onsets, Onsets]]) -> dict[str, Any]:
    """Returns how near onsets are to the true ones, given (true, found) of each song."""
    words = sum(len(true) for true, _ in pairs)
    away = [abs(found[at] - true[at]) for true, found in pairs for at in true if at in found]
    return {
        "words": words,
        "timed": len(away),
        "median_ms": round(1000 * float(np.median(away)), 1) if away else None,
        "within_300_ms": round(sum(each < NEAR for each in away) / words, 3) if words else None,
    }


def table(result: dict[str, Any]) -> str:
    """Returns the rows as a table."""
    head = ("WAY", "WORDS", "WITH A TIME", "MEDIAN ms", "WITHIN 300 ms")
    rows = [tuple(str(row[name]) for name in ("way", "words", "timed", "median_ms", "within_300_ms"))
            for row in result["rows"]]  # fmt: skip
    spans = [("FOCUS", "LEAST", "MOST"), *((name, min(each), max(each)) for name, each in result["focus"].items())]
    return "\n".join([*format_table([head, *rows]), "", *format_table(spans)])


def main() -> None:
    """Measures, and prints a table and one line of JSON."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--songs", type=int, default=16)
    parser.add_argument("--seconds", type=float, default=20.0, help="mean length of a song")
    parser.add_argument("--hop", type=float, default=0.125, help="of the windows")
    chosen = parser.parse_args()
    result = measure(chosen.songs, chosen.seconds, chosen.hop)
    print(table(result))
    print(json.dumps(result))


if __name__ == "__main__":
    main()
