"""Tags of the sound files of a song: what players show of it. Imports no torch."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping

    from jukebox_core.audio.files import Tag

_UNKNOWN = "unknown"  # names no artist and no genre


def song_tags(song: Mapping[str, str], *, title: str, model: str, licence: str) -> dict[Tag, str]:
    """Returns the tags of a song.

    Args:
        song: its conditioning as text, as `Family.describe` gives it.
        title: of the file.
        model: name of the model that made it.
        licence: of its weights.
    """
    named: dict[Tag, str] = {"artist": song.get("artist", ""), "genre": song.get("genre", "")}
    return {name: text for name, text in named.items() if text != _UNKNOWN} | {
        "title": title,
        "comment": f"made by the model {model}; licence: {licence}",
        "copyright": licence,
        "software": "jukebox-pipelines",
    }
