"""Answers of sources: an opened file, or an error. Imports no torch."""

from __future__ import annotations

import http.client
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from contextlib import AbstractContextManager

    from jukebox_core.models.config import FileSpec

Read = Callable[[int], bytes]


class SourceError(Exception):
    """A source did not deliver; with `final`, a retry is pointless; with `unknown`, its host's name is not known."""

    def __init__(self, message: str, *, final: bool = False, unknown: bool = False) -> None:
        super().__init__(message)
        self.final = final
        self.unknown = unknown


class ChangedError(SourceError):
    """The source's file changed while it was fetched; the bytes that arrived are useless."""


class NoRangesError(SourceError):
    """The source said that it serves ranges, but sent the whole file."""


@dataclass(frozen=True, slots=True)
class Reply:
    """An opened file: its bytes from `start` on, and size, version and digest of the whole."""

    read: Read  # returns at most so many next bytes, none at the end; raises `SourceError`
    start: int  # 0 where a source cannot begin elsewhere, whatever was requested
    total: int | None  # size of the whole file in bytes
    version: str | None  # as an ETag: equal for equal content of this source
    ranges: bool = False  # whether ranges of it can be opened, several in parallel
    digest: tuple[str, str] | None = None  # algorithm and hexadecimal digest of the whole, where the source states it


class Source(Protocol):
    """A place that holds files under relative paths."""

    @property
    def name(self) -> str:
        """Its address, without secrets."""

    @property
    def remote(self) -> bool:
        """Whether reading from it opens a connection."""

    def open(self, spec: FileSpec, start: int, stop: int | None = None) -> AbstractContextManager[Reply]:
        """Opens the file at byte `start`, to its end or up to `stop`; raises `SourceError`."""


def unfit_head(head: bytes) -> str | None:
    """Returns what kind of error answer begins with `head`; None if it can be the beginning of a file."""
    if is_web_page(head):
        return "a web page"
    if head.startswith(b"version https://git-lfs"):
        return "a git-lfs pointer"
    return None


def is_web_page(head: bytes) -> bool:
    """Whether a file that begins with `head` is HTML or XML: an error page of a server."""
    return head.lstrip().lower().startswith((b"<!doctype", b"<html", b"<?xml"))


def guarded(read: Read) -> Read:
    """Returns `read` with network errors turned into `SourceError`, so that errors of the local disk stay apart."""

    def read_guarded(size: int) -> bytes:
        try:
            return read(size)
        except (OSError, http.client.HTTPException) as error:
            raise SourceError(f"broke off ({error or type(error).__name__})") from error

    return read_guarded
