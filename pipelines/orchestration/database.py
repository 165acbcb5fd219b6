"""Prefect's own SQLite database: set up once, set aside if it is damaged, and kept small.

It records runs for Prefect's pages and nothing else: songs and tokens do not depend on it.
"""

from __future__ import annotations

import asyncio
import logging
import os
import re
import sqlite3
import subprocess
import sys
from contextlib import closing, suppress
from importlib.metadata import version
from typing import TYPE_CHECKING, Any, Literal
from uuid import UUID

from jukebox_core.base.locks import locked
from jukebox_core.errors import RunError

if TYPE_CHECKING:
    from datetime import datetime
    from pathlib import Path

    from starlette.types import ASGIApp, Message, Receive, Scope, Send

log = logging.getLogger("jukebox")

KEEP_RUNS = 200  # finished flow runs that the database keeps
KEEP_DAYS = 90
KEEP_EVENTS = 2000  # of all runs: five sixths of what a run adds, and its pages are made of other tables
_BATCH = 20  # runs that are deleted in one transaction
_TRIM_SECONDS = 600.0  # between two passes
_FIRST_SECONDS = 2.0  # until the first: the command that started the server comes before
_SHRINK_BYTES = 20_000_000  # a file below is not rewritten to make it smaller
_NAME = "prefect.db"
_STAMP = "database.version"  # the version of Prefect that the database was set up by
DATABASE_FILES = (f"{_NAME}-wal", f"{_NAME}-shm", _STAMP)  # besides the database


def prepare_database(home: Path) -> None:
    """Sets up Prefect's database, once for each version of Prefect; idempotent, and safe in parallel processes.

    A damaged database is renamed, with a warning, and a new one is made. A database of the user's own is not touched.

    Raises:
        RunError: it cannot be set up.
        OSError: the folder cannot be written.
    """
    if _has_own_database():
        return
    if _state(home) == "ready":
        return
    with locked(home / "database.lock"):
        state = _state(home)
        if state == "ready":
            return
        if state == "damaged":
            set_aside(home)
        failure = _upgrade()
        if failure is not None and (home / _NAME).exists():
            aside = set_aside(home)
            failure = _upgrade()
            if failure is not None:  # the database was not the reason
                _remove(home)
                aside.rename(home / _NAME)
        if failure is not None:
            raise RunError(
                f"Prefect's database in {home} cannot be set up ({failure}); free the disk, or choose "
                "another storage.root"
            )
        (home / _STAMP).write_text(version("prefect"), "ascii")


def set_damaged_aside(home: Path) -> None:
    """Renames a damaged database, with a warning; the next server makes a new one.

    Raises:
        OSError: it cannot be renamed.
    """
    if _has_own_database() or _state(home) != "damaged":
        return
    with locked(home / "database.lock"):
        if _state(home) == "damaged":
            set_aside(home)


def set_aside(home: Path) -> Path:
    """Renames a damaged database to the first free name ``prefect.db.damaged-<n>``; returns that path.

    Raises:
        OSError: it cannot be renamed.
    """
    number = next(n for n in range(1, 10_000) if not (home / f"{_NAME}.damaged-{n}").exists())
    aside = home / f"{_NAME}.damaged-{number}"
    (home / _NAME).rename(aside)
    _remove(home)
    log.warning(
        "Prefect's database was damaged: it is kept as %s, and a new one is made; songs and tokens are not affected",
        aside,
    )
    return aside


def _has_own_database() -> bool:
    """Whether the user has named a database."""
    return any(os.environ.get(f"PREFECT_{name}_DATABASE_CONNECTION_URL") for name in ("API", "SERVER"))


def _state(home: Path) -> Literal["ready", "missing", "damaged"]:
    """Returns whether the database is whole, is not set up by this version of Prefect, or is damaged."""
    path = home / _NAME
    if not path.exists():
        return "missing"
    if not path.is_file():
        return "damaged"
    try:
        with closing(sqlite3.connect(path, timeout=1, isolation_level=None)) as database:
            if database.execute("PRAGMA quick_check(1)").fetchone() != ("ok",):
                return "damaged"
            database.execute("SELECT version_num FROM alembic_version").fetchone()
            _shrink(database, path.stat().st_size)
    except sqlite3.DatabaseError as error:
        if error.sqlite_errorcode == sqlite3.SQLITE_ERROR:  # empty: it has no table yet
            return "missing"
        if error.sqlite_errorcode not in (sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED):  # those are in use, so whole
            return "damaged"
    return "ready" if _text(home / _STAMP) == version("prefect") else "missing"


def _shrink(database: sqlite3.Connection, size: int) -> None:
    """Rewrites a database of which more than half is free, unless another process uses it."""
    [free], [pages] = (database.execute(f"PRAGMA {name}").fetchone() for name in ("freelist_count", "page_count"))
    if size > _SHRINK_BYTES and free > pages / 2:
        with suppress(sqlite3.OperationalError):
            database.execute("VACUUM")


def _upgrade() -> str | None:
    """Lets Prefect create or migrate its tables; returns the reason if that fails."""
    command = [sys.executable, "-m", "prefect", "server", "database", "upgrade", "-y"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)  # noqa: S603 - ours
    if not done.returncode:
        return None
    lines = (done.stderr.strip() or done.stdout.strip() or "no message").splitlines()
    return next((line for line in reversed(lines) if re.match(r"[\w.]+(Error|Exception)\b", line)), lines[-1])


