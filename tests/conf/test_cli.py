"""The command line: help, errors, exit statuses, overrides and completion."""

from __future__ import annotations

import os
import subprocess
import sys
from importlib.metadata import version
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any

import pytest

from jukebox_core import errors
from jukebox_core.errors import (
    AudioError,
    CheckpointError,
    ConfigError,
    DamagedError,
    DamagedRunError,
    DeviceError,
    DiskError,
    DownloadError,
    JukeboxError,
    LabelError,
    NewerRecordError,
    NotesError,
    NumericsError,
    RecordError,
    RunError,
    StoreError,
    TrainingError,
    UnreachableError,
)
from pipelines import exit_status as status
from pipelines.cli import main as cli
from pipelines.settings.codec import EncodeSettings
from pipelines.settings.compose import GENERATE, compose, dump
from stages.stopping import StoppedError
from tests.helpers.paths import ROOT

if TYPE_CHECKING:
    from pipelines.settings.generate import Settings


@pytest.fixture
def jobs(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> list[Any]:
    """The settings of the jobs that commands hand over; the working directory is an empty folder."""
    found: list[Any] = []
    work = ModuleType("pipelines.commands")
    for name in {command.work.partition(":")[2] for command in cli.COMMANDS.values()}:
        setattr(work, name, found.append)
    monkeypatch.setitem(sys.modules, "pipelines.commands", work)
    monkeypatch.chdir(tmp_path)
    return found


def store_run(folder: Path, *overrides: str) -> Settings:
    settings = compose(GENERATE, overrides)
    folder.mkdir(parents=True)
    (folder / "config.yaml").write_text(dump(settings), encoding="utf-8")
    return settings


def test_help_names_every_command(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["--help"]) == 0
    shown = capsys.readouterr().out
    assert all(command.usage in shown for command in cli.COMMANDS.values())
    assert cli.main([]) == 0
    assert capsys.readouterr().out == shown


@pytest.mark.parametrize("arguments", [["--version"], ["generate", "--version"], ["runs", "--version"]], ids=" ".join)
def test_the_version_is_this_programs(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(arguments) == 0
    assert capsys.readouterr().out == f"{version('jukebox-pipelines')}\n"


def test_an_unknown_command_is_refused_with_near_misses(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["genrate"]) == status.REFUSED
    assert capsys.readouterr().err.endswith("; closest: 'generate'\n")


def test_generate_hands_over_checked_settings(jobs: list[Any]) -> None:
    assert cli.main(["generate", "sampling.seed=3", "experiment=demo"]) == 0
    assert jobs == [compose(GENERATE, ["sampling.seed=3", "experiment=demo"])]
    assert jobs[0].prompt.files == ("builtin:tune",)


def test_hydras_own_way_makes_the_same_settings(jobs: list[Any]) -> None:
    given = ["generate", "sampling.seed=3", "experiment=demo"]
    assert cli.main(given) == cli.main([*given, "hydra.job.name=other"]) == 0
    assert jobs[0] == jobs[1]


def test_encode_hands_over_settings_of_its_own(jobs: list[Any]) -> None:
    assert cli.main(["encode", "audio=[a.wav,b.wav]", "levels=[2]"]) == 0
    assert isinstance(jobs[0], EncodeSettings)
    assert (jobs[0].audio, jobs[0].levels) == (("a.wav", "b.wav"), (2,))


@pytest.mark.parametrize("sweep", ["-m", "--multirun", "hydra.mode=MULTIRUN"])
def test_a_sweep_runs_every_job_in_order(jobs: list[Any], sweep: str) -> None:
    assert cli.main(["generate", "sampling.seed=1,2", sweep, "seconds=7"]) == 0
    assert [(job.sampling.seed, job.seconds) for job in jobs] == [(1, 7.0), (2, 7.0)]


@pytest.mark.parametrize("arguments", [["sampling.seed=2"], ["-m", "sampling.seed=1,2"], ["--cfg", "job"]])
def test_composing_leaves_nothing_in_the_working_directory(
    jobs: list[Any], arguments: list[str], tmp_path: Path
) -> None:
    assert cli.main(["generate", *arguments]) == 0
    assert list(tmp_path.iterdir()) == []
    assert Path.cwd() == tmp_path


def test_a_mistake_is_one_line_and_hands_nothing_over(jobs: list[Any], capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["generate", "sampling.sed=1"]) == status.REFUSED
    shown = capsys.readouterr()
    assert (shown.out, shown.err) == ("", "jukebox: sampling.sed is not a setting; closest: 'seed'\n")
    assert jobs == []


def test_flags_that_exclude_each_other_are_refused(jobs: list[Any], capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["generate", "--multirun", "--cfg", "job"]) == status.REFUSED
    assert "can be specified" in capsys.readouterr().err


def test_cfg_shows_settings_and_hands_nothing_over(jobs: list[Any], capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["generate", "seconds=7", "--cfg", "job"]) == 0
    assert "seconds: 7" in capsys.readouterr().out
    assert jobs == []


@pytest.mark.parametrize(
    "arguments", [["runs"], ["models"], ["serve"], ["runs", "gc"], ["models", "fetch"], ["models", "import"]]
)
@pytest.mark.parametrize("flag", ["--help", "-h"])
def test_apps_have_help_in_one_style(capsys: pytest.CaptureFixture[str], arguments: list[str], flag: str) -> None:
    assert cli.main([*arguments, flag]) == 0
    shown = capsys.readouterr().out
    assert shown.startswith(f"Usage: jukebox {' '.join(arguments)} ")
    assert "Options:" in shown
    assert "..." not in shown.partition("Commands:")[2], "a summary is cut short"
    if len(arguments) == 1:
        assert cli.main([*arguments, "help"]) == 0
        assert capsys.readouterr().out == shown


def test_the_process_is_left_as_it_was(jobs: list[Any]) -> None:
    argv, environment, folder = list(sys.argv), dict(os.environ), Path.cwd()
    cli.main(["generate", "sampling.seed=1"])
    cli.main(["generate", "sampling.sed=1"])
    assert (sys.argv, dict(os.environ), Path.cwd()) == (argv, environment, folder)


def test_continue_starts_from_the_runs_settings(jobs: list[Any]) -> None:
    made = store_run(Path("outputs/first"), "sampling.seed=5", "experiment=demo", "run.name=first")
    assert cli.main(["continue", "first", "seconds=12", "song.genre=waltz"]) == 0
    [job] = jobs
    assert (job.sampling, job.model, job.hardware) == (made.sampling, made.model, made.hardware)
    assert (job.seconds, job.song.genre, job.song.artist) == (12.0, "waltz", made.song.artist)
    assert (job.source.command, job.source.run, job.source.keep_seconds) == (
        "continue",
        str(Path("outputs/first").resolve()),
        None,
    )
    assert (job.run.name, job.prompt.files) == (None, ())  # a run of its own, which begins with the other's tokens


def test_continue_can_choose_a_group_and_cut_the_run(jobs: list[Any], tmp_path: Path) -> None:
    store_run(tmp_path / "elsewhere", "sampling.seed=5")
    assert cli.main(["continue", str(tmp_path / "elsewhere"), "source.keep_seconds=2", "song=lantern"]) == 0
    assert (jobs[0].song.artist, jobs[0].source.keep_seconds, jobs[0].sampling.seed) == ("piano and voice", 2.0, 5)


def test_upsample_goes_down_to_the_bottom(jobs: list[Any]) -> None:
    store_run(Path("outputs/sketch"), "sampling=top_only")
    assert cli.main(["upsample", "sketch"]) == 0
    assert (jobs[0].sampling.stop_level, jobs[0].source.command) == (0, "upsample")
    assert cli.main(["upsample", "sketch", "sampling.stop_level=1"]) == 0
    assert jobs[1].sampling.stop_level == 1


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["continue"], "continue needs a run to start from; write: jukebox continue RUN [OVERRIDES]"),
        (["continue", "seconds=9"], "continue needs a run to start from; write: jukebox continue RUN [OVERRIDES]"),
        (
            ["upsample", "frist"],
            "'frist' is not a run: there is no config.yaml in it; give a run's folder or its name; closest: 'first'",
        ),
        (["continue", "first", "sampling.sed=1"], "sampling.sed is not a setting; closest: 'seed'"),
        (["continue", "broken"], "outputs/broken/config.yaml cannot be read as YAML"),
    ],
)
def test_a_wrong_run_is_refused(
    jobs: list[Any], capsys: pytest.CaptureFixture[str], arguments: list[str], message: str
) -> None:
    store_run(Path("outputs/first"))
    store_run(Path("outputs/broken"))
    Path("outputs/broken/config.yaml").write_text("a: [", encoding="utf-8")
    assert cli.main(arguments) == status.REFUSED
    assert capsys.readouterr().err.startswith(f"jukebox: {message}")
    assert jobs == []


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ("jukebox ge", {"generate"}),
        ("jukebox ", set(cli.COMMANDS)),
        ("jukebox generate outpu", {"output."}),
        ("jukebox generate model=", {"model=mini", "model=small_prior"}),
        ("jukebox generate output=", {"output=flac", "output=mp3", "output=wav"}),
        ("jukebox generate seconds=9 prompt=", {"prompt=none", "prompt=tune"}),
        ("jukebox continue first song=", {"song=lantern", "song=unknown"}),
        ("jukebox encode level", {"levels."}),
        ("jukebox continue fi", {"first"}),
        ("jukebox upsample ", {"first"}),
        ("jukebox align f", {"first"}),
        ("jukebox generate song.genre=wa", {"song.genre=waltz"}),
        ("jukebox generate song.artist=music", {"song.artist=music", "box"}),
        ("jukebox generate model=nosuch song.genre=wa", set()),
        ("jukebox runs ", {"list", "show", "tree", "resume", "rename", "rm", "gc"}),
        ("jukebox runs re", {"resume"}),
        ("jukebox runs show --", {"--root", "--help"}),
        ("jukebox runs show fir", {"first"}),
        ("jukebox models fetch min", {"mini"}),
        ("jukebox models fetch mini 1b", {"1b_lyrics"}),
        ("jukebox serve --ti", {"--timezone"}),
        ("jukebox serve --role ", {"both", "server", "worker"}),
    ],
)
def test_the_shell_completes(
    jobs: list[Any],
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    line: str,
    expected: set[str],
) -> None:
    store_run(Path("outputs/first"))
    monkeypatch.setenv("COMP_LINE", line)
    assert cli.main(["-sc", "query=bash"]) == 0
    words = set(capsys.readouterr().out.split())
    assert expected <= words
    assert not any("=_" in word for word in words)


