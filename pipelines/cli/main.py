"""The command line: one program with subcommands. Imports torch and Prefect only after the settings are checked.

Commands that compute take Hydra's overrides: settings are composed and checked first, for every job of a sweep; only
then is the module that does the work imported. `runs`, `models` and `serve` are typer apps. Errors are printed as one
line each.
"""

from __future__ import annotations

import io
import os
import sys
from collections.abc import Callable, Sequence
from contextlib import redirect_stdout, suppress
from dataclasses import dataclass
from importlib import import_module
from importlib.metadata import PackageNotFoundError, version
from typing import TYPE_CHECKING, Any

from jukebox_core.base.paths import shortened, user_path
from jukebox_core.base.text import printable
from jukebox_core.base.waiting import share_cores
from jukebox_core.errors import ConfigError, JukeboxError, did_you_mean
from pipelines.cli import streams
from pipelines.exit_status import FAILED, PIPE_CLOSED, exit_status
from pipelines.orchestration.signals import ending_on_signals
from stages.stopping import StoppedError

if TYPE_CHECKING:
    from pipelines.settings.compose import Root

_COMPLETION = ("-sc", "--shell-completion", "--shell_completion")
_FROM_RUN = ("continue", "upsample")

_REPEAT = "run the same command again"
_FROM_TOKENS = "the same command continues from the stored tokens"
_SKIPS = "the same command skips what is finished"

Work = Callable[[Any], None]


@dataclass(frozen=True, slots=True)
class Command:
    """One subcommand."""

    usage: str
    summary: str
    work: str  # module:function that is called with the settings of each job; of a typer app, with the arguments
    is_app: bool = False  # the module has a typer app, `app`, which parses the arguments; otherwise Hydra does
    again: str = _REPEAT  # what to do after an interruption


COMMANDS = {
    "generate": Command(
        "generate [OVERRIDES]",
        "make songs, from nothing or from a prompt",
        "pipelines.commands:generate",
        again=_FROM_TOKENS,
    ),
    "continue": Command(
        "continue RUN [OVERRIDES]",
        "continue the songs of a finished run",
        "pipelines.commands:generate",
        again=_FROM_TOKENS,
    ),
    "upsample": Command(
        "upsample RUN [OVERRIDES]",
        "sample the lower levels of a run",
        "pipelines.commands:generate",
        again=_FROM_TOKENS,
    ),
    "vamp": Command(
        "vamp audio=[FILES]",
        "vary recordings, keeping what a mask keeps",
        "pipelines.commands:vamp",
        again=_FROM_TOKENS,
    ),
    "inpaint": Command(
        "inpaint audio=[FILE] start=S stop=S",
        "make some seconds of recordings again",
        "pipelines.commands:inpaint",
        again=_FROM_TOKENS,
    ),
    "runs": Command(
        "runs COMMAND [RUN]",
        "list, show, resume, rename and remove runs",
        "pipelines.cli.runs:run",
        is_app=True,
    ),
    "encode": Command("encode audio=[FILES]", "turn audio files into codes", "pipelines.commands:encode", again=_SKIPS),
    "decode": Command("decode codes=[FILES]", "turn codes into audio files", "pipelines.commands:decode", again=_SKIPS),
    "transcribe": Command(
        "transcribe audio=[FILES]",
        "turn recordings into notes: MIDI and JSON",
        "pipelines.commands:transcribe",
        again="the same command continues from the stored blocks",
    ),
    "evaluate": Command(
        "evaluate estimate=FILE [reference=FILE]", "score or describe notes", "pipelines.commands:evaluate"
    ),
    "features": Command(
        "features audio=[FILES]",
        "codes and activations of recordings as arrays",
        "pipelines.commands:features",
        again=_SKIPS,
    ),
    "align": Command(
        "align RUN [OVERRIDES]", "bring the words of a run in time with its music", "pipelines.commands:align"
    ),
    "compose": Command(
        "compose [OVERRIDES]",
        "compose training songs by rules and random numbers",
        "pipelines.commands:compose",
        again=_SKIPS,
    ),
    "dataset": Command(
        "dataset audio=FOLDER",
        "check recordings and encode them for training",
        "pipelines.commands:dataset",
        again=_SKIPS,
    ),
    "train": Command(
        "train data.audio=FOLDER [OVERRIDES]",
        "train a model on your own music",
        "pipelines.commands:train",
        again="the same command continues from the last checkpoint",
    ),
    "finetune": Command(
        "finetune data.audio=FOLDER [OVERRIDES]",
        "fine-tune a trained model",
        "pipelines.commands:train",
        again="the same command continues from the last checkpoint",
    ),
    "export": Command(
        "export model=MODEL [OVERRIDES]",
        "write a model's networks as graphs for programs without Python",
        "pipelines.commands:export",
        again=_SKIPS,
    ),
    "serve": Command(
        "serve [--cron CRON] [OVERRIDES]",
        "make songs on demand and by schedule",
        "pipelines.cli.serve:run",
        is_app=True,
    ),
    "web": Command(
        "web [--port PORT] [OVERRIDES]",
        "make songs on a page in the browser",
        "pipelines.cli.web:run",
        is_app=True,
        again="the same command continues the jobs that were not over",
    ),
    "models": Command(
        "models COMMAND [NAMES]",
        "list, fetch, verify, remove and copy models",
        "pipelines.cli.models:run",
        is_app=True,
    ),
}

