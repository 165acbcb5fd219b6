"""The command line: one program, one word for what it shall do. Imports neither torch nor Prefect before it must.

A command's settings are composed and checked first, for every job of a sweep; only then is the module that does the
work imported. What goes wrong on the way is printed as one line for each mistake.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from importlib import import_module
from importlib.metadata import PackageNotFoundError, version
from typing import TYPE_CHECKING, Any

from jukebox_core.errors import ConfigError, JukeboxError, did_you_mean
from pipelines.exit_status import exit_status

if TYPE_CHECKING:
    from pipelines.settings.compose import Root

_COMPLETION = ("-sc", "--shell-completion", "--shell_completion")
_FROM_RUN = ("continue", "upsample")

Work = Callable[[Any], None]


@dataclass(frozen=True, slots=True)
class Command:
    """One word of the command line."""

    usage: str
    summary: str
    work: str  # module:function that is called with the settings of each job
    own_flags: bool = False  # it reads its arguments itself, and is called with them


COMMANDS = {
    "generate": Command(
        "generate [OVERRIDES]", "make songs, from nothing or from a prompt", "pipelines.commands:generate"
    ),
    "continue": Command(
        "continue RUN [OVERRIDES]", "make a finished run's songs longer", "pipelines.commands:generate"
    ),
    "upsample": Command("upsample RUN [OVERRIDES]", "finish the lower levels of a run", "pipelines.commands:generate"),
    "runs": Command(
        "runs COMMAND [RUN]",
        "list, show, resume and remove runs; collect what none names",
        "pipelines.cli.runs:run",
        True,
    ),
    "encode": Command("encode audio=[FILES]", "turn audio files into codes", "pipelines.commands:encode"),
    "decode": Command("decode codes=[FILES]", "turn codes into audio files", "pipelines.commands:decode"),
    "compose": Command(
        "compose [OVERRIDES]", "write songs to learn from, by rules and dice", "pipelines.commands:compose"
    ),
    "dataset": Command(
        "dataset audio=FOLDER", "check recordings, and encode them to learn from", "pipelines.commands:dataset"
    ),
    "train": Command(
        "train data.audio=FOLDER [OVERRIDES]", "make a model of one's own music", "pipelines.commands:train"
    ),
    "finetune": Command(
        "finetune data.audio=FOLDER [OVERRIDES]", "teach a trained model further music", "pipelines.commands:train"
    ),
    "serve": Command(
        "serve [--cron CRON] [OVERRIDES]", "make songs on demand and by schedule", "pipelines.serving.serve:serve", True
    ),
    "models": Command(
        "models COMMAND [NAMES]", "list, fetch, verify, remove and carry models", "pipelines.cli.models:run", True
    ),
}

EXAMPLES = """\
OVERRIDES are Hydra's: name=value, group=option, ~name, lists in [ ], in any order.
  jukebox generate experiment=demo
  jukebox generate model=5b_lyrics song.artist='the beatles' song.genre=pop seconds=30 sampling.n_samples=3
  jukebox generate model=/my/model.yaml 'prompt.files=[intro.wav]' prompt.seconds=5 seconds=20
  jukebox continue mini-1a2b3c4d seconds=12
  jukebox generate --multirun sampling.seed=1,2,3
  jukebox generate --help             the settings and the options of every group
  jukebox generate --cfg job          the settings as they would be used
  eval "$(jukebox generate -sc install=bash)"   completion, for all commands
"""


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs the program with `arguments`, by default the process's own; returns its exit status."""
    given = list(sys.argv[1:] if arguments is None else arguments)
    try:
        return dispatch(given)
    except (JukeboxError, KeyboardInterrupt) as error:
        interrupted = "interrupted; the same command continues from what is stored"
        for line in (str(error) if isinstance(error, JukeboxError) else interrupted).splitlines():
            print(f"jukebox: {line}", file=sys.stderr)
        return exit_status(error)


def dispatch(arguments: list[str]) -> int:
    """Runs what `arguments` ask for.

    Raises:
        JukeboxError: as the command does; ConfigError for a command that does not exist.
    """
    if not arguments or arguments[0] in ("-h", "--help", "help"):
        print(help_text())
        return 0
    if arguments[0] == "--version":
        print(_version())
        return 0
    if arguments[0] in _COMPLETION:
        return _complete(arguments)
    name, *rest = arguments
    if name not in COMMANDS:
        hint = did_you_mean(name, COMMANDS)
        raise ConfigError(f"there is no command {name!r}; choose one of {', '.join(COMMANDS)}{hint}")
    return _run(name, rest)


def help_text() -> str:
    """Returns what ``jukebox --help`` prints."""
    width = max(len(command.usage) for command in COMMANDS.values())
    lines = [f"  jukebox {command.usage:<{width}}  {command.summary}" for command in COMMANDS.values()]
    return "\n".join(["Makes music with Jukebox models.", "", *lines, "", EXAMPLES])


def _run(name: str, arguments: list[str]) -> int:
    if COMMANDS[name].own_flags:
        _work(name)(arguments)
        return 0
    from pipelines.settings.compose import from_command_line

    root, rest = _root(name, arguments)
    jobs = from_command_line(root, rest)
    if not jobs:
        return 0
    work = _work(name)
    for number, settings in enumerate(jobs, start=1):
        if len(jobs) > 1:
            print(f"jukebox: job {number} of {len(jobs)}", file=sys.stderr)
        work(settings)
    return 0


def _work(name: str) -> Work:
    module, _, function = COMMANDS[name].work.partition(":")
    work: Work = getattr(import_module(module), function)
    return work


def _root(name: str, arguments: list[str]) -> tuple[Root[Any], list[str]]:
    """Returns where a command starts, and the arguments that are left for Hydra."""
    from pipelines.settings.compose import COMPOSE, DATASET, DECODE, ENCODE, FINETUNE, GENERATE, TRAIN

    known: tuple[Root[Any], ...] = (GENERATE, ENCODE, DECODE, COMPOSE, DATASET, TRAIN, FINETUNE)
    roots = {root.name: root for root in known}
    if name not in _FROM_RUN:
        return roots[name], arguments
    if arguments and not arguments[0].startswith("-") and "=" not in arguments[0]:
        from pipelines.runs.settings_of_run import run_root

        return run_root(name, arguments[0], arguments[1:]), arguments[1:]
    if any(argument.startswith("-") for argument in arguments):  # help and completion need no run
        return GENERATE, arguments
    raise ConfigError(f"{name} needs a run to start from; write: jukebox {COMMANDS[name].usage}")


def _complete(arguments: list[str]) -> int:
    """Answers the shell, which asks the bare program: completes a command's name, or asks the command itself."""
    program, *words = os.environ.get("COMP_LINE", "jukebox ").split(" ")
    name = words[0] if words else ""
    if len(words) < 2 or name not in COMMANDS or COMMANDS[name].own_flags:
        print(" ".join(command for command in COMMANDS if command.startswith(name)))
        return 0
    os.environ["COMP_LINE"] = " ".join([program, *(words[2:] if name in _FROM_RUN else words[1:])])
    return _run("generate" if name in _FROM_RUN else name, arguments)


def _version() -> str:
    try:
        return version("jukebox-pipelines")
    except PackageNotFoundError:
        return "not installed"


if __name__ == "__main__":
    sys.exit(main())
