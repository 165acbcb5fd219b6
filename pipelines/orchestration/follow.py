"""Reports to a Prefect server what journals say, line by line, and removes those that are recorded. Imports no Prefect.

A journal can be reported twice: a flow run is made once for the identifier of its journal, tasks and their states have
identifiers of the journal's, and an artifact is looked up by its key. So a follower that is killed is continued by
another, from the first line on.
"""

from __future__ import annotations

import contextlib
import functools
import json
import logging
import uuid
from datetime import datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

from jukebox_core.base.locks import FileLock
from jukebox_core.base.processes import is_dead
from jukebox_core.base.records import read_json, read_regular
from jukebox_core.errors import RecordError, RunError
from pipelines.orchestration.journal import ENDING, FOLDER
from pipelines.orchestration.reconcile import TAG, process_tag

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from pipelines.orchestration.rest import Api

log = logging.getLogger("jukebox")

_LINES = 200  # that are reported at a time


def journals(home: Path, server: str | None) -> Iterator[tuple[Path, str]]:
    """Yields the paths of the journals for a server, as `Journal` takes it, each with the process that wrote it."""
    for path in sorted((home / FOLDER).glob(f"*{ENDING}")):
        with contextlib.suppress(OSError, RecordError, ValueError, LookupError, TypeError):
            target, process = _first_line(str(path))
            if target == server:
                yield path, process


@functools.lru_cache(maxsize=1000)
def _first_line(path: str) -> tuple[str | None, str]:
    """Returns the server and the process that a journal names; they do not change."""
    first = json.loads(read_regular(Path(path)).partition(b"\n")[0])
    return first["server"], str(first["process"])


class Follower:
    """The journals of one folder for one server, read by this process while it holds their locks."""

    def __init__(self, home: Path, server: str | None, api: Api, correct: Callable[..., None] | None = None) -> None:
        """Reads nothing yet.

        Args:
            home: PREFECT_HOME, with the folder of journals.
            server: whose journals are read; None: those for any server of ours.
            api: reports to the server.
            correct: called with a flow run's identifier, its start and its end: it was reported after it happened.
        """
        self._home, self._server, self._api, self._correct = home, server, api, correct
        self._open: dict[Path, tuple[FileLock, _Reader]] = {}

    def step(self, *, mine: Callable[[str], bool], ended: Callable[[str], bool] = is_dead) -> int:
        """Reports to the server what is new in the journals; returns how many are not recorded completely.

        Args:
            mine: whether a process, named as in `jukebox_core.base.processes`, is one whose journals are read here
                while it lives.
            ended: whether a process has ended, so that its journals grow no more.

        Raises:
            OSError: the server does not answer; the next call reports it the same again.
        """
        left = 0
        for path, process in journals(self._home, self._server):
            if (mine(process) or ended(process)) and self._lock(path):
                lock, reader = self._open[path]
                try:
                    recorded = reader.step(ended=ended(process))
                except RunError as error:  # the server refuses it, and would again
                    log.debug("journal %s: %s", path, error)
                    path.rename(path.with_suffix(".refused"))
                    recorded = True
                if recorded:
                    _remove(path)
                    lock.release()
                    del self._open[path]
                else:
                    left += 1
        return left

    def _lock(self, path: Path) -> bool:
        """Whether this process reads a journal: it holds the lock now."""
        if path in self._open:
            return True
        lock = FileLock(path.with_suffix(".lock"))
        if not lock.acquire():
            return False
        if not path.exists():  # another process has just recorded it
            lock.path.unlink(missing_ok=True)
            lock.release()
            return False
        self._open[path] = lock, _Reader(path, self._api, self._correct)
        return True


def _remove(path: Path) -> None:
    for each in path.parent.glob(f"{path.stem}.*"):
        if each.suffix != ".refused":
            each.unlink(missing_ok=True)


