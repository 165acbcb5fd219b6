"""What a run asks of the stages, read off its settings."""

from __future__ import annotations

from typing import TYPE_CHECKING

from stages.encode import Excerpt
from stages.label import SongRequest, read_lyrics

if TYPE_CHECKING:
    from pipelines.settings import Settings


def song_requests(settings: Settings) -> list[SongRequest]:
    """Returns what the model is told about each song."""
    requests = []
    for sample in range(settings.sampling.n_samples):
        song = settings.song_of(sample)
        requests.append(
            SongRequest(
                artist=song.artist,
                genre=song.genre,
                lyrics=read_lyrics(song.lyrics, song.lyrics_file),
                total_length=settings.total_length_of(sample),
                offset=settings.offset_of(sample),
            )
        )
    return requests


def prompt_excerpts(settings: Settings) -> list[Excerpt]:
    """Returns the part of a file that each song begins with; files are repeated in order if they are fewer."""
    prompt = settings.prompt
    if not prompt.files:
        return []
    return [
        Excerpt(
            path=prompt.files[sample % len(prompt.files)],
            seconds=prompt.seconds,
            offset_seconds=prompt.offset_seconds,
            longest=settings.seconds,
        )
        for sample in range(settings.sampling.n_samples)
    ]
