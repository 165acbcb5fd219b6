"""One job: a command of `jukebox`, as a user would write it, and how far it is. Imports no torch."""

from __future__ import annotations

import secrets
import shlex
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Literal, Self, get_args

if TYPE_CHECKING:
    from collections.abc import Sequence

Status = Literal["waiting", "running", "stopping", "stopped", "finished", "failed"]
OVER = frozenset({"stopped", "finished", "failed"})
STATUSES = get_args(Status)


@dataclass(frozen=True, kw_only=True, slots=True)
class Job:
    """A command, in the words after ``jukebox``, and what became of it."""

    id: str
    arguments: tuple[str, ...]  # the command's name, then its words
    run: str | None  # the run that it makes; None: it makes none
    title: str
    status: Status = "waiting"
    created: str = ""  # ISO times in UTC; empty: not yet
    began: str = ""
    ended: str = ""
    error: str = ""  # why it failed
    losses: int = 0  # times that its process ended without progress in between
    memory_bytes: int | None = None  # an estimate of what it needs; None: unknown

    @classmethod
    def new(cls, arguments: Sequence[str], *, run: str | None, title: str, memory_bytes: int | None = None) -> Self:
        """Returns a job that waits."""
        return cls(
            id=secrets.token_hex(6),
            arguments=tuple(arguments),
            run=run,
            title=title,
            created=now(),
            memory_bytes=memory_bytes,
        )

    @property
    def command(self) -> str:
        """The command for a shell."""
        return command_line(self.arguments)

    @property
    def is_over(self) -> bool:
        """Whether nothing more happens to it by itself."""
        return self.status in OVER

    def shown(self) -> dict[str, Any]:
        """Returns the job as the API has it."""
        return {
            "id": self.id,
            "command": self.command,
            "run": self.run,
            "title": self.title,
            "status": self.status,
            "created": self.created,
            "began": self.began,
            "ended": self.ended,
            "error": self.error,
            "memory_bytes": self.memory_bytes,
        }

    def becomes(self, status: Status, **fields: Any) -> Self:
        """Returns the job in another status, with the time of the change."""
        if status == "running":
            fields |= {"began": now(), "ended": "", "error": ""}
        elif status in OVER:
            fields |= {"ended": now()}
        return replace(self, status=status, **fields)


def command_line(arguments: Sequence[str]) -> str:
    """Returns a command of `jukebox` as a line for a shell."""
    return shlex.join(["jukebox", *arguments])


def now() -> str:
    """Returns the time in ISO format, in UTC."""
    return datetime.now(UTC).isoformat(timespec="milliseconds")
