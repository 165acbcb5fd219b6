"""Where files are fetched from: one small class for each kind of address. Imports no torch.

A source opens a file at a byte offset and says what it knows of it; what is done with the bytes is `fetch.py`'s matter.
A new kind of address (an object store, a model hub) is one more class and one more line in `source_for`.
"""

from __future__ import annotations

import http.client
import io
import re
import urllib.error
import urllib.parse
import urllib.request
from contextlib import closing, contextmanager
from dataclasses import dataclass
from importlib import resources
from pathlib import Path
from typing import IO, TYPE_CHECKING, Protocol

from jukebox_core.errors import ConfigError, did_you_mean

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from contextlib import AbstractContextManager
    from importlib.resources.abc import Traversable

SCHEMES = ("https:", "http:", "file:", "package:")
READ_TIMEOUT = 30.0  # seconds without a byte; a whole download may take hours

_FINAL_STATUSES = frozenset({400, 401, 403, 404, 405, 410, 451})  # asking again gives the same answer


class SourceError(Exception):
    """A source did not deliver; ``final`` means that asking it again is pointless."""

    def __init__(self, message: str, *, final: bool = False) -> None:
        super().__init__(message)
        self.final = final


@dataclass(frozen=True, slots=True)
class Reply:
    """An opened file: its bytes from ``start`` on, and what the source knows of the whole."""

    read: Callable[[int], bytes]  # the next bytes, at most so many, none at the end; raises `SourceError`
    start: int  # 0 where a source cannot begin elsewhere, whatever was asked
    total: int | None  # size of the whole file in bytes
    version: str | None  # equal for equal content of this source, as an ETag is


class Source(Protocol):
    """A place that holds files under relative paths."""

    @property
    def name(self) -> str:
        """Its address as a person may see it, without secrets."""

    @property
    def remote(self) -> bool:
        """Whether reading from it opens a connection."""

    def open(self, path: str, start: int) -> AbstractContextManager[Reply]:
        """Opens the file for reading from byte ``start`` on; raises `SourceError`."""


def source_for(address: str) -> Source:
    """The source at ``address``: ``https://``, ``http://``, ``file://``, an absolute folder, or ``package:<folder>``.

    Raises:
        ConfigError: the address is of no known kind.
    """
    scheme, _, rest = address.partition(":")
    if scheme in ("https", "http") and rest.startswith("//"):
        return HttpSource(address)
    if scheme == "file" and rest.startswith("//"):
        return FolderSource(Path(urllib.request.url2pathname(urllib.parse.urlsplit(address).path)))
    if address.startswith(("/", "~")):
        return FolderSource(Path(address).expanduser())
    if scheme == "package" and rest:
        return PackageSource(rest)
    hint = did_you_mean(f"{scheme}:", SCHEMES)
    raise ConfigError(f"source {address!r} cannot be fetched from; begin with one of {', '.join(SCHEMES)}{hint}")


def is_web_page(head: bytes) -> bool:
    """Whether a file that begins so is HTML or XML: what servers answer when something is wrong."""
    return head.lstrip().lower().startswith((b"<!doctype", b"<html", b"<?xml"))


@dataclass(frozen=True, slots=True)
class HttpSource:
    """A web server; interrupted reads go on where they broke if it honours Range."""

    base: str
    timeout: float | None = None  # seconds without a byte; None: READ_TIMEOUT

    @property
    def name(self) -> str:
        """The address without user, password and query, which can be secrets."""
        parts = urllib.parse.urlsplit(self.base)
        return urllib.parse.urlunsplit((parts.scheme, parts.netloc.rpartition("@")[2], parts.path, "", ""))

    @property
    def remote(self) -> bool:
        """Always."""
        return True

    @contextmanager
    def open(self, path: str, start: int) -> Iterator[Reply]:
        """Asks for the bytes from ``start`` on."""
        parts = urllib.parse.urlsplit(self.base)
        url = parts._replace(path=f"{parts.path.rstrip('/')}/{urllib.parse.quote(path)}").geturl()
        headers = {"User-Agent": "jukebox-pipelines", "Accept-Encoding": "identity"}
        if start:
            headers["Range"] = f"bytes={start}-"
        request = urllib.request.Request(url, headers=headers)  # noqa: S310 (source_for admits http and https only)
        try:
            response = urllib.request.build_opener().open(request, timeout=self.timeout or READ_TIMEOUT)
        except urllib.error.HTTPError as error:
            with closing(error):
                if error.code == http.HTTPStatus.REQUESTED_RANGE_NOT_SATISFIABLE:
                    yield _nothing_left(error, start)
                    return
                final = error.code in _FINAL_STATUSES
                raise SourceError(f"HTTP {error.code} {error.reason}", final=final) from error
        except (OSError, http.client.HTTPException) as error:
            raise SourceError(f"no answer ({getattr(error, 'reason', None) or error})") from error
        with closing(response):
            yield _http_reply(response)


