"""The record of a flow run, made while its server is away or not up yet: a file of lines, and the class that writes it.

A command writes what happens (the flow's beginning and end, those of its tasks, artifacts) to a journal in Prefect's
folder, and waits for nothing. `pipelines.orchestration.follow` reports to a server what a journal says, in this process
or in that of a server of ours, and removes it then. So a journal that is still there was not recorded completely: a
later server reads it. Imports no Prefect.

The files of a journal: ``records/<id>.jsonl`` with one JSON object a line, and ``records/<id>.<key>`` with the newest
data of each artifact, so that the journal of a run of days stays small.
"""

from __future__ import annotations

import contextvars
import functools
import json
import threading
import uuid
from contextlib import contextmanager
from copy import copy
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Literal, TypeVar

from jukebox_core.base.atomic import atomic_write
from jukebox_core.base.processes import own_name
from pipelines.orchestration.stage_calls import Stages, shown_name

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping
    from pathlib import Path

FOLDER = "records"  # in PREFECT_HOME
ENDING = ".jsonl"
Kind = Literal["progress", "table", "markdown"]
State = Literal["COMPLETED", "FAILED", "CRASHED"]

S = TypeVar("S", bound=Stages)
_current: contextvars.ContextVar[Journal | None] = contextvars.ContextVar("journal", default=None)
_MESSAGE = 1000  # characters of an error that a state keeps


def current() -> Journal | None:
    """Returns the journal of the flow run that this thread works for; None if there is none."""
    return _current.get()


class Journal:
    """The journal of one flow run, which begins when it is made. Its methods may be called by several threads.

    A disk that is full ends the journal and not the work: `failure` says why.
    """

    def __init__(self, home: Path, name: str, config: Mapping[str, Any], server: str | None) -> None:
        """Begins the record of flow `name`, whose parameters are `config`.

        Args:
            home: PREFECT_HOME.
            name: of the flow.
            config: plain data that Prefect's pages show.
            server: the API address of the server that is to have the record; None: any server of ours.
        """
        self.id = str(uuid.uuid4())
        self.path = home / FOLDER / f"{self.id}{ENDING}"
        self.failure: OSError | None = None
        self._lock = threading.Lock()
        self._published: set[str] = set()
        begin = {"flow": name, "parameters": dict(config), "process": own_name(), "server": server}
        self._write(begin | {"id": self.id})

    def task(self, name: str) -> str:
        """Records that a task begins; returns the identifier of its run."""
        identifier = str(uuid.uuid4())
        self._write({"task": identifier, "name": name})
        return identifier

    def task_ended(self, identifier: str, error: BaseException | None) -> None:
        """Records that the task with this identifier has ended, by `error` if there is one."""
        self._write({"ended": identifier, **_outcome(error)})

    def artifact(self, key: str, kind: Kind, data: float | str, description: str) -> None:
        """Publishes an artifact; one with the same key is replaced."""
        try:
            with atomic_write(self.path.with_name(f"{self.id}.{key}")) as file:
                file.write(_encoded(data))
        except OSError as error:
            self.failure = self.failure or error
            return
        if key not in self._published:
            self._published.add(key)
            self._write({"artifact": key, "type": kind, "description": description})

    def end(self, error: BaseException | None) -> None:
        """Records that the flow run has ended, by `error` if there is one."""
        self._write({"end": True, **_outcome(error)})

    def _write(self, line: dict[str, Any]) -> None:
        data = _encoded(line | {"at": datetime.now(UTC).isoformat()}) + b"\n"
        with self._lock:
            if self.failure is not None:  # what follows a gap would be wrong
                return
            try:
                self.path.parent.mkdir(mode=0o700, exist_ok=True)
                with self.path.open("ab", buffering=0) as file:
                    file.write(data)
            except OSError as error:
                self.failure = error


def _encoded(value: object) -> bytes:
    """Returns a value as JSON in UTF-8, with question marks for what is no text in names of files."""
    return json.dumps(value, ensure_ascii=False).encode("utf-8", "replace")


def _outcome(error: BaseException | None) -> dict[str, str]:
    """Returns state and message of what ended by `error`: interrupted work has crashed, as Prefect says it."""
    if error is None:
        return {"state": "COMPLETED", "message": ""}
    said = " ".join(str(error).split())[:_MESSAGE]
    state: State = "FAILED" if isinstance(error, Exception) else "CRASHED"
    return {"state": state, "message": f"{type(error).__name__}: {said}" if said else type(error).__name__}


@contextmanager
def journaling(journal: Journal) -> Iterator[None]:
    """A block, of the work of a flow run: `current` returns its journal; the block's end is the flow run's."""
    token = _current.set(journal)
    try:
        yield
    except BaseException as error:
        journal.end(error)
        raise
    else:
        journal.end(None)
    finally:
        _current.reset(token)


def as_recorded(stages: S, journal: Journal) -> S:
    """Returns a copy of `stages` in which each stage is the same function, whose calls are recorded as tasks."""
    recorded = copy(stages)
    for name in stages.names():
        setattr(recorded, name, _recorded(getattr(stages, name), shown_name(name), journal))
    return recorded


def _recorded(function: Callable[..., Any], name: str, journal: Journal) -> Callable[..., Any]:
    @functools.wraps(function)
    def call(*given: Any, **named: Any) -> Any:
        task = journal.task(name)
        try:
            result = function(*given, **named)
        except BaseException as error:
            journal.task_ended(task, error)
            raise
        journal.task_ended(task, None)
        return result

    return call
