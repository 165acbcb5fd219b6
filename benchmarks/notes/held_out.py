"""How right a model transcribes composed songs, whose notes are known, and the same songs after mini's codec.

The songs are composed from a seed that no training set uses. ``python -m benchmarks.notes.held_out --help``; the last
line printed is JSON.
"""

from __future__ import annotations

import argparse
import json
import time
from typing import TYPE_CHECKING, Any

import numpy as np

from benchmarks.mini.subject import HELD_OUT_SEED
from jukebox_core import load_model
from jukebox_core.composer.album import plan_album, render_score
from jukebox_core.composer.config import AlbumConfig
from jukebox_core.composer.transcript import score_notes
from jukebox_core.evaluation.notes import evaluate
from jukebox_core.families.mt3.config import TranscriptionConfig
from jukebox_core.families.mt3.events.encoding import trim_overlaps
from jukebox_core.models.config import WeightsConfig
from jukebox_core.models.presets import load_preset
from jukebox_core.models.resolve import obtain_weights
from jukebox_core.runtime.config import HardwareConfig

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from numpy.typing import NDArray

SCORES = ("onset", "onset_offset", "drums", "multi_instrument")
GOALS = {"onset": 0.95, "onset_offset": 0.85, "drums": 0.9, "multi_instrument": 0.8}


def main(arguments: Sequence[str] | None = None) -> None:
    """Measures, prints tables, and one line of JSON last."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.notes.held_out", description=__doc__)
    parser.add_argument("--model", default="mini_mt3", help="a shipped model, or the path of one's yaml file or folder")
    parser.add_argument("--songs", type=int, default=48, help="held-out songs; 48 are every artist in every genre")
    parser.add_argument("--seconds", type=float, default=24.0, help="mean length of the songs")
    parser.add_argument("--codec", action="store_true", help="transcribe them after mini's codec at level 0 as well")
    parser.add_argument("--threads", type=int, default=1)
    options = parser.parse_args(arguments)
    files = obtain_weights(load_preset(options.model), WeightsConfig())
    result: dict[str, Any] = {
        "benchmark": "held_out_notes",
        "model": options.model,
        "weights": files["transcriber"].sha256[:16],
        "songs": options.songs,
        **run(options.model, options.songs, options.seconds, codec=options.codec, threads=options.threads),
    }
    print(table(result))
    print(json.dumps({name: value for name, value in result.items() if name != "rows"}))


def run(model: str, songs: int, seconds: float, *, codec: bool, threads: int = 1) -> dict[str, Any]:
    """Returns the mean scores of the songs by kind of audio, and those of each song."""
    hardware = HardwareConfig(device="cpu", threads=threads)
    transcriber = load_model(model, hardware=hardware)
    album = AlbumConfig(songs=songs, seconds=seconds, seed=HELD_OUT_SEED)
    kinds: dict[str, Callable[[NDArray[np.float32]], NDArray[np.float32]]] = {"composed": lambda audio: audio}
    if codec:
        mini = load_model("mini", hardware=hardware)
        kinds["codec"] = lambda audio: np.clip(mini.decode(mini.encode(audio, [0])[0], 0), -1, 1)
    rows, began = [], time.process_time()
    for track in plan_album(album):
        score = track.compose()
        audio, reference = render_score(score, album)[:, 0], trim_overlaps(score_notes(score))
        for kind, change in kinds.items():
            settings = TranscriptionConfig(batch_size=32)
            notes = transcriber.transcribe(change(audio), rate=album.sample_rate, settings=settings)
            scores = evaluate(reference, notes)
            drums = any(note.is_drum for note in reference)
            found = {name: round(getattr(scores, name).f1, 4) for name in SCORES if drums or name != "drums"}
            rows.append(
                {"kind": kind, "artist": track.artist, "genre": track.genre, **found, "invalid": notes.invalid_events}
            )
    means = {
        kind: {name: _mean([row[name] for row in rows if row["kind"] == kind and name in row]) for name in SCORES}
        for kind in kinds
    }
    return {"seconds": round(time.process_time() - began, 1), "means": means, "rows": rows}


def table(result: dict[str, Any]) -> str:
    """Returns the means, by kind of audio and by artist, as lines of text."""
    head = ["F1", *SCORES]
    lines = [head, ["goal", *(f"{GOALS[name]:.2f}" for name in SCORES)]]
    for kind, means in result["means"].items():
        lines.append([kind, *(_text(means[name]) for name in SCORES)])
    for artist in dict.fromkeys(row["artist"] for row in result["rows"]):
        of_artist = [row for row in result["rows"] if row["artist"] == artist and row["kind"] == "composed"]
        lines.append([artist, *(_text(_mean([row[name] for row in of_artist if name in row])) for name in SCORES)])
    return "\n".join(f"{line[0]:<20}" + "".join(f"{each:>18}" for each in line[1:]) for line in lines)


def _mean(values: Sequence[float]) -> float | None:
    return round(float(np.mean(values)), 4) if values else None


def _text(value: float | None) -> str:
    return "-" if value is None else f"{value:.3f}"


if __name__ == "__main__":
    main()
