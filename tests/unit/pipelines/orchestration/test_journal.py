"""Journals of flow runs: written without a server, reported to one later, as often as it takes, and removed then."""

from __future__ import annotations

import json
import subprocess
import sys
from typing import TYPE_CHECKING, Any

import pytest

from jukebox_core.base.processes import is_dead, name_of, own_name
from jukebox_core.errors import RunError
from pipelines.orchestration.follow import Follower, journals
from pipelines.orchestration.journal import Journal, as_recorded, current, journaling
from pipelines.orchestration.stage_calls import Stages

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path


class Server:
    """What a server was reported, in the form of its client; `fault` is raised instead of the answers that it gives."""

    def __init__(self) -> None:
        self.asked: list[tuple[str, str, Any]] = []
        self.fault: Callable[[str], Exception | None] = lambda _: None
        self.runs: dict[str, str] = {}  # state, by identifier
        self.artifacts: dict[str, Any] = {}  # data, by key
        self.stored = 0  # ends of tasks

    def ask(self, method: str, path: str, body: Any = None) -> Any:
        if (error := self.fault(path)) is not None:
            raise error
        self.asked.append((method, path, body))
        where = path.split("/")
        if path == "flow_runs/":
            state = self.runs.setdefault(body["idempotency_key"], body["state"]["type"])
            return {"id": body["idempotency_key"], "state": {"type": state}}
        if where[-1] == "set_state":
            self.runs[where[1]] = body["state"]["type"]
        if path == "artifacts/filter":
            [key] = body["artifacts"]["key"]["any_"]
            return [{"id": key}] if key in self.artifacts else []
        if path == "task_runs/count":
            return self.stored
        if where[0] == "artifacts":
            self.artifacts[where[1] or body["key"]] = body["data"]
            return {"id": body.get("key")}
        return {"id": "flow"}

    def events(self) -> list[tuple[str, str, str]]:
        """Name, state and time of each task's states, in order; one that is reported twice counts once."""
        reported = {e["id"]: e for _, path, body in self.asked if path == "events" for e in body or []}.values()
        return [
            (e["resource"]["prefect.resource.name"][:-4], e["resource"]["prefect.state-type"], e["occurred"])
            for e in reported
        ]


@pytest.fixture
def server() -> Server:
    return Server()


def follow(home: Path, server: Server, *, ended: bool = True) -> int:
    """Reports all journals of this process, which has ended or not; returns how many are not complete."""
    follower = Follower(home, None, server)  # type: ignore[arg-type]
    return follower.step(mine=lambda _: True, ended=lambda _: ended)


class Sung(Stages):
    fetch_weights = staticmethod(lambda model: f"weights of {model}")

    @staticmethod
    def sample_unit(*_: Any) -> Any:
        raise ValueError("no window")


def test_a_server_that_comes_late_is_reported_the_same_as_one_that_was_there(tmp_path: Path, server: Server) -> None:
    journal = Journal(tmp_path, "generate", {"seconds": 4}, None)
    stages = as_recorded(Sung(), journal)

    def work() -> None:
        with journaling(journal):
            assert current() is journal
            assert stages.fetch_weights("mini") == "weights of mini"  # type: ignore[call-arg, comparison-overlap]
            journal.artifact("progress", "progress", 50.0, "tokens sampled")
            journal.artifact("progress", "progress", 100.0, "tokens sampled")
            stages.sample_unit()  # type: ignore[call-arg]

    with pytest.raises(ValueError, match="no window"):
        work()
    assert current() is None
    assert follow(tmp_path, server) == 0
    states = [(name, state) for name, state, _ in server.events()]
    assert states == [
        ("fetch weights", "RUNNING"),
        ("fetch weights", "COMPLETED"),
        ("sample window", "RUNNING"),
        ("sample window", "FAILED"),
    ]
    times = [at for *_, at in server.events()]
    assert times == sorted(times)
    assert server.runs == {journal.id: "FAILED"}
    assert server.artifacts == {"progress": 100.0}
    assert [*(tmp_path / "records").iterdir()] == []