def _remove(home: Path) -> None:
    for ending in ("", "-wal", "-shm"):
        (home / f"{_NAME}{ending}").unlink(missing_ok=True)


def _text(path: Path) -> str | None:
    try:
        return path.read_text("ascii")
    except (OSError, ValueError):
        return None


def trimming(app: ASGIApp) -> ASGIApp:
    """Returns Prefect's application `app`, which also deletes old runs while it is served."""

    async def trimmed(scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "lifespan":
            await app(scope, receive, send)
            return
        tasks: list[asyncio.Task[None]] = []

        async def started(message: Message) -> None:
            if message["type"] == "lifespan.startup.complete":
                tasks.append(asyncio.create_task(_trim_for_ever()))
            await send(message)

        try:
            await app(scope, receive, started)
        finally:
            for task in tasks:
                task.cancel()

    return trimmed


async def _trim_for_ever() -> None:
    await asyncio.sleep(_FIRST_SECONDS)
    while True:
        try:
            await trim()
        except Exception:
            logging.getLogger("prefect.server").exception("old runs could not be deleted")
        await asyncio.sleep(_TRIM_SECONDS)


async def trim(keep: int = KEEP_RUNS, days: float = KEEP_DAYS) -> int:
    """Deletes the oldest finished flow runs, with all that belongs to them, from the database of this process's server.

    Events are deleted by number alone.

    Args:
        keep: the number of finished runs that stay.
        days: the age beyond which a finished run is deleted in any case.

    Returns:
        the number of runs that were deleted.
    """
    from prefect.server.database import provide_database_interface
    from prefect.server.services.db_vacuum import vacuum_stale_artifact_collections

    db, deleted = provide_database_interface(), 0
    while (number := await _trim_batch(db, keep, days)) > 0:
        deleted += number
    if deleted:
        await vacuum_stale_artifact_collections(db=db)
    await _trim_events(db)
    return deleted


async def _trim_events(db: Any) -> None:
    import sqlalchemy as sa

    async with db.session_context(begin_transaction=True) as session:
        newest = sa.select(db.Event.occurred).order_by(db.Event.occurred.desc())
        last = (await session.execute(newest.offset(KEEP_EVENTS).limit(1))).scalar()
        if last is not None:
            for table in (db.EventResource, db.Event):
                await session.execute(sa.delete(table).where(table.occurred <= last))


async def _trim_batch(db: Any, keep: int, days: float) -> int:
    from datetime import UTC, datetime, timedelta

    import sqlalchemy as sa
    from prefect.server.schemas.states import TERMINAL_STATES

    ended = sa.and_(db.FlowRun.state_type.in_(TERMINAL_STATES), db.FlowRun.end_time.is_not(None))
    async with db.session_context(begin_transaction=True) as session:
        newest = sa.select(db.FlowRun.id).where(ended).order_by(db.FlowRun.end_time.desc()).limit(keep)
        surplus = sa.or_(db.FlowRun.id.not_in(newest), db.FlowRun.end_time < datetime.now(UTC) - timedelta(days=days))
        oldest = sa.select(db.FlowRun.id, db.FlowRun.end_time).where(ended, surplus)
        runs = (await session.execute(oldest.order_by(db.FlowRun.end_time).limit(_BATCH))).all()
        if not runs:
            return 0
        names = [run.id for run in runs]
        for table in (db.Log, db.Artifact):
            await session.execute(sa.delete(table).where(table.flow_run_id.in_(names)))
        await session.execute(sa.delete(db.FlowRun).where(db.FlowRun.id.in_(names)))
    await asyncio.sleep(0.05)  # other writers come between two batches
    return len(runs)


def correct_times(run: str, start: datetime, end: datetime | None) -> None:
    """Sets when a flow run, and its states, began and ended: it was recorded later than it happened.

    Args:
        run: its identifier.
        start: when it began.
        end: when it ended; None: it has not.
    """
    asyncio.run(_correct_times(UUID(run), start, end))


async def _correct_times(run: UUID, start: datetime, end: datetime | None) -> None:
    from datetime import timedelta

    import sqlalchemy as sa
    from prefect.server.database import provide_database_interface
    from prefect.server.schemas.states import TERMINAL_STATES, StateType
    from sqlalchemy.orm import aliased

    db = provide_database_interface()
    values: dict[str, Any] = {"start_time": start, "expected_start_time": start}
    if end is not None:
        values |= {"end_time": end, "total_run_time": end - start}
    async with db.session_context(begin_transaction=True) as session:
        await session.execute(sa.update(db.FlowRun).where(db.FlowRun.id == run).values(values))
        state = db.FlowRunState
        before = start - timedelta(microseconds=1)  # no two states of a run share their time
        for kinds, at in (([StateType.PENDING], before), ([StateType.RUNNING], start), (list(TERMINAL_STATES), end)):
            if at is not None:
                of_kind = sa.and_(state.flow_run_id == run, state.type.in_(kinds))
                # One of them, since no two may share a time: a state that was set twice is there twice.
                first = sa.select(state.id).where(of_kind).order_by(state.timestamp).limit(1).scalar_subquery()
                other = aliased(state)
                taken = sa.select(other.id).where(other.flow_run_id == run, other.timestamp == at).exists()
                await session.execute(sa.update(state).where(state.id == first, ~taken).values(timestamp=at))
