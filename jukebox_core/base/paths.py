"""Paths: from what a user wrote, of the files that are shipped, and of the folder of caches. Imports no torch."""

from __future__ import annotations

import logging
import os
import unicodedata
from pathlib import Path
from typing import TYPE_CHECKING

from jukebox_core.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable

log = logging.getLogger("jukebox")

LONGEST_NAME = 255  # bytes of one part of a path, on every usual file system
_LONGEST_GIVEN = 200  # of a name that others are made from: of locks, of temporary files, of runs that continue it
_LONGEST_PATH = 4095  # bytes, of Linux; elsewhere the error of the system is shown
_PARTS = ("native", "spool", "graphs")  # folders in the cache folder that do not belong to the weights library


def user_path(text: str | os.PathLike[str]) -> Path:
    """Returns the path that a user or a stored setting names, with a leading ``~`` replaced by the home folder.

    Every such path is made here, so that none of them surprises the file system later. Nothing is read or written.

    Raises:
        ConfigError: control characters, a part or a whole that is too long for a file system, or an unknown home.
    """
    given = os.fspath(text)
    check_characters(given, f"path {shortened(given)}")
    try:
        path = Path(given).expanduser()
    except RuntimeError:
        first = Path(given).parts[0]
        raise ConfigError(
            f"path {shortened(given)} begins with {first}, but no home folder of that name is known; "
            "write the whole path"
        ) from None
    longest = max(path.parts, key=lambda part: len(os.fsencode(part)), default="")
    if len(os.fsencode(longest)) > LONGEST_NAME:
        raise ConfigError(
            f"path {shortened(given)} has a part of {len(os.fsencode(longest))} bytes; "
            f"a file's or folder's name has at most {LONGEST_NAME}: shorten it"
        )
    if len(os.fsencode(path)) > _LONGEST_PATH:
        size = len(os.fsencode(path))
        raise ConfigError(f"path {shortened(given)} has {size} bytes; a path has at most {_LONGEST_PATH}: shorten it")
    return path


def output_folder(text: str | os.PathLike[str], read: Iterable[str | os.PathLike[str]] = ()) -> Path:
    """Returns the path of a folder to write to, after a check that it is one, or can be made; nothing is written.

    Args:
        text: the folder.
        read: what the command reads. The folder is none of these, and in none of them, links resolved: the next
            command would take what is written for what it reads, and the user's own files would be among it.

    Raises:
        ConfigError: as `user_path`; or something that is no folder is in its path, or access to it is refused, or it
            is, or lies in, a folder of `read`.
    """
    path = user_path(text)
    for source in map(user_path, read):
        if source.is_dir() and Path(os.path.realpath(path)).is_relative_to(os.path.realpath(source)):
            raise ConfigError(
                f"folder {path} is, or lies in, {source}, which is read; results would be mixed with what they are "
                "made from: choose a folder outside of it"
            )
    there = next((each for each in (path, *path.absolute().parents) if os.path.lexists(each)), Path("/"))
    try:
        is_folder = there.is_dir()
    except OSError:
        is_folder = False
    if not is_folder:
        what = "a link to nothing" if there.is_symlink() else "no folder"
        raise ConfigError(f"cannot make folder {path}: {there} is {what}; move that away, or choose another folder")
    if not os.access(there, os.W_OK | os.X_OK):
        raise ConfigError(
            f"cannot write to folder {path}: access to {there} is refused; correct its owner and mode, or choose "
            "another folder"
        )
    return path


def files_below(root: Path, suffixes: Collection[str]) -> list[Path]:
    """Returns the regular files of a folder and its subfolders with one of these suffixes, sorted; no hidden files.

    Other programs may change the folder meanwhile. A subfolder that cannot be listed is left out, with a warning.

    Args:
        root: the folder; links to folders in it are not followed.
        suffixes: in lower case, with their dots.
    """

    def left_out(error: OSError) -> None:
        log.warning("folder %s is left out: it cannot be listed (%s)", error.filename, error.strerror)

    found = (Path(folder, name) for folder, _, names in os.walk(root, onerror=left_out) for name in names)
    return sorted(p for p in found if not p.name.startswith(".") and p.suffix.lower() in suffixes and is_file(p))


def is_file(path: Path) -> bool:
    """Returns whether a path is a regular file, links followed; one that cannot be looked at is none."""
    return os.path.isfile(path)  # noqa: PTH113 - which raises nothing


def check_name(text: str, what: str) -> None:
    """Checks that a name can be a folder's, and that of what is made from it.

    Raises:
        ConfigError: it is empty, hidden or too long, or has slashes or control characters; `what` begins the message.
    """
    if not text or text.startswith(".") or set(text) & set("/\\\0"):
        raise ConfigError(
            f"{what} is {shortened(text)}; it must be a plain folder name, without slashes and not starting with a dot"
        )
    check_characters(text, f"{what} is {shortened(text)}, which")
    size = len(os.fsencode(text))
    if size > _LONGEST_GIVEN:
        raise ConfigError(
            f"{what} is {shortened(text)}, {size} bytes long; a name has at most {_LONGEST_GIVEN}: shorten it"
        )


def check_characters(text: str, what: str) -> None:
    """Checks that a name or path has no control characters: line breaks, escape codes, NUL.

    Raises:
        ConfigError: it has; the message begins with `what`.
    """
    wrong = next((character for character in text if unicodedata.category(character) == "Cc"), None)
    if wrong is not None:
        raise ConfigError(f"{what} has the control character {wrong!r}; leave it out, or rename the file")


def shortened(text: str, most: int = 60) -> str:
    """Returns `text` quoted for a message, control characters escaped, with its middle left out if it is long."""
    return repr(text if len(text) <= most else f"{text[: most // 2]}...{text[-(most // 2) :]}")


def conf_dir() -> Path:
    """Returns the folder with the configuration files: inside the package when installed, else the repository's.

    Raises:
        ConfigError: neither exists.
    """
    package = Path(__file__).resolve().parents[1]
    for folder in (package / "conf", package.parent / "conf"):
        if (folder / "generate.yaml").is_file():
            return folder
    raise ConfigError(f"no configuration files in {package / 'conf'} or beside it; install the package again")


def cache_dir(part: str = "") -> Path:
    """Returns the default folder of the weights library, or another `part` of the cache; it may not exist yet.

    That is ``$XDG_CACHE_HOME/jukebox``, without that variable ``~/.cache/jukebox``. Earlier versions kept the library
    in the latter whatever the variable said: it is still used where it holds a library and the former does not.

    Args:
        part: ``native`` (compiled kernels), ``spool`` (tokens that wait for their store), ``graphs`` (exported ones);
            empty for the library.
    """
    old = user_path("~/.cache/jukebox")
    new = user_path(os.environ.get("XDG_CACHE_HOME") or old.parent) / "jukebox"
    return new / part if part or _has_library(new) or not _has_library(old) else old


def _has_library(folder: Path) -> bool:
    return folder.is_dir() and any(entry.name not in _PARTS for entry in folder.iterdir())
