"""Any file of a finished or an interrupted run damaged in any way: the same command mends it, with the same tokens."""

from __future__ import annotations

import contextlib
import shutil
import signal
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from jukebox_core.errors import JukeboxError
from pipelines import exit_status
from pipelines.cli import main as cli
from pipelines.execution import outputs, preflight
from pipelines.runs.folder import RunFolder
from pipelines.runs.settings_of_run import resume_root
from pipelines.settings.compose import GENERATE, compose
from stages import resident
from stages.stopping import StoppedError
from tests.helpers.damage import KINDS, content, damage, restore
from tests.helpers.models.own_model import write_own_model
from tests.helpers.patience import patience
from tests.helpers.plain_flows import make_plainly

if TYPE_CHECKING:
    from collections.abc import Iterator

pytestmark = [pytest.mark.slow, pytest.mark.timeout(300)]

SECONDS = 10  # that one command may take on an idle machine
SAME = (
    "model=model/own.yaml", "seconds=0.1", "sampling=top_only", "hardware.device=cpu", "hardware.threads=1",
    "weights.folder=library", "runner.preview_seconds=null",
)  # fmt: skip
NAMES = ("finished", "interrupted", "other")


@pytest.fixture(scope="module")
def work(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A folder with three runs, one of them interrupted; there is a copy of it beside it."""
    folder = tmp_path_factory.mktemp("runs") / "work"
    write_own_model(folder / "model", scale=3.0)
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        for seed, name in enumerate(NAMES):
            with pytest.MonkeyPatch.context() as stop:
                if name == "interrupted":
                    stop.setattr(outputs.RunOutputs, "draw", stopped)
                try:
                    make_plainly(compose(GENERATE, [*SAME, f"run.name={name}", f"sampling.seed={seed}"]))
                except StoppedError:
                    assert name == "interrupted"
        shutil.copytree(folder, folder.with_name("copy"))
        yield folder
    resident.release()


def stopped(*_: object) -> None:
    raise StoppedError("stopped")


def hung(*_: object) -> None:
    raise AssertionError("it takes too long")


def files_of(run: Path) -> list[Path]:
    return sorted(path for path in run.rglob("*") if path.is_file())


def tokens(run: Path) -> bytes:
    return (run / "codes/sample_0.npz").read_bytes()


@settings(
    max_examples=12,
    deadline=None,
    phases=[Phase.explicit, Phase.generate],
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
@given(name=st.sampled_from(NAMES[:2]), file=st.integers(0, 99), kind=st.sampled_from(KINDS), at=st.integers(0, 9999))
def test_any_damage_to_a_run_folder_is_mended(
    work: Path, monkeypatch: pytest.MonkeyPatch, name: str, file: int, kind: str, at: int
) -> None:
    check_mended(work, monkeypatch, name, file, kind, at)


@pytest.mark.endurance
@pytest.mark.timeout(1800)
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("name", NAMES[:2])
def test_every_file_damaged_in_every_way_is_mended(
    work: Path, monkeypatch: pytest.MonkeyPatch, name: str, kind: str
) -> None:
    for file in range(len(files_of(work.with_name("copy") / "outputs" / name))):
        check_mended(work, monkeypatch, name, file, kind, 100 * file + 7)


def check_mended(work: Path, monkeypatch: pytest.MonkeyPatch, name: str, file: int, kind: str, at: int) -> None:
    """Damages one file of a run in a folder that is as `work` was, and lets every command find it."""
    monkeypatch.chdir(work.parent)
    restore(work, work.with_name("copy"))
    monkeypatch.chdir(work)
    run, other = Path("outputs") / name, Path("outputs/other")
    audio, before = tokens(run), content(other)
    paths = files_of(run)
    damage(paths[file % len(paths)], kind, at)
    left = {path.rpartition("/")[2] for path in content(run)}

    signal.signal(signal.SIGALRM, hung)
    for command in (["list"], ["tree"], ["show", name], ["gc", "--yes", "--older-than", "0"]):
        signal.alarm(patience(SECONDS))
        assert cli.main(["runs", *command]) in (0, exit_status.REFUSED)
    signal.alarm(patience(SECONDS))
    with contextlib.suppress(JukeboxError):
        preflight.prepare(compose(resume_root(name, "outputs", [])), resume=True)
    signal.alarm(patience(3 * SECONDS))
    given_again = compose(GENERATE, [*SAME, f"run.name={name}", f"sampling.seed={NAMES.index(name)}"])
    assert make_plainly(given_again).name == name
    signal.alarm(0)
    assert RunFolder(run).manifest()["status"] == "finished"
    assert tokens(run) == audio
    assert preflight.finished(preflight.prepare(given_again)) is not None
    assert content(other) == before
    assert left <= {path.rpartition("/")[2] for path in content(run)}, "nothing that was left is lost"
    assert cli.main(["runs", "rm", name, "--yes"]) == 0
    assert content(other) == before
