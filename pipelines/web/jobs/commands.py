"""From the words of a command to its settings, and to the work itself: what a job runs. Imports no torch."""

from __future__ import annotations

import base64
import pickle
import threading
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from jukebox_core.errors import ConfigError
from pipelines.settings.compose import ALIGN, GENERATE, TRANSCRIBE, VAMP, compose
from pipelines.settings.overrides import escaped, quoted

if TYPE_CHECKING:
    from collections.abc import Sequence

    from pipelines.settings.generate import Settings

RECENT = 32  # commands that are remembered
COMMANDS = ("generate", "continue", "upsample", "resume", "vamp", "transcribe", "align", "fetch")


@dataclass(frozen=True, slots=True)
class Composed:
    """A command whose settings are checked."""

    command: str  # one of `COMMANDS`; ``runs resume`` is ``resume``, ``models fetch`` is ``fetch``
    settings: Any  # of the record that the command takes; of fetch: the model and `WeightsConfig`

    @property
    def makes_run(self) -> bool:
        """Whether the command samples songs into a run folder."""
        return self.command in ("generate", "continue", "upsample", "resume", "vamp")

    def run_settings(self) -> Settings:
        """Returns the settings of the run that the command makes, after the checks of its recordings."""
        if self.command == "vamp":
            from pipelines.execution.variation import run_settings

            return run_settings(self.settings)
        settings: Settings = self.settings
        return settings

    def work(self) -> None:
        """Does what the command does on the command line.

        Raises:
            JukeboxError: as the command does.
        """
        from pipelines import commands

        if self.command == "fetch":
            from jukebox_core.models import catalogue

            name, weights = self.settings
            catalogue.fetch([name], weights, show_progress=False)
        elif self.command == "vamp":
            commands.vamp(self.settings)
        elif self.command == "transcribe":
            commands.transcribe(self.settings)
        elif self.command == "align":
            commands.align(self.settings)
        else:
            commands.generate(self.settings, resume=self.command == "resume")


def composed(arguments: Sequence[str]) -> Composed:
    """Returns the command that the words after ``jukebox`` name, with checked settings.

    Raises:
        ConfigError: the words do not fit, or the command is none that jobs have.
        RunError: the run that it starts from does not exist.
    """
    name, *rest = arguments
    if [name, *rest[:1]] == ["runs", "resume"]:
        name, rest = "resume", rest[1:]
    elif [name, *rest[:1]] == ["models", "fetch"]:
        weights = compose(GENERATE, rest[2:]).weights
        return Composed("fetch", (rest[1], replace(weights, auto_download=True)))  # it is asked for
    if name not in COMMANDS:
        raise ConfigError(f"there is no job {name!r}; choose one of {', '.join(COMMANDS)}")
    return Composed(name, _settings(name, rest))


def packed(command: Composed) -> str:
    """Returns a command as text, for the process that runs it."""
    return base64.b64encode(pickle.dumps(command)).decode()


def unpacked(text: str) -> Composed:
    """Returns the command in a text that this program's own parent process wrote."""
    command: Composed = pickle.loads(base64.b64decode(text))  # noqa: S301
    return command


class Recent:
    """Composes commands, and remembers the last ones: a form checks a song before it asks for it."""

    def __init__(self) -> None:
        self._known: dict[tuple[str, ...], Composed] = {}
        self._lock = threading.Lock()

    def composed(self, arguments: Sequence[str]) -> Composed:
        """Returns what `composed` does. Commands that read a run, which may change, are composed each time."""
        if arguments[0] != "generate":
            return composed(arguments)
        key = tuple(arguments)
        with self._lock:
            known = self._known.pop(key, None)
        found = known or composed(arguments)
        with self._lock:
            self._known[key] = found
            while len(self._known) > RECENT:
                del self._known[next(iter(self._known))]
        return found


def _settings(name: str, rest: Sequence[str]) -> Any:
    if name == "generate":
        return compose(GENERATE, rest)
    if name == "vamp":
        return compose(VAMP, rest)
    if name == "transcribe":
        return compose(TRANSCRIBE, rest)
    run, *overrides = rest
    if name == "align":
        return compose(ALIGN, [f"run={quoted(escaped(run))}", *overrides])
    from pipelines.runs.settings_of_run import resume_root, run_root
    from pipelines.settings.common import StorageSettings
    from pipelines.settings.compose import override_value

    if name == "resume":
        root = override_value(overrides, "storage.root") or StorageSettings().root
        return compose(resume_root(run, str(root), overrides), overrides)
    return compose(run_root(name, run, overrides), overrides)
