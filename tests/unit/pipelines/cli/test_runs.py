"""``jukebox runs``: listing, resuming and removing runs, and garbage collection. Runs are fake; nothing is sampled."""

from __future__ import annotations

import io
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from jukebox_core.base.hashing import digest
from jukebox_core.base.processes import own_name
from jukebox_core.store.pins import Pin, Pins
from jukebox_core.store.run_lock import RunLock
from jukebox_core.store.store import TokenStore
from pipelines.runs.folder import RunFolder, runs_in
from pipelines.runs.settings_of_run import resume_root
from pipelines.settings.compose import compose
from tests.helpers.fake_runs import fake_run
from tests.helpers.paths import ROOT
from tests.helpers.run_commands import SHORT, STORE, branch, keys, refused, seal_all, sealed_run, shown

if TYPE_CHECKING:
    from pipelines.settings.generate import Settings

DAY = 86_400


@pytest.fixture(autouse=True)
def _empty_folder(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.chdir(tmp_path)


def make_old(seconds: float = 2 * DAY) -> None:
    for path in Path("outputs").rglob("*"):
        if path.is_file():
            before = path.stat().st_mtime - seconds
            os.utime(path, (before, before))


def test_the_list_has_a_row_for_each_run(capsys: pytest.CaptureFixture[str]) -> None:
    assert shown(capsys, "list") == "outputs holds no runs\n"
    fake_run("first", *SHORT, "sampling.stop_level=2").update(created="2026-01-01T00:00:00+00:00")
    branch("first", "second", "seconds=8").update(created="2026-01-02T00:00:00+00:00")
    Path("outputs/broken").mkdir()
    Path("outputs/broken/manifest.json").write_text("{", "utf-8")
    Path("outputs/no run").mkdir()
    head, *rows = [line.split() for line in shown(capsys, "list").splitlines()]
    assert head == ["RUN", "MODEL", "STATUS", "SECONDS", "SAMPLES", "LEVELS", "CREATED", "FROM", "SOUND"]
    assert rows[0] == ["broken", "damaged"]
    assert [(*row[:6], row[-1]) for row in rows[1:]] == [
        ("first", "mini", "finished", "6", "2", "2", rows[1][-1]),
        ("second", "mini", "finished", "8", "2", "2", "first"),
    ]


def test_a_run_whose_process_is_gone_was_killed(capsys: pytest.CaptureFixture[str]) -> None:
    gone = subprocess.run(["true"], check=True)
    assert gone.returncode == 0
    fake_run("alive", status="running").update(process=own_name())
    host, pid, start = own_name().rsplit("/", 2)
    fake_run("dead", "seconds=7", status="running").update(process=f"{host}/{pid}/{int(start) + 1}")
    fake_run("elsewhere", "seconds=8", status="running").update(process=f"not-{host}/1/1")
    statuses = dict(line.split()[0:3:2] for line in shown(capsys, "list").splitlines()[1:])
    assert statuses == {"alive": "running", "dead": "killed", "elsewhere": "running"}


def test_a_run_of_another_machine_is_as_alive_as_its_lock(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in {"ENDPOINT_URL": "http://127.0.0.1:9", "ACCESS_KEY_ID": "x", "SECRET_ACCESS_KEY": "x"}.items():
        monkeypatch.setenv(f"AWS_{name}", value)
    run = fake_run("elsewhere", status="running")
    run.update(process="another-machine/1/1")
    manifest = run.manifest()

    def status() -> str:
        return shown(capsys, "list").splitlines()[1].split()[2]

    with RunLock(manifest["store"], manifest["lock"]):
        assert status() == "running"
    assert status() == "killed"
    run.update(store="s3://no-such-bucket-here/tokens")
    assert status() == "running", "a store that does not answer does not change the status"


def test_the_tree_shows_what_each_branch_keeps(capsys: pytest.CaptureFixture[str]) -> None:
    for second, (name, overrides) in enumerate(
        {
            "trunk": None,
            "longer": ("trunk", "seconds=8"),
            "spread": ("trunk", "seconds=8", "source.samples=[1]", "source.keep_seconds=3"),
            "twig": ("longer", "seconds=9", "source.keep_seconds=2", "source.splice=[{run: trunk, to_seconds: 1}]"),
            "other": None,
        }.items()
    ):
        run = branch(overrides[0], name, *overrides[1:]) if overrides else fake_run(name, *SHORT)
        run.update(created=f"2026-01-01T00:00:{second:02}+00:00")
    assert shown(capsys, "tree").splitlines() == [
        "trunk  finished  6 s  2 samples",
        "├─ longer  finished  8 s  2 samples  keeps 5.999 s",
        "│  └─ twig  finished  9 s  2 samples  keeps 2 s + trunk sample 0 0-1 s",
        "└─ spread  finished  8 s  2 samples  keeps 3 s, samples 1,1",
        "other  finished  6 s  2 samples",
    ]
    shutil.rmtree("outputs/trunk")
    assert "longer  finished  8 s  2 samples  keeps 5.999 s of trunk" in shown(capsys, "tree").splitlines()


def test_show_prints_settings_takes_and_files(capsys: pytest.CaptureFixture[str]) -> None:
    fake_run("first", *SHORT)
    run = branch("first", "second", "seconds=8", "song.genre=waltz", "sampling.seed=77")
    run.update(
        audio=[{"path": "audio/level_0/sample_0.wav"}],
        timings=[{"stage": "sample", "level": 2, "tokens": 600, "windows": 1, "reused": 3, "seconds": 2.5}],
    )
    lines = [" ".join(line.split()) for line in shown(capsys, "show", "second").splitlines()]
    for line in (
        "continue: keeps 5.999 s of first",
        "sampling.seed 77",
        "song.genre waltz",
        "0 2 8.00 2756 2067 4",
        "1 0 8.00 44096 33072 4",
        "outputs/second/audio/level_0/sample_0.wav",
        "sample 2 2.5 600 1 3",
    ):
        assert line in lines


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (
            ["show", "seconb"],
            "jukebox: 'seconb' is not a run: there is no config.yaml in it; give a run's folder or its",
        ),
        (["show", "firrt"], "closest: 'first'"),
        (["resume", "firrt"], "closest: 'first'"),
        (["rm", "firrt"], "closest: 'first'"),
        (
            ["lst"],
            "jukebox: there is no command 'runs lst'; choose one of list, show, tree, resume, rename, rm, gc; closest:",
        ),
        (["show"], "jukebox: runs show needs RUN; write: jukebox runs show [OPTIONS] RUN\n"),
        (["list", "--al"], "jukebox: runs list has no option --al; choose one of --root, --help"),
        (["gc", "--older-than", "x"], "jukebox: runs gc: --older-than is 'x', which is not a number\n"),
        (["list", "first"], "jukebox: runs list takes no argument 'first'; write: jukebox runs list [OPTIONS]\n"),
        (["show", "--root"], "jukebox: runs: --root needs a value; `jukebox runs --help` shows how it is used\n"),
        (["gc", "--older-than", "-1"], "jukebox: --older-than is -1.0; give hours, 0 or more"),
        (["gc", "--store", "s4://bucket"], "jukebox: s4://bucket cannot be a store"),
        (["rm", "first"], "stdin is not a terminal, so this cannot be asked; add --yes"),
    ],
)
def test_mistakes_are_one_line(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, arguments: list[str], message: str
) -> None:
    fake_run("first", *SHORT)
    monkeypatch.setattr(sys, "stdin", io.StringIO())
    assert message in refused(capsys, *arguments)
    assert [run.name for run in runs_in("outputs")] == ["first"]


