"""Recordings that people upload to go on from: limited in size and length, looked into, and named by us.

Imports no torch.
"""

from __future__ import annotations

import re
import secrets
from typing import TYPE_CHECKING, Any

from jukebox_core.audio.files import audio_seconds
from jukebox_core.base.atomic import synchronise
from jukebox_core.errors import AudioError
from pipelines.web.problems import NotFoundError

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

MOST_BYTES = 64 << 20
MOST_SECONDS = 20 * 60.0
MOST_FILES = 200
_NAME = re.compile(r"[0-9a-f]{16}\.(wav|flac|ogg|mp3)")
_HEAD = 12  # bytes that say what a file is


class Uploads:
    """The recordings of one storage folder."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def all(self) -> list[dict[str, Any]]:
        """Returns every recording, newest first."""
        return [_shown(path) for path in self._paths()]

    def path(self, identifier: str) -> Path:
        """Returns the file of a recording, found by listing.

        Raises:
            NotFoundError: there is none.
        """
        for path in self._paths():
            if path.stem == identifier:
                return path
        raise NotFoundError(f"there is no recording {identifier[:80]!r}; upload it again")

    def remove(self, identifier: str) -> None:
        """Removes a recording; runs that began with it stay complete."""
        self.path(identifier).unlink(missing_ok=True)

    async def receive(self, chunks: AsyncIterator[bytes]) -> dict[str, Any]:
        """Stores what a client sends, if it is a recording within the limits; returns what it is.

        Raises:
            AudioError: it is no sound, broken, too large or too long, or there are too many already.
        """
        if len(self._paths()) >= MOST_FILES:
            raise AudioError(f"there are {MOST_FILES} recordings already, as many as are kept; remove some first")
        self.folder.mkdir(parents=True, exist_ok=True)
        draft = self.folder / f".{secrets.token_hex(8)}.part"
        try:
            size = 0
            with draft.open("xb") as file:
                async for chunk in chunks:
                    size += len(chunk)
                    if size > MOST_BYTES:
                        raise AudioError(
                            f"the recording has more than {MOST_BYTES >> 20} MB; upload a shorter one, or as mp3"
                        )
                    file.write(chunk)
            path = draft.with_name(f"{secrets.token_hex(8)}.{_kind(draft)}")
            _check(draft)
            draft.rename(path)
            synchronise(self.folder)
        finally:
            draft.unlink(missing_ok=True)
        return _shown(path)

    def _paths(self) -> list[Path]:
        try:
            found = [path for path in self.folder.iterdir() if _NAME.fullmatch(path.name) and path.is_file()]
        except OSError:
            return []
        return sorted(found, key=lambda path: path.stat().st_mtime, reverse=True)


def _kind(path: Path) -> str:
    """Returns the suffix that a file's first bytes ask for.

    Raises:
        AudioError: it is no sound of a kind that is taken.
    """
    with path.open("rb") as file:
        head = file.read(_HEAD)
    if head[:4] == b"RIFF" and head[8:] == b"WAVE":
        return "wav"
    if head[:4] in (b"fLaC", b"OggS"):
        return "flac" if head[:4] == b"fLaC" else "ogg"
    if head[:3] == b"ID3" or (len(head) > 1 and head[0] == 0xFF and head[1] & 0xE0 == 0xE0):
        return "mp3"
    raise AudioError("the file is no recording that is taken here; upload wav, flac, ogg or mp3")


def _check(path: Path) -> None:
    try:
        seconds = audio_seconds(path)
    except AudioError as error:
        raise AudioError(str(error).replace(str(path), "the recording")) from None
    if seconds > MOST_SECONDS:
        raise AudioError(
            f"the recording lasts {seconds:.0f} s; one of at most {MOST_SECONDS:.0f} s is taken: upload a part of it"
        )


def _shown(path: Path) -> dict[str, Any]:
    return {
        "id": path.stem,
        "kind": path.suffix.removeprefix("."),
        "bytes": path.stat().st_size,
        "seconds": round(audio_seconds(path), 3),
    }
