"""The sound of takes: files, other formats of them, peaks for a wave, pictures and mixes. Imports no torch."""

from __future__ import annotations

import os
import secrets
from typing import TYPE_CHECKING, Any

import numpy as np
import soundfile

from jukebox_core.audio.files import read_audio, read_channels, write_audio
from jukebox_core.base.records import is_regular
from jukebox_core.errors import RunError
from pipelines.web.problems import NotFoundError
from pipelines.web.views.runs import PREVIEW

if TYPE_CHECKING:
    from pathlib import Path

    from pipelines.runs.folder import RunFolder

FORMATS = {"wav": "audio/wav", "flac": "audio/flac", "mp3": "audio/mpeg"}
POINTS = 2000  # of a wave, at most
CACHED = 200  # files of the cache


def sound_path(run: RunFolder, sample: int, level: int | None) -> Path:
    """Returns the audio file of a take: of a level, or of the finest that there is; else its preview.

    Raises:
        NotFoundError: there is no sound of it yet.
    """
    manifest = run.known_manifest()
    records = [
        record
        for record in manifest.get("audio", [])
        if record["sample"] == sample and level in (None, record["level"]) and is_regular(run.path / record["path"])
    ]
    preview = run.path / PREVIEW / f"sample_{sample}.wav"
    if level is None and manifest.get("status") != "finished" and is_regular(preview):
        return preview
    if not records:
        where = "" if level is None else f" of level {level}"
        raise NotFoundError(f"sample {sample} of run {run.name} has no sound{where} yet; wait, or resume the run")
    path: Path = run.path / min(records, key=lambda record: record["level"])["path"]
    return path


def peaks(path: Path, points: int) -> dict[str, Any]:
    """Returns the loudest sample of each of `points` parts of a sound, 0 to 1, with its length in seconds."""
    with soundfile.SoundFile(str(path)) as file:
        rate, frames = file.samplerate, len(file)
        size = max(1, -(-frames // max(1, min(points, POINTS))))
        found = [float(np.abs(block).max(initial=0.0)) for block in file.blocks(size, dtype="float32")]
    return {"seconds": frames / rate, "rate": rate, "peaks": [round(min(1.0, each), 4) for each in found]}


def converted(path: Path, kind: str, cache: Path, name: str) -> Path:
    """Returns a file with the sound of `path` in another format, made once and kept in `cache` under `name`."""
    if path.suffix == f".{kind}":
        return path
    target = cache / f"{name}.{kind}"
    if not target.is_file():
        with soundfile.SoundFile(str(path)) as file:
            rate = file.samplerate
        _make_room(cache)
        write_audio(target, read_channels(path, rate=rate), rate)
    return target


def mixed(paths: list[Path], cache: Path, name: str) -> Path:
    """Returns a stereo file of up to three upsamplings of one song: the first in the middle, the others at the sides.

    Raises:
        RunError: fewer than two sounds.
    """
    if not 2 <= len(paths) <= 3:
        raise RunError(f"a mix has {len(paths)} sounds; choose two or three upsamplings of the same sketch")
    target = cache / f"{name}.wav"
    if not target.is_file():
        with soundfile.SoundFile(str(paths[0])) as file:
            rate = file.samplerate
        tracks = [read_audio(path, rate=rate) for path in paths]
        length = min(map(len, tracks))
        first, *others = (track[:length] for track in tracks)
        left, right = (others[0], others[1]) if len(others) == 2 else (first, others[0])
        sides = np.stack([first + left, first + right], axis=1) / 2
        _make_room(cache)
        write_audio(target, sides.astype(np.float32), rate)
    return target


def spectrogram(run: RunFolder, path: Path, cache: Path, name: str) -> Path:
    """Returns a picture of a sound's spectrogram, PNG: the run's own, or one that is drawn once and kept in `cache`."""
    own = run.path / "pictures" / f"{path.parent.name}_{path.stem}_spectrogram.png"
    if is_regular(own):
        return own
    target = cache / f"{name}.png"
    if not target.is_file():
        from jukebox_core.audio.pictures import spectrogram_png

        with soundfile.SoundFile(str(path)) as file:
            rate = file.samplerate
        _make_room(cache)
        draft = cache / f".{secrets.token_hex(8)}.png"
        try:
            spectrogram_png(read_audio(path, rate=rate), rate, draft)
            draft.replace(target)
        finally:
            draft.unlink(missing_ok=True)
    return target


def _make_room(cache: Path) -> None:
    """Makes the folder, and removes the oldest files where there are too many."""
    cache.mkdir(parents=True, exist_ok=True)
    files = sorted((entry.stat().st_mtime, entry.path) for entry in os.scandir(cache) if entry.is_file())
    for _, path in files[: max(0, len(files) - CACHED + 1)]:
        os.unlink(path)  # noqa: PTH108 - a path of scandir
