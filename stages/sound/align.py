"""Brings the text of one song of a run in time with its music, and writes the files of it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from jukebox_core.alignment.export import write_files
from jukebox_core.alignment.times import Alignment
from jukebox_core.store.spans import read_spans
from jukebox_core.store.spooled import open_store
from stages import stopping

if TYPE_CHECKING:
    from pathlib import Path

    from jukebox_core.alignment.config import AlignmentConfig
    from jukebox_core.tokens.graph import Track
    from stages.resident import AlignerSpec


@dataclass(frozen=True, kw_only=True, slots=True)
class SungTrack:
    """The top level of a song, its text, and how both lie in the whole song."""

    track: Track
    text: str  # as the model reads it
    conditioning: Any  # of the song, as its family returned it
    row_seconds: float  # duration of a token
    offset_seconds: float  # start of the music in its song
    song_seconds: float  # length of that song


@dataclass(frozen=True, slots=True)
class AlignedWords:
    """What an alignment found."""

    words: int  # that the music reaches
    estimated: int  # of them, without a token of their own
    focus: float  # how well the attention follows the text: `Alignment.focus`


def align_song(aligner: AlignerSpec, song: SungTrack, store: str, config: AlignmentConfig, stem: Path) -> AlignedWords:
    """Writes the files of one song's words in time with its music, named after `stem`.

    Raises:
        StoppedError: the process was asked to stop; nothing is written.
        StoreError: tokens are missing or damaged.
    """
    alignment = Alignment(
        text=song.text,
        weights=aligner.open().align(
            read_spans(open_store(store), tuple(song.track)),
            song.conditioning,
            hop=config.hop,
            merge=config.merge,
            before_batch=stopping.check,
        ),
        row_seconds=song.row_seconds,
        offset_seconds=song.offset_seconds,
        song_seconds=song.song_seconds,
    )
    write_files(alignment, config, stem)
    words = alignment.words()
    return AlignedWords(len(words), sum(word.estimated for word in words), alignment.focus())
