"""Running typer apps within `jukebox`: errors in this project's words, and completion through the one entry.

Every app is made by `new_app` and run by `run_app`, so that help, errors and exit statuses are the same in all.
"""

from __future__ import annotations

import os
import re
from typing import TYPE_CHECKING, Any

import typer

from jukebox_core.errors import ConfigError, did_you_mean

if TYPE_CHECKING:
    from collections.abc import Sequence

PROGRAM = "jukebox"
_NO_COMMAND = re.compile(r"No such command '(?P<name>.*)'\.")
_EXTRA = re.compile(r"Got unexpected extra argument(?:\(s\)|s)? \((?P<words>.*)\)")
_CONTEXT: dict[str, Any] = {"help_option_names": ["-h", "--help"]}
_COMPLETE = "_JUKEBOX_COMPLETE"  # environment variable of typer's completion protocol


def new_app(summary: str, **settings: Any) -> typer.Typer:
    """Returns an app without commands: plain help, ``-h`` beside ``--help``, no completion options of its own."""
    return typer.Typer(
        help=summary,
        rich_markup_mode=None,
        add_completion=False,
        suggest_commands=False,  # `run_app` does
        pretty_exceptions_enable=False,
        context_settings=_CONTEXT | {"max_content_width": 110},
        **settings,
    )


def run_app(app: typer.Typer, name: str, arguments: Sequence[str]) -> Any:
    """Returns the return value of the command that `arguments` name; None after help was printed.

    Args:
        app: the app.
        name: its name on the command line: ``runs`` of ``jukebox runs``.
        arguments: the words after that; a first word ``help`` is ``--help``.

    Raises:
        ConfigError: the arguments do not fit; one line with value, rule and remedy.
        Exception: every exception of the command itself.
    """
    command = _light_command(app)
    given = ["--help", *arguments[1:]] if arguments[:1] == ["help"] else list(arguments)
    try:
        with command.make_context(f"{PROGRAM} {name}", given) as context:
            return command.invoke(context)
    except typer.Exit:
        return None
    except typer.TyperException as error:
        raise ConfigError(_explained(error, name)) from None


def print_completions(app: typer.Typer, line: str) -> None:
    """Prints the words that can end a command line, one a line.

    Args:
        app: the app.
        line: the command line without ``jukebox``, up to the cursor: ``runs show fi``.
    """
    from typer import completion

    words = line.split(" ")
    position = {"COMP_WORDS": line, "COMP_CWORD": str(len(words) - 1)}  # as bash gives them
    os.environ.update(position)
    try:
        completion.get_completion_inspect_parameters()  # registers the shells
        completion.shell_complete(_light_command(app), {}, words[0], _COMPLETE, "complete_bash")
    finally:
        for name in position:
            del os.environ[name]


class _Plain:
    """Conversion of one parameter's value to text, a number or a flag, in place of typer's own (`RuntimeParam`)."""

    def __init__(self, kind: type[str | int | float | bool]) -> None:
        self._kind = kind

    def coerce(self, value: Any, param: Any, ctx: Any) -> Any:
        """Returns `value` as the parameter's type; a list, or an empty tuple for None, if it takes several values.

        Raises:
            BadParameter: it is not a number.
        """
        if param.multiple or param.nargs == -1:
            return () if value is None else [self._kind(each) for each in value]
        try:
            return None if value is None else self._kind(value)
        except ValueError:
            rule = "a whole number" if self._kind is int else "a number"
            raise typer.BadParameter(f"{value!r} is not {rule}", ctx=ctx, param=param) from None


_PLAIN = {bool: _Plain(bool), str: _Plain(str), list[str]: _Plain(str), int: _Plain(int), float: _Plain(float)}


def _light_command(app: typer.Typer) -> Any:
    """Returns the app's command, without pydantic for plain values: its import takes longer than most commands.

    The two attributes of a parameter are private to typer; without them typer converts values itself, slowly, and a
    test of the imports fails.
    """
    command: Any = typer.main.get_command(app)
    for each in (command, *getattr(command, "commands", {}).values()):
        for parameter in each.get_params(each.context_class(each, **_CONTEXT)):
            kind = getattr(getattr(parameter, "type_descriptor", None), "annotation", None)
            if kind in _PLAIN:
                parameter._runtime_param = _PLAIN[kind]
    return command


def _explained(error: typer.TyperException, name: str) -> str:
    """Returns the message of an error that typer found in the arguments; its error classes are private to it."""
    context: Any = getattr(error, "ctx", None)
    path = name if context is None else context.command_path.removeprefix(f"{PROGRAM} ")
    if found := _NO_COMMAND.fullmatch(error.message):
        known = context.command.list_commands(context)
        wrong = found["name"]
        return f"there is no command '{path} {wrong}'; choose one of {', '.join(known)}{did_you_mean(wrong, known)}"
    if hasattr(error, "possibilities"):  # no such option
        known = [
            option for each in context.command.get_params(context) for option in each.opts if option.startswith("--")
        ]
        wrong = error.option_name  # type: ignore[attr-defined]
        return f"{path} has no option {wrong}; choose one of {', '.join(known)}{did_you_mean(wrong, known)}"
    if hasattr(error, "param_type"):  # a missing argument
        return f"{path} needs {error.param.metavar}; write: {_usage(context)}"  # type: ignore[attr-defined]
    if found := _EXTRA.fullmatch(error.message):
        return f"{path} takes no argument {found['words']!r}; write: {_usage(context)}"
    if isinstance(error, typer.BadParameter) and error.param is not None:
        wrong, *choices = re.findall("'([^']*)'", error.message) or [""]
        reason = error.message.removeprefix("Value error, ").rstrip(".").replace(" is not ", ", which is not ", 1)
        return f"{path}: {error.param.opts[0]} is {reason}{did_you_mean(wrong, choices)}"
    if hasattr(error, "option_name"):
        return f"{path}: {error.option_name} needs a value; `{PROGRAM} {path} --help` shows how it is used"
    return f"{path}: {error.format_message().rstrip('.')}; `{PROGRAM} {path} --help` shows how it is used"


def _usage(context: Any) -> str:
    return " ".join(context.get_usage().removeprefix("Usage: ").replace("{", "").replace("}", "").split())
