"""Peak memory of `jukebox transcribe` over recordings of several lengths: it must not grow with the length.

``python -m benchmarks.transcribe.memory`` composes a song, repeats it to each length, transcribes it by the command in
a process of its own, and prints the peak of the process's resident memory and its speed; JSON in the last line. With
``--random`` the model has random weights, and a limit of ids in a segment, as they know no end.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import soundfile
import yaml

from benchmarks.full_size import machine
from jukebox_core.composer.album import plan_album, render_score
from jukebox_core.composer.config import AlbumConfig

if TYPE_CHECKING:
    from collections.abc import Sequence

RATE = 22050
TOKENS = 96  # of a segment of random weights; benchmarks/transcribe/__main__.py says why


def write_recording(path: Path, minutes: float) -> None:
    """Writes a composed song, again and again, as 16-bit mono audio of that length."""
    album = AlbumConfig(songs=1, seconds=30.0, seed=3, sample_rate=RATE)
    song = render_score(plan_album(album)[0].compose(), album)[:, 0]
    left = int(minutes * 60 * RATE)
    with soundfile.SoundFile(path, "w", RATE, 1) as file:
        while left > 0:
            file.write(np.asarray(song[:left], dtype=np.float32))
            left -= len(song)


def untrained(folder: Path, model: str) -> Path:
    """Writes the configuration of a model with random weights; returns its path."""
    weights = {"transcriber": {"bytes": None, "sha256": None, "path": "random.safetensors"}}
    files = {"weight_sources": ["seed:0"], "weights": weights, "terms": None}
    path = folder / f"random_{model}.yaml"
    path.write_text(yaml.safe_dump({"defaults": [model], "name": f"random_{model}", "files": files}))
    return path


def measured(folder: Path, overrides: Sequence[str], minutes: float) -> dict[str, float]:
    """Returns the peak of resident memory in MB, and the seconds, of one command over that many minutes of audio."""
    recording = folder / f"{minutes:g}.wav"
    write_recording(recording, minutes)
    command = [
        sys.executable, "-m", "pipelines.cli.main", "transcribe", f"audio=[{recording}]", f"folder={folder}/notes",
        f"storage.root={folder}/outputs", *overrides,
    ]  # fmt: skip
    began = time.perf_counter()
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL)
    _, status, usage = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        raise SystemExit(f"transcribe ended with status {process.returncode}")
    seconds = time.perf_counter() - began
    recording.unlink()
    return {
        "minutes": minutes, "peak_mb": round(usage.ru_maxrss * 1024 / 1e6, 1), "seconds": round(seconds, 1),
        "times_real_time": round(minutes * 60 / seconds, 1),
    }  # fmt: skip


def main(arguments: Sequence[str] | None = None) -> None:
    """Runs the measurement; prints a line for each length, and one line of JSON last."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.transcribe.memory", description=__doc__)
    parser.add_argument("--model", default="mini_mt3", help="name of a model (%(default)s)")
    parser.add_argument("--random", action="store_true", help="with random weights")
    parser.add_argument("--minutes", type=float, nargs="+", default=[1.0, 10.0, 60.0], help="lengths (%(default)s)")
    parser.add_argument("--threads", type=int, default=2, help="CPU threads (%(default)s)")
    chosen = parser.parse_args(arguments)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        model, limit = (untrained(folder, chosen.model), TOKENS) if chosen.random else (chosen.model, "null")
        overrides = [f"model={model}", f"transcription.max_tokens={limit}", "hardware.device=cpu"]
        overrides += [f"hardware.threads={chosen.threads}", f"weights.folder={folder}/weights"]
        rows: list[dict[str, Any]] = []
        for minutes in chosen.minutes:
            rows.append(measured(folder, overrides, minutes))
            print(
                "{minutes:g} minutes: peak {peak_mb} MB, {seconds} s, {times_real_time} x real time".format(**rows[-1])
            )
    print(json.dumps({"benchmark": "transcribe_memory", "model": chosen.model, "machine": machine(), "rows": rows}))


if __name__ == "__main__":
    main()
