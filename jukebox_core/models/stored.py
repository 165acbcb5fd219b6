"""Settings as plain data that is stored and shown: with runs and models, in reports and on pages. Imports no torch.

Addresses of sources may hold a user, a password or a signed query. They serve the download, and are left out here.
"""

from __future__ import annotations

import re
from typing import Any

from jukebox_core.base.structuring import to_plain
from jukebox_core.models.download.web import without_secrets

# A user and a password in an address within other text; secrets of S3 may have slashes in them. A port is none.
WITH_USER = r"""://[^/?#@\s,\]}"'\[]*:(?!\d*([/?#\s,\]}"']|$))[^@\s,\]}"']*@"""
_WITH_USER = re.compile(WITH_USER)
_SOURCES = frozenset({"sources", "weight_sources", "vocabulary_sources", "mirrors", "substitute"})


def to_stored(settings: object) -> dict[str, Any]:
    """Returns the mappings, lists and plain values of a settings record, without credentials in addresses."""
    return without_credentials(to_plain(settings))


def without_credentials(stored: dict[str, Any]) -> dict[str, Any]:
    """Returns plain settings without user, password and query in addresses of sources."""
    found: dict[str, Any] = _without_credentials(stored, is_source=False)
    return found


def has_password(address: str) -> bool:
    """Whether an address has a user and a password in it, as in ``s3://key:secret@bucket``."""
    return _WITH_USER.search(address) is not None


def _without_credentials(value: Any, *, is_source: bool) -> Any:
    if isinstance(value, dict):
        return {name: _without_credentials(each, is_source=name in _SOURCES) for name, each in value.items()}
    if isinstance(value, list | tuple):
        return [_without_credentials(each, is_source=is_source) for each in value]
    if is_source and isinstance(value, str) and (_is_web(value) or has_password(value)):
        both = value.split("#") if value.startswith("lfs+") else [value]  # a repository, and where its pointers are
        return "#".join(without_secrets(each) for each in both)
    return value


def _is_web(address: str) -> bool:
    return address.removeprefix("lfs+").startswith(("http://", "https://"))
