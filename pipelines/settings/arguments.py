"""Words of a command line that are neither settings nor flags: what their writer probably meant."""

from __future__ import annotations

from typing import TYPE_CHECKING

from jukebox_core.base.paths import shortened
from jukebox_core.base.structuring import field_types, setting_names
from jukebox_core.base.text import printable
from jukebox_core.errors import ConfigError, did_you_mean

if TYPE_CHECKING:
    from collections.abc import Sequence

_TAKE_A_WORD = ("--cfg", "-c", "--package", "-p", "--config-path", "-cp", "--config-name", "-cn", "--config-dir", "-cd",
                "--experimental-rerun")  # fmt: skip
_FLAGS = (*_TAKE_A_WORD, "--help", "-h", "--hydra-help", "--version", "--resolve", "--run", "-r", "--multirun", "-m",
          "--shell-completion", "--shell_completion", "-sc", "--info", "-i")  # fmt: skip
_FILES = (".wav", ".flac", ".mp3", ".ogg", ".m4a", ".npz")


def is_override(argument: str) -> bool:
    """Whether an argument sets something, as ``name=value`` or ``~name``; otherwise it is a flag, or belongs to one."""
    return argument.startswith("~") or ("=" in argument and not argument.startswith("-"))


def check_arguments(kind: type, command: str, arguments: Sequence[str]) -> None:
    """Checks that every argument is an override or a flag of Hydra's, with its word.

    Args:
        kind: record type of the command's settings.
        command: its name, for the remedy.
        arguments: those after the name.

    Raises:
        ConfigError: a word is neither.
    """
    before = ""
    for place, argument in enumerate(arguments):
        if is_override(argument) or argument == "--":
            pass
        elif argument.startswith("-") and argument != "-":
            flag, _, value = argument.partition("=")
            if flag not in _FLAGS and not (len(flag) > len("--") and any(each.startswith(flag) for each in _FLAGS)):
                following = arguments[place + 1] if place + 1 < len(arguments) else ""
                raise ConfigError(_no_option(kind, command, flag, value or following))
        elif before not in (*_TAKE_A_WORD, "--info", "-i", "-sc", "--shell-completion", "--shell_completion"):
            raise ConfigError(_no_setting(kind, command, argument))
        before = argument


def _no_option(kind: type, command: str, flag: str, value: str) -> str:
    name, all_names = flag.lstrip("-").replace("-", "_"), list(setting_names(kind))
    found = [each for each in all_names if each == name] or [e for e in all_names if e.rpartition(".")[2] == name]
    shown = "VALUE" if not value or value.startswith("-") or is_override(value) else printable(value)
    if found:
        meant = " or ".join(f"{each}={shown}" for each in found[:3])
        return f"{flag} is not an option; settings are written without dashes: {meant}"
    hint = did_you_mean(name, [each.rpartition(".")[2] for each in all_names])
    return f"{flag} is not an option of {command}{hint}; settings are written name=value: {_help(command)}"


def _no_setting(kind: type, command: str, word: str) -> str:
    known = field_types(kind, {})
    if word.lower().endswith(_FILES):
        name = next((each for each in ("audio", "codes") if each in known), "prompt.files" if "prompt" in known else "")
        if name:
            return f"{shortened(word)} belongs to a setting; write {name}={printable(word)}"
    example = ", as in song.genre=waltz seconds=12" if "song" in known else ""
    return f"{shortened(word)} sets nothing; write what you want as name=value{example}: {_help(command)}"


def _help(command: str) -> str:
    return f"`jukebox {command} --help` lists the settings"
