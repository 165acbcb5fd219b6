"""Credentials in overrides of a deployment: Prefect keeps those in its database as text, and shows them on its pages.

The rule is that of `jukebox_core.models.stored`, as a regular expression: a Prefect server checks what a request asks
for by the pattern of a JSON schema only, before it stores it. So a request with credentials is stored nowhere.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from jukebox_core.errors import ConfigError
from jukebox_core.models.stored import WITH_USER

if TYPE_CHECKING:
    from collections.abc import Sequence

_END = r"""\s,\]}"'"""  # characters after which an address in a list or a section is over
_USER_OF_WEB = rf"https?://[^/?#{_END}]*@"
_QUERY_OF_WEB = rf"https?://[^#{_END}]*\?"
CREDENTIALS = (  # words of songs are data: they may contain anything
    rf"(?!(~|\+{{0,2}})song)[^=]*=[\s\S]*{WITH_USER}|"
    rf"(~|\+{{0,2}})(weights|model)[^=]*=[\s\S]*({_USER_OF_WEB}|{_QUERY_OF_WEB})"
)
_FOUND = re.compile(CREDENTIALS)


def refuse_credentials(overrides: Sequence[str]) -> None:
    """Checks that no override of a deployment or a request has a user, password or query in an address.

    Raises:
        ConfigError: one has; the message does not repeat it.
    """
    for override in overrides:
        if _FOUND.match(override):
            raise ConfigError(
                f"{override.partition('=')[0]} has a user, password or query in an address, and overrides of a "
                "deployment are stored in Prefect's database; leave them out: give keys to the environment of the "
                "worker (AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, HF_TOKEN, or files of fsspec), or write the "
                "address into a model's file that only you can read, and name that (model=/my/model.yaml)"
            )