def test_resume_starts_with_the_settings_of_the_run() -> None:
    fake_run("first", *SHORT, "sampling.seed=5")
    settings: Settings = compose(resume_root("first", "outputs", []), ["hardware.batch_size=1"])
    assert (settings.run.name, settings.sampling.seed, settings.hardware.batch_size) == ("first", 5, 1)
    assert Path(settings.storage.root) == Path("outputs").absolute()
    assert settings.storage.tokens == STORE


def test_rm_leaves_the_tokens_and_the_branches(capsys: pytest.CaptureFixture[str]) -> None:
    first = sealed_run("first", *SHORT)
    second = branch("first", "second", "seconds=8")
    seal_all(second)
    before = TokenStore(STORE).keys()
    assert "removed outputs/first" in shown(capsys, "rm", "first", "--yes")
    assert [run.name for run in runs_in("outputs")] == ["second"]
    assert TokenStore(STORE).keys() == before
    make_old()
    shown(capsys, "gc", "--yes")
    assert set(TokenStore(STORE).keys()) == keys(second)
    assert not [path for path in Path("outputs").iterdir() if "removed" in path.name]
    assert not first.path.exists()


def test_a_run_that_a_process_works_on_is_not_removed(capsys: pytest.CaptureFixture[str]) -> None:
    run = fake_run("first", *SHORT)
    with RunLock(run.manifest()["store"], run.manifest()["lock"]):
        assert "is worked on by" in refused(capsys, "rm", "first", "--yes")
    shown(capsys, "rm", "first", "--yes")
    assert not run.path.exists()


