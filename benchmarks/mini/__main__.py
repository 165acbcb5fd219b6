"""Quality of the embedded model: reconstruction, likelihood, conditioning and what is heard in its songs.

Measured on held-out songs, composed from a seed that no training set uses. ``python -m benchmarks.mini --help``; the
last line printed is JSON.
"""

from __future__ import annotations

import argparse
import json
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from benchmarks.mini.likelihood import conditioning, prior
from benchmarks.mini.music import music
from benchmarks.mini.reconstruction import reconstruction
from benchmarks.mini.subject import Subject

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

MEASURES = ("reconstruction", "prior", "conditioning", "music")


def main(arguments: Sequence[str] | None = None) -> None:
    """Measures, prints tables, and one line of JSON last."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.mini", description=__doc__)
    parser.add_argument("--model", default="mini", help="a shipped model, or the path of one's yaml file or folder")
    parser.add_argument("--songs", type=int, default=48, help="held-out songs; 48 are every artist in every genre")
    parser.add_argument("--measures", nargs="+", choices=MEASURES, default=MEASURES, help="measures to run")
    parser.add_argument("--generated", type=int, default=24, help="of the songs, those that are generated")
    parser.add_argument("--seconds", type=float, default=12.0, help="length of the generated songs")
    parser.add_argument("--codes", type=Path, help="folder of codes it was trained on, to count pairs of codes in")
    parser.add_argument("--pictures", type=Path, help="folder for pictures that compare spectrograms")
    parser.add_argument("--audio", type=Path, help="folder for the generated audio")
    parser.add_argument("--ogg", type=Path, help="folder for four of the generated songs, in few bytes")
    parser.add_argument("--threads", type=int, default=1)
    options = parser.parse_args(arguments)
    subject = Subject(options.model, options.songs, options.threads)
    result: dict[str, Any] = {"songs": options.songs, "weights": subject.digests}
    measures: dict[str, Callable[[], dict[str, Any] | list[dict[str, Any]]]] = {
        "reconstruction": lambda: reconstruction(subject, options.pictures),
        "prior": lambda: prior(subject, options.codes),
        "conditioning": lambda: conditioning(subject),
        "music": lambda: music(
            subject.first(options.generated), options.seconds, options.pictures, options.audio, options.ogg
        ),
    }
    for name in options.measures:
        began = time.perf_counter()
        with torch.inference_mode():
            result[name] = measures[name]()
        print(f"\n{name} ({time.perf_counter() - began:.0f} s)\n{_lines(result[name])}", flush=True)
    print(json.dumps(result))


def _lines(found: dict[str, Any] | list[dict[str, Any]]) -> str:
    rows = found if isinstance(found, list) else [found]
    return "\n".join(
        "  ".join(
            f"{name} {value:.3f}" if isinstance(value, float) else f"{name} {value}" for name, value in row.items()
        )
        for row in rows
    )


if __name__ == "__main__":
    main()
