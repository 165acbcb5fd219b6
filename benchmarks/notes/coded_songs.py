"""Composed songs as they sound after mini's codec, with their notes: what mini_mt3 learns from in its last part.

``python -m benchmarks.notes.coded_songs --help``; songs that are in the folder already are not made again.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from jukebox_core import load_model
from jukebox_core.audio.files import write_audio
from jukebox_core.composer.album import plan_album, render_score
from jukebox_core.composer.config import AlbumConfig
from jukebox_core.composer.transcript import score_notes
from jukebox_core.runtime.config import HardwareConfig

if TYPE_CHECKING:
    from collections.abc import Sequence


def main(arguments: Sequence[str] | None = None) -> None:
    """Writes the songs, each with a MIDI file beside it."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.notes.coded_songs", description=__doc__)
    parser.add_argument("--songs", type=int, default=200)
    parser.add_argument("--seconds", type=float, default=24.0, help="mean length of the songs")
    parser.add_argument("--seed", type=int, default=27182)
    parser.add_argument("--folder", type=Path, required=True)
    options = parser.parse_args(arguments)
    album = AlbumConfig(songs=options.songs, seconds=options.seconds, seed=options.seed)
    mini = load_model("mini", hardware=HardwareConfig(device="cpu", threads=1))
    options.folder.mkdir(parents=True, exist_ok=True)
    for track in plan_album(album):
        path = options.folder / f"coded-{track.name}"
        if path.exists():
            continue
        score = track.compose()
        audio_T = np.clip(mini.decode(mini.encode(render_score(score, album)[:, 0], [0])[0], 0), -1, 1)
        score_notes(score).to_midi(path.with_suffix(".mid"))
        write_audio(path, audio_T[:, None], album.sample_rate, album.format)


if __name__ == "__main__":
    main()
