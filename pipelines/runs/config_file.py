"""The settings of a run, as its config.yaml has them. Imports neither torch, Prefect nor Hydra."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import yaml

from jukebox_core.base.records import read_regular
from jukebox_core.base.structuring import build
from jukebox_core.errors import ConfigError, DamagedRunError, RecordError
from pipelines.runs.legacy import upgraded
from pipelines.settings.generate import Settings

if TYPE_CHECKING:
    from pathlib import Path

CONFIG_NAME = "config.yaml"
_LOADER = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
_REMEDY = "correct it, or run the command that made the run again"
# What PyYAML and the checks of records raise for content that nobody has foreseen.
_BAD_CONTENT = (yaml.YAMLError, ArithmeticError, AttributeError, LookupError, RecursionError, TypeError, ValueError)


def read_config(folder: Path) -> dict[str, Any]:
    """Returns the settings of the run in `folder` as plain data, in the current form, which `build` accepts.

    Raises:
        FileNotFoundError: the folder has no config.yaml.
        DamagedRunError: the file is damaged, or does not hold the settings of a run.
    """
    path = folder / CONFIG_NAME
    try:
        data = read_regular(path)
    except FileNotFoundError:
        raise
    except (OSError, RecordError) as error:
        raise DamagedRunError(f"{path} cannot be read: {error}; {_REMEDY}") from None
    try:
        if b"&" in data and any(isinstance(event, yaml.AliasEvent) for event in yaml.parse(data, _LOADER)):
            raise DamagedRunError(f"{path} has aliases (&name, *name), which no run's settings have; {_REMEDY}")
        stored = yaml.load(data, _LOADER)  # noqa: S506  a safe one
    except _BAD_CONTENT as error:
        raise DamagedRunError(f"{path} cannot be read as YAML: {' '.join(str(error).split())}; {_REMEDY}") from None
    return checked(stored, path)


def checked(stored: object, where: Path) -> dict[str, Any]:
    """Returns stored settings in the current form, after a check that they are the settings of a run.

    Raises:
        DamagedRunError: they are not.
    """
    try:
        if not isinstance(stored, dict):
            raise ConfigError(f"it holds {type(stored).__name__}, not names and values")
        settings = upgraded(stored)
        build(Settings, settings)
    except _BAD_CONTENT as error:
        first = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise DamagedRunError(f"{where} does not hold the settings of a run: {first}; {_REMEDY}") from None
    return settings


def settings_in(folder: Path) -> Settings | None:
    """Returns the settings in the config.yaml of `folder`; None if it is absent, damaged, or another program's."""
    try:
        return build(Settings, read_config(folder))
    except (FileNotFoundError, DamagedRunError):
        return None
