"""Conditioning of a song as users give it (sections ``song`` and ``songs``), as frozen records. Imports no torch."""

from __future__ import annotations

from dataclasses import dataclass, fields, replace

from jukebox_core.base.paths import user_path
from jukebox_core.base.text_files import UnreadableError, read_text
from jukebox_core.errors import ConfigError, LabelError


@dataclass(frozen=True, kw_only=True, slots=True)
class Song:
    """Conditioning of a song: artist, genre, lyrics, and the position of the music in the whole song."""

    artist: str = "unknown"  # who plays; `jukebox models labels MODEL` lists the names
    genre: str = "unknown"  # the style, from the same list
    lyrics: str = ""  # the words of the whole song
    lyrics_file: str | None = None  # a text file with the lyrics, instead of `lyrics`
    total_seconds: float | None = None  # length of the whole song; null: that of a usual song of the model
    offset_seconds: float = 0.0  # start of the music in that song

    def __post_init__(self) -> None:
        """Checks that lyrics are given once; lengths are checked later, with the length of the music."""
        if self.lyrics and self.lyrics_file:
            raise ConfigError(f"lyrics and lyrics_file={self.lyrics_file} are both set; give one of them")

    @property
    def has_lyrics(self) -> bool:
        """Whether the song has lyrics."""
        return bool(self.lyrics.strip()) or self.lyrics_file is not None

    def read_lyrics(self) -> str:
        """Returns the lyrics, from `lyrics` or `lyrics_file`.

        Raises:
            LabelError: the file is missing, is not text, or is blank.
        """
        if self.lyrics_file is None:
            return self.lyrics
        path = user_path(self.lyrics_file)
        try:
            text = read_text(path)
        except UnreadableError as error:
            raise LabelError(f"lyrics file {path} cannot be read as text: {error}") from None
        if not text.strip():
            raise LabelError(f"lyrics file {path} holds no words; write them into it, or leave lyrics_file out")
        return text

    def with_content(self) -> Song:
        """Returns the song with the lyrics of `lyrics_file` in `lyrics`, so that the file is needed no longer.

        Raises:
            LabelError: as `read_lyrics`.
        """
        return self if self.lyrics_file is None else replace(self, lyrics=self.read_lyrics(), lyrics_file=None)


@dataclass(frozen=True, kw_only=True, slots=True)
class SongOverride:
    """Fields of one sample's song that replace those of `song`; null keeps a field."""

    artist: str | None = None
    genre: str | None = None
    lyrics: str | None = None
    lyrics_file: str | None = None
    total_seconds: float | None = None
    offset_seconds: float | None = None

    def apply(self, song: Song) -> Song:
        """Returns `song` with these fields replaced; `lyrics` and `lyrics_file` replace each other."""
        given = {f.name: getattr(self, f.name) for f in fields(self) if getattr(self, f.name) is not None}
        if "lyrics" in given or "lyrics_file" in given:
            given = {"lyrics": "", "lyrics_file": None} | given
        return replace(song, **given)

    def with_content(self) -> SongOverride:
        """Returns the fields with the lyrics of `lyrics_file` in `lyrics`.

        Raises:
            LabelError: as `Song.read_lyrics`.
        """
        if self.lyrics_file is None:
            return self
        return replace(self, lyrics=Song(lyrics_file=self.lyrics_file).read_lyrics(), lyrics_file=None)
