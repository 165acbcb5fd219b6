"""Prefect's database is set up once, set aside if it is damaged, and left alone if it is in use."""

from __future__ import annotations

import os
import sqlite3
import subprocess
import sys
from contextlib import closing
from importlib.metadata import version
from typing import TYPE_CHECKING

import pytest

from jukebox_core.errors import RunError
from pipelines.orchestration.database import prepare_database

if TYPE_CHECKING:
    from pathlib import Path


def make(path: Path) -> None:
    with closing(sqlite3.connect(path)) as database, database:
        database.execute("CREATE TABLE IF NOT EXISTS alembic_version (version_num TEXT)")
        database.execute("CREATE TABLE IF NOT EXISTS big (content BLOB)")
        database.executemany("INSERT INTO big VALUES (?)", [(os.urandom(3000),)] * 40)


@pytest.fixture
def commands(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[list[str]]:
    """The commands that would be run; they make a database, unless a damaged one is there, as Prefect does."""
    ran: list[list[str]] = []

    def run(command: list[str], **_: object) -> subprocess.CompletedProcess[str]:
        ran.append(command)
        try:
            make(tmp_path / "prefect.db")
        except sqlite3.DatabaseError as error:
            return subprocess.CompletedProcess(command, 1, "", f"first\nDatabaseError: {error}\n")
        return subprocess.CompletedProcess(command, 0, "", "")

    for name in [name for name in os.environ if name.startswith("PREFECT_")]:
        monkeypatch.delenv(name)
    monkeypatch.setattr(subprocess, "run", run)
    return ran


def test_it_is_set_up_once(tmp_path: Path, commands: list[list[str]]) -> None:
    for _ in range(3):
        prepare_database(tmp_path)
    assert commands == [[sys.executable, "-m", "prefect", "server", "database", "upgrade", "-y"]]


def test_one_of_another_version_or_without_a_table_is_set_up_again(tmp_path: Path, commands: list[list[str]]) -> None:
    prepare_database(tmp_path)
    (tmp_path / "database.version").write_text("0.0.1")
    prepare_database(tmp_path)
    (tmp_path / "prefect.db").write_bytes(b"")
    prepare_database(tmp_path)
    (tmp_path / "prefect.db").unlink()
    prepare_database(tmp_path)
    assert len(commands) == 4
    assert not [*tmp_path.glob("*damaged-*")]


@pytest.mark.parametrize("damage", ["garbage", "header", "middle", "cut", "folder", "fifo"])
@pytest.mark.parametrize("stamped", [True, False])
def test_a_damaged_one_is_kept_aside_and_a_new_one_made(
    tmp_path: Path, commands: list[list[str]], damage: str, stamped: bool, caplog: pytest.LogCaptureFixture
) -> None:
    path = tmp_path / "prefect.db"
    make(path)
    if stamped:
        (tmp_path / "database.version").write_text(version("prefect"))
    content = path.read_bytes()
    if damage in ("folder", "fifo"):
        path.unlink()
        path.mkdir() if damage == "folder" else os.mkfifo(path)
    else:
        path.write_bytes(
            {
                "garbage": os.urandom(5000),
                "header": b"x" * 100 + content[100:],
                "middle": content[:4096] + b"\xff" * 8192 + content[12288:],
                "cut": content[: len(content) // 2],
            }[damage]
        )
    prepare_database(tmp_path)
    prepare_database(tmp_path)
    assert len(commands) == 1
    [aside] = tmp_path.glob("prefect.db.damaged-*")
    assert aside.name == "prefect.db.damaged-1"
    assert path.is_file()
    assert [line for line in caplog.messages if f"it is kept as {aside}" in line]


def test_one_that_is_locked_is_not_taken_for_damaged(tmp_path: Path, commands: list[list[str]]) -> None:
    prepare_database(tmp_path)
    with closing(sqlite3.connect(tmp_path / "prefect.db", isolation_level=None)) as other:
        other.execute("BEGIN EXCLUSIVE")
        prepare_database(tmp_path)
    assert len(commands) == 1
    assert not [*tmp_path.glob("*damaged-*")]


def test_one_that_cannot_be_set_up_is_reported_and_left(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    make(tmp_path / "prefect.db")
    failed = subprocess.CompletedProcess([], 1, "", "first\nOperationalError: disk is full\n")
    monkeypatch.setattr(subprocess, "run", lambda *_, **__: failed)
    before = (tmp_path / "prefect.db").read_bytes()
    with pytest.raises(RunError, match=r"cannot be set up \(OperationalError: disk is full\)"):
        prepare_database(tmp_path)
    assert (tmp_path / "prefect.db").read_bytes() == before
    assert not (tmp_path / "database.version").exists()


def test_one_of_the_users_own_is_not_touched(
    tmp_path: Path, commands: list[list[str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PREFECT_API_DATABASE_CONNECTION_URL", "postgresql+asyncpg://host/prefect")
    prepare_database(tmp_path)
    assert commands == []


TRIM = """
import asyncio, datetime, os, sys, uuid
from pipelines.orchestration import database, prefect_home
prefect_home.set_environment(sys.argv[1])
import sqlalchemy as sa
from prefect.server import models, schemas
from prefect.server.database import provide_database_interface

async def main():
    db = provide_database_interface()
    now = datetime.datetime.now(datetime.UTC)
    async with db.session_context(begin_transaction=True) as session:
        flow = await models.flows.create_flow(session, schemas.core.Flow(name="generate"))
        for number in range(30):
            ended = now - datetime.timedelta(days=100 if number < 3 else 0, minutes=60 - number)
            state = "RUNNING" if number == 20 else "COMPLETED"
            run = db.FlowRun(flow_id=flow.id, name=str(number), state_type=state, state_name=state, end_time=ended)
            session.add(run)
            await session.flush()
            session.add(db.Log(name="x", level=20, message="m", timestamp=ended, flow_run_id=run.id))
            session.add(db.TaskRun(task_key="k", dynamic_key="d", name="t", flow_run_id=run.id))
            await models.artifacts.create_artifact(
                session, schemas.core.Artifact(key="songs", type="markdown", data="d", flow_run_id=run.id)
            )
        await session.execute(sa.insert(db.Event), [
            {"id": uuid.uuid4(), "occurred": now - datetime.timedelta(minutes=n), "event": "e", "resource_id": "r",
             "resource": {}, "related": [], "related_resource_ids": [], "payload": {}, "received": now, "recorded": now}
            for n in range(10)
        ])
    database.KEEP_EVENTS = 4
    print(await database.trim(keep=int(sys.argv[2])))
    async with db.session_context() as session:
        for table in (db.FlowRun, db.TaskRun, db.Log, db.Artifact, db.Event):
            print((await session.execute(sa.select(sa.func.count()).select_from(table))).scalar())
        print(*(await session.execute(sa.select(db.FlowRun.name))).scalars())

asyncio.run(main())
"""


@pytest.mark.slow
def test_old_runs_are_deleted_with_all_that_belongs_to_them_and_unfinished_ones_stay(tmp_path: Path) -> None:
    program = "import sys; from pipelines.orchestration import database as d, prefect_home as h; "
    program += "d.prepare_database(h.set_environment(sys.argv[1]))"
    subprocess.run([sys.executable, "-c", program, str(tmp_path)], check=True, capture_output=True)
    done = subprocess.run([sys.executable, "-c", TRIM, str(tmp_path), "5"], check=False, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    deleted, *counts, names = done.stdout.splitlines()
    assert deleted == "24"
    assert counts == ["6"] * 4 + ["4"]
    assert {int(name) for name in names.split()} == {20, 25, 26, 27, 28, 29}


@pytest.mark.slow
def test_parallel_processes_set_up_a_fresh_folder_once(tmp_path: Path) -> None:
    program = (
        "from pipelines.orchestration import database, prefect_home\n"
        f"database.prepare_database(prefect_home.set_environment({str(tmp_path)!r}))\n"
        "from pathlib import Path\n"
        f"print(Path({str(tmp_path / '.prefect' / 'database.version')!r}).stat().st_mtime_ns)\n"
    )
    racing = [
        subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        for _ in range(3)
    ]
    ended = [process.communicate(timeout=300) for process in racing]
    assert [process.returncode for process in racing] == [0, 0, 0], ended
    assert len({out for out, _ in ended}) == 1