@dataclass(frozen=True, slots=True)
class FolderSource:
    """A folder on this machine or a mounted disk."""

    folder: Path

    @property
    def name(self) -> str:
        """The folder as a file address."""
        return f"file://{self.folder}"

    @property
    def remote(self) -> bool:
        """Never."""
        return False

    @contextmanager
    def open(self, path: str, start: int) -> Iterator[Reply]:
        """Opens the file in the folder."""
        with _opened(self.folder / path) as file:
            stat = (self.folder / path).stat()
            file.seek(start)
            yield Reply(_guarded(file.read), start, stat.st_size, f"{stat.st_size}-{stat.st_mtime_ns}")


@dataclass(frozen=True, slots=True)
class PackageSource:
    """A folder shipped inside this program; its files are small."""

    folder: str

    @property
    def name(self) -> str:
        """The address it was given by."""
        return f"package:{self.folder}"

    @property
    def remote(self) -> bool:
        """Never."""
        return False

    @contextmanager
    def open(self, path: str, start: int) -> Iterator[Reply]:
        """Reads the whole file, as a package may lie in an archive."""
        with _opened(resources.files("jukebox_core").joinpath(f"{self.folder}/{path}")) as file:
            content = file.read()
        yield Reply(io.BytesIO(content[start:]).read, start, len(content), None)


@contextmanager
def _opened(file: Path | Traversable) -> Iterator[IO[bytes]]:
    try:
        opened = file.open("rb")
    except (FileNotFoundError, NotADirectoryError) as error:
        raise SourceError("has no such file", final=True) from error
    except OSError as error:
        raise SourceError(f"cannot be read ({error.strerror})", final=True) from error
    with opened:
        yield opened


def _guarded(read: Callable[[int], bytes]) -> Callable[[int], bytes]:
    """The same, with every failure told as the source's own, apart from failures to store what was read."""

    def guarded(size: int) -> bytes:
        try:
            return read(size)
        except (OSError, http.client.HTTPException) as error:
            raise SourceError(f"broke off ({error or type(error).__name__})") from error

    return guarded


def _http_reply(response: http.client.HTTPResponse) -> Reply:
    version = response.headers.get("ETag") or response.headers.get("Last-Modified")
    read = _guarded(response.read1)  # what has arrived, so that a break loses none of it
    if response.status == http.HTTPStatus.PARTIAL_CONTENT:
        span = re.fullmatch(r"bytes (\d+)-\d+/(\d+|\*)", response.headers.get("Content-Range", ""))
        if span is None:
            raise SourceError("answered with a part but did not say which", final=True)
        return Reply(read, int(span[1]), None if span[2] == "*" else int(span[2]), version)
    length = response.headers.get("Content-Length")
    return Reply(read, 0, int(length) if length and length.isdigit() else None, version)


def _nothing_left(error: urllib.error.HTTPError, start: int) -> Reply:
    """The reply to asking for bytes beyond the end: empty if we have it all, an end short of ours if we have more."""
    span = re.fullmatch(r"bytes \*/(\d+)", error.headers.get("Content-Range", ""))
    total = int(span[1]) if span else None
    version = error.headers.get("ETag") or error.headers.get("Last-Modified")
    return Reply(io.BytesIO().read, start, total, version)
