"""Pins of runs, on local disk, in memory and on S3; and garbage collection."""

from __future__ import annotations

import threading
import time
import uuid
from types import SimpleNamespace
from typing import TYPE_CHECKING

import pytest

from jukebox_core.base.hashing import digest
from jukebox_core.errors import RunError, StoreError
from jukebox_core.store.objects import open_objects
from jukebox_core.store.pins import Pin, Pins
from jukebox_core.store.run_lock import RunLock
from jukebox_core.store.store import TokenStore
from pipelines import commands as work
from pipelines.execution import preflight
from pipelines.runs.folder import RunFolder, lock_name
from pipelines.runs.garbage import find_garbage, remove
from pipelines.settings.compose import GENERATE, compose
from tests.helpers.fake_runs import fake_run, seal

if TYPE_CHECKING:
    from pathlib import Path

KEYS = [digest(number) for number in range(4)]


@pytest.fixture(params=["local", "memory", "s3"])
def store(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """The address of an empty store; the working directory is an empty folder."""
    monkeypatch.chdir(tmp_path)
    if request.param == "s3":
        request.getfixturevalue("s3_configured")
        return f"s3://store/{uuid.uuid4().hex}"
    return f"memory://{uuid.uuid4().hex}" if request.param == "memory" else str(tmp_path / "store")


def test_pins_are_kept_replaced_and_dropped(store: str) -> None:
    pins = Pins(store)
    assert pins.all() == []
    mine, theirs = Pin("run", "here:/a/run", frozenset(KEYS[:2])), Pin("run", "there:/a/run", frozenset(KEYS[1:]))
    pins.put(theirs)
    pins.put(mine)
    assert pins.all() == [mine, theirs]
    grown = Pin("run", "here:/a/run", frozenset(KEYS))
    pins.put(grown)
    assert pins.all() == [grown, theirs]
    pins.drop([Pin("run", "here:/a/run", frozenset())])
    assert pins.all() == [theirs]


def test_a_pin_of_a_newer_version_or_without_sense_is_an_error(store: str) -> None:
    pin = Pin("run", "here:/a/run", frozenset(KEYS))
    for data, message in ((b'{"schema": 9}', "newer than the 1 known here"), (b"\xff", "does not say which windows")):
        open_objects(store).replace(pin.name, data)
        with pytest.raises(StoreError, match=message):
            Pins(store).all()


def test_one_listing_gives_the_age_of_all_objects(store: str) -> None:
    objects = open_objects(store)
    assert objects.ages("windows") == {}
    objects.replace("windows/a", b"1")
    time.sleep(1.1)  # S3 counts whole seconds
    objects.replace("windows/b/c", b"2")
    objects.replace("other", b"3")
    ages = objects.ages("windows")
    assert set(ages) == {"windows/a", "windows/b/c"}
    assert 60 > ages["windows/a"] > ages["windows/b/c"] >= 0


def test_garbage_is_removed_and_pinned_windows_stay(store: str) -> None:
    run = fake_run("first", "seconds=6", f"storage.tokens={store}")
    named = [span for take in run.takes() for track in take for span in track]
    seal(store, named)
    windows = TokenStore(store)
    for key in KEYS[:3]:
        windows.seal(key, [1, 2], first=0, causes={})
    windows.write_partial(KEYS[3], [1], first=0, causes={})
    assert find_garbage("outputs", store, 1.0).bytes == 0
    found = find_garbage("outputs", store, -1.0)  # S3 counts whole seconds
    assert (set(found.windows), set(found.partials)) == (set(KEYS[:3]), {KEYS[3]})
    assert remove(found, "outputs") == (4, found.bytes)
    assert set(windows.keys()) == {span.key for span in named}
    assert windows.partials() == []


@pytest.fixture
def hasty(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> list[str]:
    """The settings of the runs that were made; runs are not checked and take no time."""
    made: list[str] = []

    def make(settings: object, how: object) -> RunFolder:
        made.append("made")
        return RunFolder(tmp_path / "made")

    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(preflight, "prepare", lambda known, **_: SimpleNamespace(settings=known))
    monkeypatch.setattr(preflight, "check_machine", lambda known: known)
    monkeypatch.setattr(preflight, "finished", lambda _: RunFolder(tmp_path / "theirs") if made else None)
    monkeypatch.setattr(work, "_make", make)
    return made


def test_a_second_process_on_a_run_is_refused(hasty: list[str]) -> None:
    settings = compose(GENERATE, [])
    with (
        RunLock(settings.storage.tokens, lock_name(settings)),
        pytest.raises(RunError, match=r"run mini-\w+ is worked on by"),
    ):
        work.make(settings)
    assert hasty == []
    assert work.make(settings).name == "made"
    named = compose(GENERATE, ["run.name=mine"])
    with RunLock(named.storage.tokens, lock_name(compose(GENERATE, ["run.name=mine", "sampling.seed=2"]))):
        work.make(named)  # another run of that name, elsewhere


def test_or_it_waits_and_finds_the_run_finished(hasty: list[str]) -> None:
    settings = compose(GENERATE, ["run.wait=true"])
    lock = RunLock(settings.storage.tokens, lock_name(settings))
    lock.acquire()

    def end() -> None:
        time.sleep(0.5)
        hasty.append("made by the first")
        lock.release()

    first = threading.Thread(target=end)
    first.start()
    try:
        assert work.make(settings).name == "theirs"
    finally:
        first.join()
    assert hasty == ["made by the first"]
