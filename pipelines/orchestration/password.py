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

if TYPE_CHECKING:
    from pathlib import Path

FILE = "password"
_USER = "jukebox"
_FORM = re.compile(r"[^\s:]+:[!-~]{16,200}")


def own_password(home: Path) -> str:
    """Returns the password of servers of `home`, PREFECT_HOME: the user's variable, or that in the file ``password``.

    A file that others could read is made private; one without a password in it is replaced.

    Raises:
        OSError: the file cannot be read or written.
    """
    given = os.environ.get("PREFECT_SERVER_API_AUTH_STRING")
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
    """Returns the password in a file; None if there is none."""
    if not path.is_file():
        return None
    with path.open("rb") as file:
        if os.fstat(file.fileno()).st_mode & 0o077:
            os.fchmod(file.fileno(), 0o600)
        text = file.read(1000).decode("latin-1").strip()
    return text if _FORM.fullmatch(text) else None