def test_bash_completes_names_with_spaces(tmp_path: Path) -> None:
    """The function that bash is given, in a real bash."""
    program = (
        f'PATH={Path(sys.executable).parent}:$PATH; eval "$(jukebox generate -sc install=bash)"; '
        'COMP_LINE="jukebox generate song.artist=mu"; COMP_POINT=${#COMP_LINE}; _jukebox_completion; '
        'printf "%s\\n" "${COMPREPLY[@]}"'
    )
    done = subprocess.run(["bash", "-c", program], cwd=tmp_path, capture_output=True, text=True, check=False)
    assert (done.stdout, done.stderr) == ("song.artist=music\\ box\n", "")


def test_an_interruption_has_its_own_status(jobs: list[Any], monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupt(_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(sys.modules["pipelines.commands"], "generate", interrupt)
    assert cli.main(["generate"]) == status.INTERRUPTED


STATUSES: list[tuple[type[JukeboxError], int, int]] = [  # raised before work, and at work
    (ConfigError, status.REFUSED, status.FAILED),
    (LabelError, status.REFUSED, status.FAILED),
    (AudioError, status.REFUSED, status.FAILED),
    (NotesError, status.REFUSED, status.FAILED),
    (DeviceError, status.REFUSED, status.FAILED),
    (RunError, status.REFUSED, status.FAILED),
    (DamagedRunError, status.REFUSED, status.FAILED),
    (RecordError, status.REFUSED, status.FAILED),
    (NewerRecordError, status.REFUSED, status.FAILED),
    (StoreError, status.REFUSED, status.FAILED),
    (UnreachableError, status.FAILED, status.FAILED),
    (DamagedError, status.FAILED, status.FAILED),
    (DownloadError, status.FAILED, status.FAILED),
    (CheckpointError, status.FAILED, status.FAILED),
    (DiskError, status.FAILED, status.FAILED),
    (NumericsError, status.FAILED, status.FAILED),
    (TrainingError, status.FAILED, status.FAILED),
    (StoppedError, status.INTERRUPTED, status.INTERRUPTED),
]


@pytest.mark.parametrize(("kind", "before", "at_work"), STATUSES)
def test_a_refusal_and_a_failure_have_a_status_each(
    jobs: list[Any],
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    kind: type[JukeboxError],
    before: int,
    at_work: int,
) -> None:
    def refuse(_: object) -> None:
        raise kind("it is so")

    for work, ended in ((refuse, before), (status.working()(refuse), at_work)):
        monkeypatch.setattr(sys.modules["pipelines.commands"], "generate", work)
        assert cli.main(["generate"]) == ended
        more = ": the same command continues from the stored tokens" if kind is StoppedError else ""
        assert capsys.readouterr().err == f"jukebox: it is so{more}\n"


@pytest.mark.parametrize("name", cli.COMMANDS)
def test_an_interrupted_command_says_what_the_next_one_finds(
    name: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Only commands that sample speak of tokens."""

    def stop(_: object) -> None:
        raise errors_of_signals.pop()

    errors_of_signals = [StoppedError("stopped; stored"), KeyboardInterrupt()]
    monkeypatch.setattr(cli, "dispatch", stop)
    for said in ("interrupted; ", "stopped; stored: "):
        assert cli.main([name]) == status.INTERRUPTED
        line = capsys.readouterr().err
        assert line == f"jukebox: {said}{cli.COMMANDS[name].again}\n"
        assert ("tokens" in line) == (name in ("generate", "continue", "upsample", "vamp", "inpaint"))


def test_every_kind_of_error_has_its_statuses() -> None:
    kinds = {each for each in vars(errors).values() if isinstance(each, type) and issubclass(each, JukeboxError)}
    assert {kind for kind, _, _ in STATUSES} == kinds - {JukeboxError} | {StoppedError}


@pytest.mark.parametrize(
    "arguments",
    [
        ["--help"],
        ["generate", "--help"],
        ["generate", "sampling.seed=-1"],
        ["generate", "--cfg", "job"],
        ["runs", "list"],
        ["runs", "tree"],
        ["runs", "--help"],
        ["models", "--help"],
    ],
)
def test_nothing_heavy_is_imported_before_settings_are_checked(tmp_path: Path, arguments: list[str]) -> None:
    program = (
        "import sys\nfrom pipelines.cli.main import main\n"
        f"main({arguments!r})\n"
        "heavy = sorted({'torch', 'prefect', 'pydantic', 'numpy', 'matplotlib'} & set(sys.modules))\n"
        "sys.exit(f'imported {heavy}' if heavy else 0)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", program],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
