"""Help of the commands that take settings, and what is said of words that are neither settings nor flags."""

from __future__ import annotations

import shlex
from typing import TYPE_CHECKING

import pytest

from pipelines import exit_status as status
from pipelines.cli import main as cli
from pipelines.cli.help import HELP
from pipelines.settings.compose import GENERATE, ROOTS, compose, dump, from_command_line, unchecked
from pipelines.settings.described import rows

if TYPE_CHECKING:
    from pathlib import Path

    from pipelines.settings.compose import Root

COMMANDS = [name for name, command in cli.COMMANDS.items() if not command.is_app]


@pytest.fixture(autouse=True)
def in_a_folder_with_a_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    folder = tmp_path / "outputs" / "RUN"
    folder.mkdir(parents=True)
    (folder / "config.yaml").write_text(dump(compose(GENERATE, ["seconds=8", "sampling.seed=5"])), encoding="utf-8")


def shown(capsys: pytest.CaptureFixture[str], *arguments: str) -> str:
    assert cli.main(list(arguments)) == 0
    return capsys.readouterr().out


@pytest.mark.parametrize("command", COMMANDS)
def test_help_says_what_a_command_does_with_three_examples(command: str, capsys: pytest.CaptureFixture[str]) -> None:
    text = shown(capsys, command, "--help")
    assert text.startswith(f"Usage: jukebox {cli.COMMANDS[command].usage}\n\n{HELP[command].about[:20]}")
    assert text.count(f"\n  jukebox {command}") >= len(HELP[command].examples) == 3
    assert shown(capsys, command, "-h") == shown(capsys, "help", command) == text


@pytest.mark.parametrize("line", [pytest.param(line, id=line) for each in HELP.values() for line in each.examples])
def test_every_example_makes_settings(line: str) -> None:
    name, *arguments = shlex.split(line)
    root, rest = cli._root(name, arguments)
    [settings] = from_command_line(root, rest)
    assert isinstance(settings, root.kind)


@pytest.mark.parametrize("root", [pytest.param(root, id=root.name) for root in ROOTS])
def test_every_setting_has_a_meaning(root: Root[object]) -> None:
    """Sizes of models apart: they are read by those who know the architecture."""
    found = [row for row in rows(root.kind, unchecked(root)) if not row.name.startswith("model.")]
    assert [row.name for row in found if not row.meaning] == []


def settings_in(text: str) -> dict[str, str]:
    """The settings in a help text, by name, with what is on the line."""
    lines = text.partition("SETTING")[2].partition("Whole sections")[0].splitlines()[1:]
    return {line.split()[0]: line for line in lines if line and not line.startswith(" ")}


def test_help_begins_with_song_prompt_sampling_and_output(capsys: pytest.CaptureFixture[str]) -> None:
    listed = list(settings_in(shown(capsys, "generate", "--help")))
    sections = list(dict.fromkeys(name.partition(".")[0] for name in listed))
    assert [each for each in sections if each in ("song", "prompt", "sampling", "output", "hardware")] == [
        "song", "prompt", "sampling", "output", "hardware",
    ]  # fmt: skip
    assert {"sampling.level_N.temperature", "runner.workers", "alignment.hop"} <= set(listed)
    assert not {"model", "source"} & set(sections)


def test_sizes_of_the_model_are_shown_on_demand(capsys: pytest.CaptureFixture[str]) -> None:
    listed = settings_in(shown(capsys, "generate", "--help", "model") + "Whole sections")
    assert {name.partition(".")[0] for name in listed} == {"model"}
    assert "codebook size" in listed["model.network.vqvae.bins"]


def test_defaults_are_those_of_the_settings_and_the_run_that_are_given(capsys: pytest.CaptureFixture[str]) -> None:
    assert settings_in(shown(capsys, "generate", "seconds=9", "--help"))["seconds"].split()[1] == "9"
    without = settings_in(shown(capsys, "continue", "--help"))
    of_run = settings_in(shown(capsys, "continue", "RUN", "--help"))
    assert without["seconds"].split()[1:3] == ["as", "RUN"]
    assert (of_run["seconds"].split()[1], of_run["sampling.seed"].split()[1]) == ("8", "5")


def test_continue_and_upsample_list_settings_of_their_own(capsys: pytest.CaptureFixture[str]) -> None:
    more, finer = settings_in(shown(capsys, "continue", "--help")), settings_in(shown(capsys, "upsample", "--help"))
    assert list(more)[:3] == ["source.samples", "source.keep_seconds", "source.splice"]
    assert next(iter(finer)) == "source.samples"
    assert not {"source.keep_seconds", "source.splice", "seconds"} & set(finer)


@pytest.mark.parametrize(
    ("command", "there", "elsewhere"), [("generate", "mini", "mt3"), ("transcribe", "mini_mt3", "mini")]
)
def test_help_lists_the_models_that_a_command_can_use(
    capsys: pytest.CaptureFixture[str], command: str, there: str, elsewhere: str
) -> None:
    text = shown(capsys, command, "--help").partition("  model: ")[2].partition("  hardware:")[0]
    listed = text.replace(",", "").split()
    assert there in listed
    assert elsewhere not in listed
    assert not any(name.startswith("_") for name in listed)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--seconds", "4"], "--seconds is not an option; settings are written without dashes: seconds=4"),
        (["--seconds=4"], "--seconds is not an option; settings are written without dashes: seconds=4"),
        (
            ["--n-samples", "4"],
            "--n-samples is not an option; settings are written without dashes: sampling.n_",
        ),
        (
            ["--temprature", "4"],
            "--temprature is not an option of generate; closest: 'temperature', 'usual_temperatures'; settings are",
        ),
        (["make a waltz"], "'make a waltz' sets nothing; write what you want as name=value, as in song.genre=waltz"),
        (["intro.mp3"], "'intro.mp3' belongs to a setting; write prompt.files=intro.mp3"),
        (["--help", "runer"], "generate has no section 'runer'; choose one of "),
    ],
)
def test_words_that_set_nothing_get_a_helpful_line(
    arguments: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert cli.main(["generate", *arguments]) == status.REFUSED
    line = capsys.readouterr().err
    assert line.startswith(f"jukebox: {message}")
    assert line.count("\n") == 1


def test_a_wish_instead_of_a_command_gets_an_example(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["make a waltz"]) == status.REFUSED
    assert "a song is made with: jukebox generate song.genre=waltz" in capsys.readouterr().err