@pytest.mark.parametrize(("answer", "gone"), [("y\n", True), ("n\n", False), ("\n", False)])
def test_rm_asks(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, answer: str, gone: bool) -> None:
    run = fake_run("first", *SHORT)
    terminal = io.StringIO(answer)
    monkeypatch.setattr(terminal, "isatty", lambda: True)
    monkeypatch.setattr(sys, "stdin", terminal)
    assert "remove run first: 2 files" in shown(capsys, "rm", "first")
    assert run.path.exists() is not gone


def test_gc_removes_what_no_run_names_and_nothing_else(capsys: pytest.CaptureFixture[str]) -> None:
    run = sealed_run("first", *SHORT)
    store, stray, half = TokenStore(STORE), digest("stray"), digest("half")
    store.seal(stray, [1, 2, 3], first=0, causes={})
    store.write_partial(half, [1], first=0, causes={})
    wanted = next(iter(keys(run)))
    store.remove(wanted)
    store.write_partial(wanted, [1], first=0, causes={})  # of a run that is not finished
    assert "newer than 24 hours" in shown(capsys, "gc", "--yes")
    assert store.sealed(stray)
    make_old()
    planned = shown(capsys, "gc", "--dry-run")
    assert "1 windows that no run names" in planned
    assert "1 unfinished windows that no run names" in planned
    assert store.sealed(stray)
    assert "removed 2 windows" in shown(capsys, "gc", "--yes")
    assert set(store.keys()) == keys(run) - {wanted}
    assert store.partials() == [wanted]
    assert "nothing to remove" in shown(capsys, "gc", "--yes")


def test_gc_collects_snapshots_and_what_was_set_aside(capsys: pytest.CaptureFixture[str]) -> None:
    run = sealed_run("first", *SHORT)
    scratch, damaged = Path("outputs/.scratch"), Path(STORE, "damaged/x.safetensors.12345678")
    scratch.mkdir()
    damaged.parent.mkdir()
    damaged.write_bytes(b"?")
    for name, key in (("named", next(iter(keys(run)))), ("stray", digest("stray"))):
        (scratch / f"{name}.safetensors").write_bytes(b"cache")
        (scratch / f"{name}.json").write_text(f'{{"windows": ["{key}"]}}', "utf-8")
    (scratch / "killed.draft").write_bytes(b"half")
    shown(capsys, "gc", "--yes")
    assert len(list(scratch.iterdir())) == 5
    make_old()
    shown(capsys, "gc", "--yes")
    assert sorted(path.name for path in scratch.iterdir()) == ["named.json", "named.safetensors"]
    assert not damaged.exists()


