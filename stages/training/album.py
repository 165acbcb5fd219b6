"""Writes an album of the composer's songs: a folder of audio and its metadata. Imports no torch."""

from __future__ import annotations

import json
import logging
from typing import TYPE_CHECKING

from jukebox_core.audio.files import write_audio
from jukebox_core.base.atomic import atomic_write
from jukebox_core.base.paths import user_path
from jukebox_core.base.records import read_json
from jukebox_core.base.structuring import to_plain
from jukebox_core.composer.album import plan_album, render_score
from jukebox_core.composer.transcript import score_notes
from jukebox_core.datasets.songs import Song, write_metadata
from jukebox_core.errors import ConfigError, RecordError

if TYPE_CHECKING:
    from pathlib import Path

    from jukebox_core.composer.config import AlbumConfig

log = logging.getLogger("jukebox")

_RECIPE = "album.json"  # the settings that the folder's songs were made from
_METADATA = "metadata.jsonl"


def write_album(config: AlbumConfig) -> Path:
    """Writes the missing songs of an album, then its metadata; returns the folder.

    Idempotent: a folder with a part of the same album is completed, also if the number of songs has grown.

    Raises:
        ConfigError: the folder holds another album, or other files.
        AudioError: a song cannot be written.
        NotesError: a MIDI file cannot be written.
    """
    folder = user_path(config.folder)
    _claim(folder, config)
    songs = []
    seconds = 0.0
    for track in plan_album(config):
        score, path = track.compose(), folder / track.name
        if not path.exists():
            write_audio(path, render_score(score, config), config.sample_rate, config.format)
        midi = path.with_suffix(".mid")
        if config.midi and not midi.exists():
            score_notes(score).to_midi(midi)
        seconds += score.seconds
        songs.append(Song(name=track.name, path=path, artist=track.artist, genre=track.genre, lyrics=score.lyrics))
    write_metadata(folder / _METADATA, songs)
    log.info("%d songs, %.1f minutes, in %s", len(songs), seconds / 60, folder)
    return folder


def _claim(folder: Path, config: AlbumConfig) -> None:
    """Marks the folder as this album's. The number of songs may differ, and the folder may have been moved."""
    recipe = {name: value for name, value in to_plain(config).items() if name not in ("songs", "folder", "midi")}
    path = folder / _RECIPE
    if path.is_file():
        try:
            found = read_json(path)
        except RecordError as error:
            raise ConfigError(f"{error}; choose another folder, or remove that file") from None
        known = found if isinstance(found, dict) else {}
        changed = [name for name in recipe if known.get(name) != recipe[name]]
        if changed:
            raise ConfigError(
                f"{folder} holds an album of other {', '.join(changed)}; choose another folder, or remove that one"
            )
        return
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise ConfigError(
            f"{folder} is not an empty folder; choose another one, so that nothing is mixed with the songs"
        )
    try:
        with atomic_write(path) as file:
            file.write(json.dumps(recipe, indent=1).encode())
    except OSError as error:
        raise ConfigError(f"cannot make folder {folder} ({error.strerror}); choose another one") from None
