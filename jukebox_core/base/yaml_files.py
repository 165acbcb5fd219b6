"""YAML files that users write, as plain data of a bounded size. Imports no torch."""

from __future__ import annotations

import reprlib
from typing import TYPE_CHECKING, Any

import yaml

from jukebox_core.base.text_files import UnreadableError, read_text
from jukebox_core.errors import ConfigError

if TYPE_CHECKING:
    from pathlib import Path

_LOADER = getattr(yaml, "CSafeLoader", yaml.SafeLoader)  # the one in C, where available, is ten times as fast
_BYTES = 10_000_000  # settings of a run hold the words of its songs
_DEPTH = 30  # of lists and mappings; settings have a third of it
_VALUES = 100_000  # with every alias written out; a thousand songs of a run have fewer
_KINDS = (str, bool, int, float, type(None))
_INTEGERS = 2**64  # beyond, no setting has a meaning, and text of thousands of digits takes long


def load_yaml(path: Path) -> dict[str, Any]:
    """Returns the mapping in a YAML file: names, and lists, mappings and plain values; no value contains itself.

    Raises:
        ConfigError: the file cannot be read, is not YAML, or holds something else or far too much.
    """
    try:
        data = yaml.load(read_text(path, _BYTES), _LOADER)  # noqa: S506  a safe one
    except UnreadableError as error:
        raise ConfigError(f"{path} cannot be read as YAML: {error}") from None
    except (yaml.YAMLError, ValueError, RecursionError) as error:  # ValueError: of dates and numbers
        raise ConfigError(f"{path} cannot be read as YAML: {' '.join(str(error).split())}") from None
    if not isinstance(data, dict):
        raise ConfigError(f"{path} holds {type(data).__name__}; it must hold names and values, as conf/model/mini.yaml")
    try:
        count = _count(data, {}, ())
    except ConfigError as error:
        raise ConfigError(f"{path}: {error}") from None
    if count > _VALUES:
        raise ConfigError(f"{path} holds more than {_VALUES:,} values, aliases written out; make it smaller")
    return data


def _count(value: object, counted: dict[int, int | None], at: tuple[str, ...]) -> int:
    """Returns the number of values in `value`, in time that aliases do not multiply.

    Args:
        value: as YAML gives it.
        counted: numbers of the lists and mappings that were counted already; None of those around `value`.
        at: the names that lead to `value`, for messages.

    Raises:
        ConfigError: a value that contains itself, lies too deep or is not of a plain kind, or a name that is not text.
    """
    where = ".".join(at) or "the whole"
    if not isinstance(value, (dict, list)):
        if not isinstance(value, _KINDS) or (isinstance(value, int) and abs(value) > _INTEGERS):
            kinds = "text (in quotes), a number, true, false, null or a list"
            raise ConfigError(f"{where} is {reprlib.repr(value)}, which no setting can be; write {kinds}")
        return 1
    if len(at) > _DEPTH:
        raise ConfigError(f"{where} lies more than {_DEPTH} levels deep; no setting does: remove it")
    if id(value) not in counted:
        counted[id(value)] = None
        items = value.items() if isinstance(value, dict) else ((str(place), each) for place, each in enumerate(value))
        count = 1
        for name, each in items:
            if not isinstance(name, str):
                raise ConfigError(f"{where} has the name {reprlib.repr(name)}, which is not text; put it in quotes")
            count += _count(each, counted, (*at, name))
        counted[id(value)] = count
    known = counted[id(value)]
    if known is None:
        raise ConfigError(f"{where} contains itself by an alias; write its values out")
    return known