EXAMPLES = """\
OVERRIDES are Hydra's: name=value, group=option, ~name, lists in [ ], in any order.
  jukebox generate experiment=demo
  jukebox generate model=5b_lyrics song.artist='the beatles' song.genre=pop seconds=30 sampling.n_samples=3
  jukebox generate model=/my/model.yaml 'prompt.files=[intro.wav]' prompt.seconds=5 seconds=20
  jukebox continue mini-1a2b3c4d seconds=12
  jukebox vamp 'audio=[song.wav]' sampling.n_samples=4
  jukebox generate --multirun sampling.seed=1,2,3
  jukebox generate --help             the settings of a command, and three examples
  jukebox generate --cfg job          the settings as they would be used
  eval "$(jukebox generate -sc install=bash)"   completion, for all commands
"""


def main(arguments: Sequence[str] | None = None) -> int:
    """Returns the exit status of the program, run with `arguments`, by default those of the process."""
    share_cores()
    status = _main(arguments)
    recorder = sys.modules.get("pipelines.orchestration.recorder")
    if arguments is None and recorder is not None:
        recorder.leave(status)  # Prefect's threads may wait for a server that is away
    return status


def _main(arguments: Sequence[str] | None) -> int:
    given = list(sys.argv[1:] if arguments is None else arguments)
    streams.prepare()
    try:
        try:
            with ending_on_signals(of_process=arguments is None):
                return dispatch(given)
        finally:
            streams.flush()
    except (JukeboxError, KeyboardInterrupt, OSError, UnicodeError) as error:
        if streams.discard_broken() and isinstance(error, BrokenPipeError):
            return PIPE_CLOSED
        with suppress(OSError):  # stderr may be what cannot be written
            for line in _explained(error, COMMANDS.get(given[0]) if given else None).splitlines():
                print(f"jukebox: {printable(line)}", file=sys.stderr)
        return exit_status(error) if isinstance(error, JukeboxError | KeyboardInterrupt) else FAILED


def _explained(error: BaseException, command: Command | None) -> str:
    """Returns the message of an error that ends the program; of an interruption, what `command` does if it is repeated.

    The last two sorts are of the system: a stage that expects them says more, and this one says at least what happened.
    """
    again = _REPEAT if command is None else command.again
    if isinstance(error, StoppedError):
        return f"{error}: {again}"
    if isinstance(error, JukeboxError):
        return str(error)
    if isinstance(error, KeyboardInterrupt):
        return f"interrupted; {again}"
    if isinstance(error, OSError):
        what = "the output" if error.filename is None else shortened(os.fsdecode(error.filename))
        return f"{what}: {error.strerror or error}; mend that, and run the same command: what is stored is kept"
    return f"text that is not UTF-8 ({error}); rename the file that it names, or write the text in UTF-8"


def dispatch(arguments: list[str]) -> int:
    """Runs the command that `arguments` name; returns 0.

    Raises:
        JukeboxError: as the command does; ConfigError for an unknown command.
    """
    if len(arguments) > 1 and arguments[0] == "help":
        arguments = [arguments[1], "--help", *arguments[2:]]
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
        song = "; a song is made with: jukebox generate song.genre=waltz seconds=12" if " " in name else ""
        raise ConfigError(f"there is no command {name!r}; choose one of {', '.join(COMMANDS)}{hint}{song}")
    if "--version" in rest:
        print(_version())
        return 0
    _check_current_folder()
    return _run(name, rest)