def test_a_flow_run_is_reported_while_it_runs_and_its_newest_artifacts_are_shown(
    tmp_path: Path, server: Server
) -> None:
    follower = Follower(tmp_path, None, server)  # type: ignore[arg-type]
    mine = {own_name()}.__contains__
    journal = Journal(tmp_path, "generate", {}, None)
    task = journal.task("sample window")
    for percent in (10.0, 20.0, 30.0):
        journal.artifact("progress", "progress", percent, "tokens sampled")
        assert follower.step(mine=mine) == 1
        assert server.artifacts == {"progress": percent}
    assert server.runs == {journal.id: "RUNNING"}
    journal.task_ended(task, None)
    assert follower.step(mine=mine) == 1
    asked = len(server.asked)
    assert follower.step(mine=mine) == 1
    assert len(server.asked) == asked, "nothing is reported twice"
    journal.end(None)
    assert follower.step(mine=mine) == 0
    assert server.runs == {journal.id: "COMPLETED"}
    assert len([path for method, path, _ in server.asked if (method, path) == ("POST", "artifacts/")]) == 1


@pytest.mark.parametrize("killed", [False, True], ids=["by the same process", "by another process"])
@pytest.mark.parametrize("path", ["flows/", "flow_runs/", "set_state", "events", "artifacts/"])
def test_what_a_server_did_not_hear_is_reported_again(tmp_path: Path, server: Server, path: str, killed: bool) -> None:
    journal = Journal(tmp_path, "generate", {}, None)
    journal.task_ended(journal.task("draw"), None)
    journal.artifact("songs", "markdown", "text", "songs")
    journal.end(None)
    failed: list[str] = []

    def once(asked: str) -> Exception | None:
        if asked.endswith(path) and not failed:
            failed.append(asked)
            return ConnectionError("away")
        return None

    server.fault = once
    follower = Follower(tmp_path, None, server)  # type: ignore[arg-type]
    with pytest.raises(ConnectionError):
        follower.step(mine=lambda _: True)
    if killed:  # the system releases its lock
        for lock, _ in follower._open.values():
            lock.release()
        follower = Follower(tmp_path, None, server)  # type: ignore[arg-type]
    assert follower.step(mine=lambda _: True) == 0
    assert server.runs == {journal.id: "COMPLETED"}
    assert [state for _, state, _ in server.events()] == ["RUNNING", "COMPLETED"]
    assert server.artifacts == {"songs": "text"}


def test_a_journal_that_a_killed_process_has_left_ends_as_crashed(tmp_path: Path, server: Server) -> None:
    program = (
        "import os, pathlib, sys; from pipelines.orchestration.journal import Journal; "
        "j = Journal(pathlib.Path(sys.argv[1]), 'generate', {}, None); j.task('sample window'); "
        'os.write(os.open(j.path, os.O_WRONLY | os.O_APPEND), b\'{"task": "torn\'); os.kill(os.getpid(), 9)'
    )
    subprocess.run([sys.executable, "-c", program, str(tmp_path)], check=False)
    [(_, process)] = journals(tmp_path, None)
    assert is_dead(process)
    assert Follower(tmp_path, None, server).step(mine=lambda _: False) == 0  # type: ignore[arg-type]
    assert list(server.runs.values()) == ["CRASHED"]
    assert [state for _, state, _ in server.events()] == ["RUNNING", "CRASHED"]
    began, crashed = (at for *_, at in server.events())
    assert began < crashed, "a server stores no two states of a task at one time"


def test_a_journal_is_reported_by_one_process_at_a_time_and_for_its_server_only(tmp_path: Path, server: Server) -> None:
    Journal(tmp_path, "generate", {}, "http://there/api").end(None)
    assert [*journals(tmp_path, None)] == []
    journal = Journal(tmp_path, "generate", {}, None)
    first, second = Follower(tmp_path, None, server), Follower(tmp_path, None, server)  # type: ignore[arg-type]
    assert first.step(mine=lambda _: True, ended=lambda _: False) == 1
    assert second.step(mine=lambda _: True, ended=lambda _: False) == 0
    assert server.runs == {journal.id: "RUNNING"}


