"""Named objects under a root: the protocol of every place, and what its methods have in common. Imports no torch."""

from __future__ import annotations

import functools
from typing import TYPE_CHECKING, Concatenate, ParamSpec, Protocol, TypeVar

from jukebox_core.store.retrying import with_retries

if TYPE_CHECKING:
    from collections.abc import Callable

    from jukebox_core.store.config import RetryConfig

SCRATCH = "tmp"
"""The folder of temporary objects below a root."""


class Objects(Protocol):
    """Named bytes under a root; an object is written, read and replaced as a whole (atomically).

    Every method raises StoreError, with the remedy, where the place itself fails: full, access refused, or unreachable
    (UnreachableError).
    """

    uri: str

    def read(self, name: str) -> bytes | None:
        """Returns the content of an object, or None if it does not exist."""
        ...

    def exists(self, name: str) -> bool:
        """Whether an object exists."""
        ...

    def create(self, name: str, data: bytes) -> bool:
        """Stores a new object and returns True; returns False, and changes nothing, if the name is taken."""
        ...

    def replace(self, name: str, data: bytes) -> None:
        """Stores an object, in the place of the one with that name if it exists."""
        ...

    def remove(self, *names: str) -> None:
        """Removes objects; names that do not exist are ignored."""
        ...

    def size(self, name: str) -> int | None:
        """Returns the size of an object in bytes, or None if it does not exist."""
        ...

    def sizes(self, folder: str) -> dict[str, int]:
        """Returns the size in bytes of every object below `folder`, by name, sorted."""
        ...

    def age(self, name: str) -> float | None:
        """Returns the seconds since an object was stored, by the clock of the place; None if it does not exist."""
        ...

    def ages(self, folder: str) -> dict[str, float]:
        """Returns the seconds since each object below `folder` was stored, by name, from one listing."""
        ...


class Place:
    """An address, and how often a request to it is retried."""

    def __init__(self, uri: str, retry: RetryConfig) -> None:
        self.uri = uri
        self._retry = retry


_P = ParamSpec("_P")
_T = TypeVar("_T")
_PlaceT = TypeVar("_PlaceT", bound=Place)


def retried(method: Callable[Concatenate[_PlaceT, _P], _T]) -> Callable[Concatenate[_PlaceT, _P], _T]:
    """Returns a method that retries transient failures and raises StoreError in place of a file system's exception."""

    @functools.wraps(method)
    def wrapper(self: _PlaceT, /, *args: _P.args, **kwargs: _P.kwargs) -> _T:
        return with_retries(lambda: method(self, *args, **kwargs), self.uri, self._retry)

    return wrapper