def test_windows_that_runs_of_other_places_name_stay(capsys: pytest.CaptureFixture[str]) -> None:
    store, key = TokenStore(STORE), digest("elsewhere")
    store.seal(key, [1], first=0, causes={})
    pin = Pin("theirs", "another-machine:/outputs/theirs", frozenset({key}))
    Pins(STORE).put(pin)
    make_old()
    shown(capsys, "gc", "--yes")
    assert store.sealed(key)
    Pins(STORE).drop([pin])
    shown(capsys, "gc", "--yes")
    assert not store.sealed(key)


def test_a_folder_that_was_deleted_by_hand_is_released_by_name(capsys: pytest.CaptureFixture[str]) -> None:
    sealed_run("first", *SHORT)
    shutil.rmtree("outputs/first")
    make_old()
    assert "18 windows are kept for run first, whose folder is gone: jukebox runs rm first" in shown(
        capsys, "gc", "--yes"
    )
    assert len(TokenStore(STORE).keys()) == 18
    assert "run first is forgotten" in shown(capsys, "rm", "first", "--yes")
    assert "removed 18 windows" in shown(capsys, "gc", "--yes")


def test_nothing_is_removed_where_it_is_not_known_what_runs_need(capsys: pytest.CaptureFixture[str]) -> None:
    sealed_run("first", *SHORT)
    TokenStore(STORE).seal(digest("stray"), [1], first=0, causes={})
    Pins(STORE).put(theirs := Pin("theirs", "another-machine:/outputs/theirs", frozenset({digest("elsewhere")})))
    make_old()
    pin = Path(STORE, theirs.name)
    content = pin.read_bytes()
    for damage in (b"?", b"{}", b'{"schema": 2}'):
        pin.write_bytes(damage)
        assert "no window is removed: runs/" in shown(capsys, "gc", "--yes")
    pin.write_bytes(content)
    Path("outputs/first/manifest.json").write_text("{", "utf-8")
    Path(STORE, Pin("first", RunFolder(Path("outputs/first")).place, frozenset()).name).unlink()
    assert "no window is removed: run first is damaged" in shown(capsys, "gc", "--yes")
    assert len(TokenStore(STORE).keys()) == 19


def test_a_damaged_run_keeps_its_windows_and_lets_others_be_removed(capsys: pytest.CaptureFixture[str]) -> None:
    first, second = sealed_run("first", *SHORT), sealed_run("second", *SHORT, "sampling.seed=2")
    named = keys(first) | keys(second)
    TokenStore(STORE).seal(digest("stray"), [1], first=0, causes={})
    make_old()
    first.manifest_path.write_text("[]", "utf-8")
    Path(STORE, Pin("second", second.place, frozenset()).name).write_bytes(b"?")
    assert "removed 1 windows" in shown(capsys, "gc", "--yes")
    assert set(TokenStore(STORE).keys()) == named


def test_a_run_that_names_a_window_meanwhile_keeps_it(monkeypatch: pytest.MonkeyPatch) -> None:
    from pipelines.runs import garbage

    store, key = TokenStore(STORE), digest("old")
    store.seal(key, [1], first=0, causes={})
    make_old()
    found = garbage.find_garbage("outputs", STORE, 24.0)
    assert set(found.windows) == {key}
    Pins(STORE).put(Pin("new", "here:/x", frozenset({key})))
    assert garbage.remove(found, "outputs") == (0, 0)
    assert store.sealed(key)


@pytest.mark.parametrize(
    ("arguments", "heavy"),
    [
        (["list"], "torch prefect pydantic numpy hydra"),
        (["tree"], "torch prefect pydantic numpy hydra"),
        (["show", "first"], "torch prefect pydantic numpy hydra"),
        (["gc", "--yes", "--older-than", "0"], "torch prefect pydantic hydra"),
        (["rm", "first", "--yes"], "torch prefect pydantic hydra"),
    ],
)
def test_nothing_heavy_is_imported(arguments: list[str], heavy: str) -> None:
    sealed_run("first", *SHORT)
    program = (
        "import sys\nfrom pipelines.cli.main import main\n"
        f"status = main(['runs', *{arguments!r}])\n"
        f"found = sorted(set({heavy!r}.split()) & set(sys.modules))\n"
        "sys.exit(f'imported {found}' if found else status)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", program],
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
