"""What people note about takes: a title, a star, a note, and that they hide them. Kept beside the runs.

Imports no torch.
"""

from __future__ import annotations

import logging
import threading
from dataclasses import asdict, dataclass, replace
from typing import TYPE_CHECKING, Any, ClassVar

from jukebox_core.base.atomic import atomic_write
from jukebox_core.base.records import dump_record, read_record, set_aside
from jukebox_core.base.structuring import build
from jukebox_core.errors import ConfigError, RecordError

if TYPE_CHECKING:
    from pathlib import Path

log = logging.getLogger("jukebox")

FILE = "marks.json"
SCHEMA = 1


@dataclass(frozen=True, kw_only=True, slots=True)
class Mark:
    """What is noted about one take."""

    title: str = ""
    note: str = ""
    star: bool = False
    hidden: bool = False


@dataclass(frozen=True, kw_only=True, slots=True)
class _File:
    extensible: ClassVar[bool] = True
    schema: int
    marks: dict[str, Mark]  # by run/sample


class Marks:
    """The marks of one storage folder. Its methods may be called by several threads."""

    def __init__(self, folder: Path) -> None:
        self._path, self._lock = folder / FILE, threading.Lock()
        self._marks = dict(_read(self._path))

    def of(self, run: str, sample: int) -> Mark:
        """Returns what is noted about a take."""
        return self._marks.get(f"{run}/{sample}", Mark())

    def change(self, run: str, sample: int, **fields: Any) -> Mark:
        """Notes something about a take; returns all that is noted."""
        with self._lock:
            mark = replace(self.of(run, sample), **fields)
            self._marks = {**self._marks, f"{run}/{sample}": mark}
            self._write()
        return mark

    def forget(self, run: str) -> None:
        """Forgets what is noted about the takes of a run, which was removed."""
        with self._lock:
            self._marks = {take: mark for take, mark in self._marks.items() if take.rpartition("/")[0] != run}
            self._write()

    def _write(self) -> None:
        marks = {take: asdict(mark) for take, mark in self._marks.items() if mark != Mark()}
        data = dump_record({"schema": SCHEMA, "marks": marks})
        with atomic_write(self._path) as file:
            file.write(data)


def _read(path: Path) -> dict[str, Mark]:
    try:
        return build(_File, read_record(path, _File, SCHEMA)).marks
    except FileNotFoundError:
        return {}
    except (RecordError, ConfigError) as error:
        log.warning("%s; it is kept as %s", error, set_aside(path).name)
        return {}