def test_another_living_process_keeps_its_journal(tmp_path: Path, server: Server) -> None:
    journal = Journal(tmp_path, "generate", {}, None)
    lines = journal.path.read_text().replace(own_name(), name_of(1))
    journal.path.write_text(lines)
    assert Follower(tmp_path, None, server).step(mine=lambda _: False) == 0  # type: ignore[arg-type]
    assert server.asked == []
    assert journal.path.exists()


def test_a_server_that_ends_with_its_journals_has_stored_the_tasks_first(tmp_path: Path, server: Server) -> None:
    journal = Journal(tmp_path, "generate", {}, None)
    for _ in range(2):
        journal.task_ended(journal.task("draw"), None)
    journal.end(None)
    times: list[Any] = []
    follower = Follower(tmp_path, None, server, lambda *given: times.append(given))  # type: ignore[arg-type]
    assert follower.step(mine=lambda _: True, ended=lambda _: True) == 1
    server.stored = 1
    assert follower.step(mine=lambda _: True, ended=lambda _: True) == 1
    server.stored = 2
    assert follower.step(mine=lambda _: True, ended=lambda _: True) == 0
    assert [end is None for _, _, end in times] == [True, False], "its times are corrected once"


def test_what_a_server_refuses_is_set_aside(tmp_path: Path, server: Server) -> None:
    journal = Journal(tmp_path, "generate", {}, None)
    journal.end(None)
    server.fault = lambda path: RunError("status 422") if path == "flow_runs/" else None
    assert follow(tmp_path, server) == 0
    assert [path.name for path in (tmp_path / "records").iterdir()] == [f"{journal.id}.refused"]
    assert follow(tmp_path, server) == 0


def test_names_that_are_no_text_can_be_stored(tmp_path: Path, server: Server) -> None:
    journal = Journal(tmp_path, "generate", {"audio": "\udcff.wav"}, None)
    journal.end(RunError("\udcff is no file"))
    assert follow(tmp_path, server) == 0
    [parameters] = [body["parameters"] for _, path, body in server.asked if path == "flow_runs/"]
    assert parameters == {"audio": "?.wav"}


def test_a_full_disk_ends_the_journal_and_not_the_work(tmp_path: Path) -> None:
    (tmp_path / "records").write_text("in the way")
    journal = Journal(tmp_path, "generate", {}, None)
    stages = as_recorded(Sung(), journal)
    with journaling(journal):
        assert stages.fetch_weights("mini") == "weights of mini"  # type: ignore[call-arg, comparison-overlap]
        journal.artifact("progress", "progress", 1.0, "tokens sampled")
    assert isinstance(journal.failure, OSError)


def test_each_line_of_a_journal_is_json_with_its_time(tmp_path: Path) -> None:
    journal = Journal(tmp_path, "generate", {"a": 1}, None)
    journal.end(KeyboardInterrupt())
    first, last = map(json.loads, journal.path.read_text().splitlines())
    assert (first["flow"], first["parameters"], first["process"]) == ("generate", {"a": 1}, own_name())
    assert (last["state"], last["message"]) == ("CRASHED", "KeyboardInterrupt")
    assert first["at"] <= last["at"]


@pytest.mark.parametrize("killed", [True, False])
def test_an_end_whose_answer_was_lost_is_not_set_again(tmp_path: Path, server: Server, killed: bool) -> None:
    Journal(tmp_path, "generate", {}, None).end(None)
    real = server.ask

    def lost(method: str, path: str, body: Any = None) -> Any:
        answer = real(method, path, body)
        if path.endswith("set_state") and body["state"]["type"] == "COMPLETED":
            raise TimeoutError("timed out")
        return answer

    server.ask = lost  # type: ignore[method-assign]
    follower = Follower(tmp_path, None, server)  # type: ignore[arg-type]
    with pytest.raises(TimeoutError):
        follower.step(mine=lambda _: True)
    server.ask = real  # type: ignore[method-assign]
    if killed:
        for lock, _ in follower._open.values():
            lock.release()
        follower = Follower(tmp_path, None, server)  # type: ignore[arg-type]
    assert follower.step(mine=lambda _: True) == 0
    set_to = [body["state"]["type"] for _, path, body in server.asked if path.endswith("set_state")]
    assert set_to == ["RUNNING", "COMPLETED"]
    assert not [*(tmp_path / "records").glob("*.jsonl")]
