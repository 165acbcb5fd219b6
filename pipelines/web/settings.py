"""The settings of ``jukebox web``. Imports no torch."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

from jukebox_core.base.paths import shortened, user_path
from jukebox_core.errors import ConfigError
from pipelines.orchestration.guard import LOOPBACK

if TYPE_CHECKING:
    from pathlib import Path

PORT = 4280
_LAST_PORT = 65_535
_HOST = re.compile(r"[\w:-]{1,63}(\.[\w:-]{1,63})*", re.ASCII)


@dataclass(frozen=True, kw_only=True, slots=True)
class WebSettings:
    """Where the pages are served, and what every command of theirs begins with."""

    host: str = "127.0.0.1"
    port: int = PORT  # 0: any free one
    token: bool = False  # ask for the token on loopback too
    overrides: tuple[str, ...] = ()  # of every command, before its own
    storage_root: str = "outputs"

    def __post_init__(self) -> None:
        """Checks the address."""
        if not 0 <= self.port <= _LAST_PORT:
            raise ConfigError(f"--port is {self.port}; it must be from 1 to {_LAST_PORT}, or 0 for any free one")
        if not _HOST.fullmatch(self.host):
            raise ConfigError(f"--host is {shortened(self.host)}; give an address of this machine, as in 127.0.0.1")

    @property
    def asks_for_token(self) -> bool:
        """Whether who opens the pages must have the token."""
        return self.token or self.host not in LOOPBACK

    @property
    def root(self) -> Path:
        """The folder of the runs."""
        return user_path(self.storage_root).absolute()

    @property
    def folder(self) -> Path:
        """The folder of the queue, of uploads, and of what people note about takes."""
        return self.root / ".web"
