"""Turns artist, genre and lyrics into label numbers for every level."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from jukebox_core.errors import LabelError
from jukebox_core.families.jukebox.conditioning.labels import SongLabels, label_levels
from jukebox_core.families.jukebox.conditioning.vocabulary import load_vocabularies

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from jukebox_core.families.jukebox.config import JukeboxConfig
    from stages.handles import FileHandle


@dataclass(frozen=True, kw_only=True, slots=True)
class SongRequest:
    """What the model is told about one song; lengths in audio samples."""

    artist: str
    genre: str
    lyrics: str
    total_length: int
    offset: int


def label_songs(
    config: JukeboxConfig, vocabularies: Mapping[str, FileHandle], songs: Sequence[SongRequest]
) -> list[tuple[SongLabels, ...]]:
    """Returns each song's labels, one a level, bottom level first.

    The top prior's vocabulary decides which artists and genres exist. An upsampler with another vocabulary that lacks
    them takes them as unknown, as the released 1b_lyrics model does.

    Raises:
        LabelError: an artist, genre or lyrics that the top prior does not know; near misses are listed.
    """
    known = load_vocabularies({role: handle.read() for role, handle in vocabularies.items()})
    return [
        label_levels(
            known,
            config,
            artist=song.artist,
            genre=song.genre,
            lyrics=song.lyrics,
            total_length=song.total_length,
            offset=song.offset,
        )
        for song in songs
    ]


def read_lyrics(lyrics: str, lyrics_file: str | None) -> str:
    """Returns the lyrics given in either way.

    Raises:
        LabelError: the file is missing, is not text, or is blank.
    """
    if lyrics_file is None:
        return lyrics
    path = Path(lyrics_file).expanduser()
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise LabelError(f"lyrics file {path} cannot be read as text ({error}); give a UTF-8 text file") from None
    if not text.strip():
        raise LabelError(f"lyrics file {path} holds no words; write them into it, or leave lyrics_file out")
    return text
