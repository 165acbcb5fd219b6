"""What a source answers: an opened file, or why there is none. Imports no torch."""

from __future__ import annotations

import http.client
import json
from collections.abc import Callable
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from collections.abc import Iterator
    from contextlib import AbstractContextManager

    from jukebox_core.models.config import FileSpec

Read = Callable[[int], bytes]


class SourceError(Exception):
    """A source did not deliver; ``final`` means that asking it again is pointless."""

    def __init__(self, message: str, *, final: bool = False) -> None:
        super().__init__(message)
        self.final = final


class ChangedError(SourceError):
    """The source's file became another one while it was fetched; what arrived is of no use."""


class NoRangesError(SourceError):
    """The source promised parts of its file and sent all of it."""


@dataclass(frozen=True, slots=True)
class Reply:
    """An opened file: its bytes from ``start`` on, and what the source knows of the whole."""

    read: Read  # the next bytes, at most so many, none at the end; raises `SourceError`
    start: int  # 0 where a source cannot begin elsewhere, whatever was asked
    total: int | None  # size of the whole file in bytes
    version: str | None  # equal for equal content of this source, as an ETag is
    ranges: bool = False  # whether it can be opened anywhere, several times at once
    digest: tuple[str, str] | None = None  # algorithm and hexadecimal digest of the whole, where the source tells it


class Source(Protocol):
    """A place that holds files under relative paths."""

    @property
    def name(self) -> str:
        """Its address as a person may see it, without secrets."""

    @property
    def remote(self) -> bool:
        """Whether reading from it opens a connection."""

    def open(self, spec: FileSpec, start: int, stop: int | None = None) -> AbstractContextManager[Reply]:
        """Opens the file for reading bytes from ``start`` on, to its end or up to ``stop``; raises `SourceError`."""


def unfit_head(head: bytes) -> str | None:
    """What a file that begins so is, if it is what servers send when something is wrong; else None."""
    if is_web_page(head):
        return "a web page"
    if head.startswith(b"version https://git-lfs"):
        return "a git-lfs pointer"
    return None


def is_web_page(head: bytes) -> bool:
    """Whether a file that begins so is HTML or XML: what servers answer when something is wrong."""
    return head.lstrip().lower().startswith((b"<!doctype", b"<html", b"<?xml"))


def guarded(read: Read) -> Read:
    """The same, with every failure told as the source's own, apart from failures to store what was read."""

    def read_guarded(size: int) -> bytes:
        try:
            return read(size)
        except (OSError, http.client.HTTPException) as error:
            raise SourceError(f"broke off ({error or type(error).__name__})") from error

    return read_guarded


@contextmanager
def answers(what: str) -> Iterator[None]:
    """Turns an answer that is not what the protocol says into a `SourceError`."""
    try:
        yield
    except (KeyError, IndexError, TypeError, ValueError, json.JSONDecodeError) as error:
        raise SourceError(f"{what} answered what the protocol does not know ({error!r})", final=True) from error