class _Reader:
    """What of one journal has been reported."""

    def __init__(self, path: Path, api: Api, correct: Callable[..., None] | None) -> None:
        self._path, self._api, self._correct = path, api, correct
        self._reported = 0  # bytes
        self._run: str | None = None
        self._start = ""
        self._tasks: dict[str, dict[str, Any]] = {}  # those that have not ended
        self._artifacts: dict[str, dict[str, Any]] = {}  # by key
        self._shown: dict[str, tuple[str, int]] = {}  # identifier and time of change of what is published
        self._ends: set[str] = set()  # tasks whose end is reported
        self._state = ""  # type of the flow run's state
        self._over = False

    def step(self, *, ended: bool) -> bool:
        """Reports what is new; returns whether the record is complete."""
        data = b"" if self._path.stat().st_size == self._reported else read_regular(self._path)[self._reported :]
        lines = data[: data.rfind(b"\n") + 1].splitlines(keepends=True)
        for first in range(0, len(lines), _LINES):
            part = lines[first : first + _LINES]
            events: list[dict[str, Any]] = []
            for line in part:
                self._report(json.loads(line), events)
            self._send(events)
            self._reported += sum(map(len, part))
        self._publish()
        if ended and not self._over and self._run is not None:  # it was killed
            self._report_end({"state": "CRASHED", "message": "its process was killed", "at": None})
        return (self._over and self._is_stored()) or (ended and self._run is None)

    def _is_stored(self) -> bool:
        """Whether the server has stored the ends of all tasks: it does so some time after it has accepted them.

        A server that goes on running is not asked.
        """
        if self._correct is None or not self._ends:
            return True
        ends = {"state": {"type": {"any_": ["COMPLETED", "FAILED", "CRASHED"]}}}
        asked = {"flow_runs": {"id": {"any_": [self._run]}}, "task_runs": ends}
        return int(self._api.ask("POST", "task_runs/count", asked)) >= len(self._ends)

    def _report(self, line: dict[str, Any], events: list[dict[str, Any]]) -> None:
        if "flow" in line:
            self._begin(line)
        elif "task" in line:
            self._tasks[line["task"]] = line
            events.append(self._state_event(line, "RUNNING", "", line["at"]))
        elif "ended" in line:
            task = self._tasks.pop(line["ended"])
            self._ends.add(line["ended"])
            events.append(self._state_event(task, line["state"], line["message"], line["at"]))
        elif "artifact" in line:
            self._artifacts[line["artifact"]] = line
        elif "end" in line:
            self._send(events)  # tasks end before their flow
            events.clear()
            self._publish()
            self._report_end(line)

    def _send(self, events: list[dict[str, Any]]) -> None:
        if events:
            self._api.ask("POST", "events", events[:])

    def _begin(self, line: dict[str, Any]) -> None:
        flow = self._api.ask("POST", "flows/", {"name": line["flow"]})["id"]
        run = {
            "flow_id": flow,
            "parameters": line["parameters"],
            "tags": [TAG, process_tag(line["process"])],
            "idempotency_key": line["id"],
            "state": {"type": "PENDING"},
        }
        made = self._api.ask("POST", "flow_runs/", run)
        self._run, self._start = made["id"], line["at"]
        self._state = "PENDING" if made["state"] is None else str(made["state"]["type"])
        if self._state == "PENDING":
            self._set_state("RUNNING", "")
        self._correct_times(None)

    def _report_end(self, line: dict[str, Any]) -> None:
        if self._tasks:
            events = [self._state_event(task, "CRASHED", line["message"], line["at"]) for task in self._tasks.values()]
            self._send(events)
            self._ends.update(self._tasks)
        if self._state != line["state"]:  # else a follower before has set it, though the answer was lost
            self._set_state(line["state"], line["message"])
        self._correct_times(line["at"])
        self._over = True

    def _set_state(self, state: str, message: str) -> None:
        body = {"state": {"type": state, "message": message or None}, "force": state == "CRASHED"}
        self._api.ask("POST", f"flow_runs/{self._run}/set_state", body)
        self._state = state

    def _correct_times(self, end: str | None) -> None:
        if self._correct is not None:
            self._correct(
                self._run, datetime.fromisoformat(self._start), None if end is None else datetime.fromisoformat(end)
            )

    def _publish(self) -> None:
        for key, line in self._artifacts.items():
            path = self._path.with_name(f"{self._path.stem}.{key}")
            try:
                changed, data = path.stat().st_mtime_ns, read_json(path)
            except (OSError, RecordError):
                continue
            identifier, before = self._shown.get(key, (None, None))
            if changed == before:
                continue
            identifier = identifier or self._artifact(key)
            if identifier is None:
                body = {"key": key, "type": line["type"], "description": line["description"], "data": data}
                identifier = self._api.ask("POST", "artifacts/", body | {"flow_run_id": self._run})["id"]
            else:
                self._api.ask("PATCH", f"artifacts/{identifier}", {"data": data})
            self._shown[key] = identifier, changed

    def _artifact(self, key: str) -> str | None:
        """Returns the identifier of an artifact that an earlier follower has published; None if there is none."""
        found = self._api.ask(
            "POST",
            "artifacts/filter",
            {"flow_runs": {"id": {"any_": [self._run]}}, "artifacts": {"key": {"any_": [key]}}},
        )
        return str(found[0]["id"]) if found else None

    def _state_event(self, task: dict[str, Any], state: str, message: str, at: str | None) -> dict[str, Any]:
        """Returns the event by which Prefect's own client reports to a server the state of a task run."""
        ended, at = state != "RUNNING", at or task["at"]
        if ended and at <= task["at"]:  # its process was killed at once; a server stores no two states at one time
            at = (datetime.fromisoformat(task["at"]) + timedelta(microseconds=1)).isoformat()
        run: dict[str, Any] = {
            "name": f"{task['name']}-{task['task'][:3]}",
            "task_key": task["name"],
            "dynamic_key": task["task"],
            "run_count": 1,
            "flow_run_run_count": 1,
            "start_time": task["at"],
            "expected_start_time": task["at"],
        }
        if ended:
            spent = datetime.fromisoformat(at) - datetime.fromisoformat(task["at"])
            run |= {"end_time": at, "total_run_time": spent.total_seconds()}
        name = state.capitalize()
        return {
            "id": str(uuid.uuid5(uuid.UUID(task["task"]), state)),
            "occurred": at,
            "event": f"prefect.task-run.{name}",
            "resource": {
                "prefect.resource.id": f"prefect.task-run.{task['task']}",
                "prefect.resource.name": run["name"],
                "prefect.run-count": "1",
                "prefect.state-message": message,
                "prefect.state-name": name,
                "prefect.state-timestamp": at,
                "prefect.state-type": state,
                "prefect.orchestration": "client",
            },
            "related": [
                {"prefect.resource.id": f"prefect.flow-run.{self._run}", "prefect.resource.role": "flow-run"},
            ],
            "payload": {
                "intended": {"from": "RUNNING" if ended else None, "to": state},
                "initial_state": {"type": "RUNNING", "name": "Running", "message": "", "state_details": {}}
                if ended
                else None,
                "validated_state": {"type": state, "name": name, "message": message, "state_details": {}, "data": None},
                "task_run": run,
            },
        }