def _check_current_folder() -> None:
    """Checks that there is one, with a path that can be used: others are relative to it.

    Raises:
        ConfigError: it was removed, access to it is refused, or as `user_path`.
    """
    try:
        here = os.getcwd()  # noqa: PTH109 - only this is asked
    except OSError as error:
        raise ConfigError(f"the current folder cannot be used ({error.strerror}); change to another one (cd)") from None
    user_path(here)


def help_text() -> str:
    """Returns the text that ``jukebox --help`` prints."""
    width = max(len(command.usage) for command in COMMANDS.values())
    lines = [f"  jukebox {command.usage:<{width}}  {command.summary}" for command in COMMANDS.values()]
    return "\n".join(["Makes music with Jukebox models.", "", *lines, "", EXAMPLES])


def _run(name: str, arguments: list[str]) -> int:
    if COMMANDS[name].is_app:
        _work(name)(arguments)
        return 0
    from pipelines.settings.compose import from_command_line

    if "install=bash" in arguments and set(_COMPLETION) & set(arguments):
        from pipelines.cli.completion import BASH

        print(BASH, end="")
        return 0
    root, rest = _root(name, arguments)
    if "--help" in rest or "-h" in rest:
        _print_help(name, root, rest)
        return 0
    jobs = from_command_line(root, rest)
    if not jobs:
        return 0
    work = _work(name)
    for number, settings in enumerate(jobs, start=1):
        if len(jobs) > 1:
            print(f"jukebox: job {number} of {len(jobs)}", file=sys.stderr)
        work(settings)
    return 0


def _print_help(name: str, root: Root[Any], arguments: list[str]) -> None:
    """Prints the help of a command; words after the flag name the sections that are shown."""
    from pipelines.cli import help as helping
    from pipelines.settings.arguments import is_override

    place = next(place for place, argument in enumerate(arguments) if argument in helping.FLAGS)
    sections = [each for each in arguments[place:] if not each.startswith("-") and not is_override(each)]
    given = [each for each in arguments if is_override(each)]
    print(helping.help_of(name, COMMANDS[name].usage, root, given, sections), end="")


def _work(name: str) -> Work:
    module, _, function = COMMANDS[name].work.partition(":")
    work: Work = getattr(import_module(module), function)
    return work


def _root(name: str, arguments: list[str]) -> tuple[Root[Any], list[str]]:
    """Returns the configuration root of a command, and the arguments that remain for Hydra."""
    from pipelines.settings.compose import ALIGN, GENERATE, ROOTS

    roots = {root.name: root for root in ROOTS}
    if name == "align" and arguments and not arguments[0].startswith("-") and "=" not in arguments[0]:
        from pipelines.settings.overrides import escaped, quoted

        return ALIGN, [f"run={quoted(escaped(arguments[0]))}", *arguments[1:]]
    if name not in _FROM_RUN:
        return roots[name], arguments
    if arguments and not arguments[0].startswith("-") and "=" not in arguments[0]:
        from pipelines.runs.settings_of_run import run_root

        return run_root(name, arguments[0], arguments[1:]), arguments[1:]
    if any(argument.startswith("-") for argument in arguments):  # help and completion need no run
        return GENERATE, arguments
    raise ConfigError(f"{name} needs a run to start from; write: jukebox {COMMANDS[name].usage}")


def _complete(arguments: list[str]) -> int:
    """Prints the completions of the shell's command line, one a line: of a command's name, or of what follows it."""
    program, *words = os.environ.get("COMP_LINE", "jukebox ").split(" ")
    name = words[0] if words else ""
    if len(words) < 2 or name not in COMMANDS:
        print("\n".join(command for command in COMMANDS if command.startswith(name)))
        return 0
    if COMMANDS[name].is_app:
        from pipelines.cli.typer_app import print_completions

        print_completions(import_module(COMMANDS[name].work.partition(":")[0]).app, " ".join(words))
        return 0
    from pipelines.cli.completion import names_for

    found = names_for(name, words[1:])
    if found is None:
        os.environ["COMP_LINE"] = " ".join([program, *(words[2:] if name in _FROM_RUN else words[1:])])
        with redirect_stdout(io.StringIO()) as shown, suppress(SystemExit):
            _run("generate" if name in _FROM_RUN else name, arguments)
        found = shown.getvalue().split()
    print("\n".join(found))
    return 0


def _version() -> str:
    try:
        return version("jukebox-pipelines")
    except PackageNotFoundError:
        return "not installed"


if __name__ == "__main__":
    sys.exit(main())
