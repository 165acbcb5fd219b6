"""The password of our own Prefect servers: made at first use, kept in a file that only its owner can read.

It has Prefect's form, ``user:password``. The server receives it as PREFECT_SERVER_API_AUTH_STRING, our client and
worker as PREFECT_API_AUTH_STRING; it is never logged, and it is not given to servers of others.
"""

from __future__ import annotations

import os
import re
import secrets
from typing import TYPE_CHECKING

from jukebox_core.base.atomic import atomic_write
from jukebox_core.base.locks import locked
from jukebox_core.base.records import clear_place, read_regular
from jukebox_core.errors import RecordError

if TYPE_CHECKING:
    from pathlib import Path

FILE = "password"
_BYTES = 1000  # of the file, at most
_USER = "jukebox"
_FORM = re.compile(r"[^\s:]+:[!-~]{16,200}")


def own_password(home: Path, variable: str = "PREFECT_SERVER_API_AUTH_STRING") -> str:
    """Returns the password of servers of a folder: the user's variable, or that in the folder's file ``password``.

    A file that others could read is made private; one without a password in it is replaced, and anything else, such as
    a folder or a pipe, is renamed.

    Args:
        home: the folder, PREFECT_HOME for Prefect's.
        variable: of the environment.

    Raises:
        OSError: the file cannot be read or written.
    """
    given = os.environ.get(variable)
    if given:
        return given
    path = home / FILE
    with locked(home / "password.lock"):
        found = _read(path)
        if found is None:
            found = f"{_USER}:{secrets.token_urlsafe(24)}"
            with atomic_write(path) as file:
                os.fchmod(file.fileno(), 0o600)  # before anything is in it
                file.write(found.encode("ascii"))
    return found


def _read(path: Path) -> str | None:
    """Returns the password in a regular file, or a link to one; None if there is none. What else it is, is renamed."""
    try:
        text = read_regular(path, _BYTES, links=True).decode("latin-1").strip()
    except (FileNotFoundError, RecordError):
        clear_place(path)  # a link to nothing, for example
        return None
    if not _FORM.fullmatch(text):
        return None
    if path.stat().st_mode & 0o077:
        path.chmod(0o600)
    return text
