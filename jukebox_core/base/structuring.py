"""From plain data to frozen dataclasses and back, strictly: no unknown key, no missing one, no conversion of types.

Used for everything that a user writes in YAML. The checks of the dataclasses themselves run last, with their own
messages; every message begins with the dotted key of the value it is about.
"""

from __future__ import annotations

import dataclasses
import re
import types
from collections.abc import Mapping
from functools import cache
from typing import TYPE_CHECKING, Any, Literal, TypeVar, Union, cast, get_args, get_origin, get_type_hints

from jukebox_core.errors import ConfigError, did_you_mean

if TYPE_CHECKING:
    from collections.abc import Hashable, Iterator

Record = TypeVar("Record")

_PLAIN: dict[object, tuple[str, tuple[type, ...]]] = {
    bool: ("true or false", (bool,)),
    int: ("a whole number", (int,)),
    float: ("a number", (int, float)),
    str: ("text", (str,)),
}


def build(kind: type[Record], data: object, key: str = "") -> Record:
    """Returns the record of type `kind` that `data` describes.

    Args:
        kind: a dataclass whose fields are plain values, literals, `X | None`, `tuple[X, ...]`, `dict[str, X]` or
            dataclasses of that sort, or `Any`. A plain value in the place of a list of such is a list of one. A class
            variable ``extensible = True`` allows unknown keys.
        data: mappings, lists and plain values, as YAML gives them.
        key: dotted key of `data` within the whole, for messages.

    Raises:
        ConfigError: all problems of one record at once, a line each.
    """
    if not isinstance(data, Mapping):
        raise ConfigError(
            f"{key or kind.__name__} is {data!r}; it must be a section with {', '.join(field_types(kind))}"
        )
    types_of = field_types(kind, data)
    values: dict[str, Any] = {}
    problems = []
    if not getattr(kind, "extensible", False):
        problems = [unknown_key(kind, str(name), key) for name in data if name not in types_of]
    for field in dataclasses.fields(cast("Any", kind)):
        if field.name in data:
            try:
                values[field.name] = _value(types_of[field.name], data[field.name], _join(key, field.name))
            except ConfigError as error:
                problems.append(str(error))
        elif field.default is dataclasses.MISSING and field.default_factory is dataclasses.MISSING:
            problems.append(f"{_join(key, field.name)} is missing; give it a value")
    if problems:
        raise ConfigError("\n".join(problems))
    try:
        return kind(**values)
    except ConfigError as error:
        raise ConfigError(_prefixed(kind, str(error), key)) from None


def to_plain(record: object) -> dict[str, Any]:
    """Returns the mappings, lists and plain values that `build` makes `record` from; ready for YAML or JSON."""
    return cast("dict[str, Any]", _plain(dataclasses.asdict(cast("Any", record))))


def field_types(kind: type[Any], data: Mapping[str, Any] | None = None) -> dict[str, Any]:
    """Returns the type of every field of a dataclass, by name.

    A dataclass whose sections depend on other values has a class method ``section_types(data)``, which returns the
    types of these sections for the plain `data` that the record is built from.
    """
    hints = _hints(cast("Hashable", kind))
    if hasattr(kind, "section_types"):
        hints = {**hints, **kind.section_types(data or {})}
    return {field.name: hints[field.name] for field in dataclasses.fields(kind)}


@cache
def _hints(kind: Hashable) -> dict[str, Any]:
    return get_type_hints(kind)


def unknown_key(kind: type, name: str, key: str = "") -> str:
    """Returns the message for a key `name` that the section `key`, a record of type `kind`, does not have."""
    known = list(field_types(kind))
    inside = [_join(key, path) for path in setting_names(kind) if path.rpartition(".")[2] == name]
    hint = did_you_mean(name, known) or (f"; did you mean {' or '.join(inside[:3])}?" if inside else "")
    whole = f"; {key or 'the whole'} consists of {', '.join(known)}"
    return f"{_join(key, name)} is not a setting{hint or whole}"


def setting_names(kind: type) -> Iterator[str]:
    """Yields the dotted names of all settings in a record of type `kind`, apart from those in lists and tables."""
    for name, type_of in field_types(kind).items():
        yield name
        if get_origin(type_of) not in (tuple, dict) and (record := record_in(type_of)) is not None:
            yield from (f"{name}.{path}" for path in setting_names(record))


def record_in(kind: object) -> type | None:
    """Returns the dataclass in `kind`: itself, or the option of a union that is one; None without one."""
    found = next((option for option in (kind, *get_args(kind)) if dataclasses.is_dataclass(option)), None)
    return cast("type | None", found)


def _value(kind: Any, value: object, key: str) -> object:
    if kind is Any:
        return value
    origin = get_origin(kind)
    if origin in (Union, types.UnionType):
        return None if value is None else _value(_not_none(kind), value, key)
    if origin is Literal:
        return _choice(get_args(kind), value, key)
    if origin is tuple:
        item_kind = get_args(kind)[0]
        if isinstance(value, str | int | float) and item_kind in _PLAIN:
            value = [value]  # one file where a list is expected
        if not isinstance(value, (list, tuple)):
            raise ConfigError(f"{key} is {value!r}; it must be a list, as in [a, b]")
        return tuple(_value(item_kind, item, _join(key, str(i))) for i, item in enumerate(value))
    if origin is dict:
        if not isinstance(value, Mapping):
            raise ConfigError(f"{key} is {value!r}; it must be a section of names and values")
        return {str(name): _value(get_args(kind)[1], item, _join(key, str(name))) for name, item in value.items()}
    if dataclasses.is_dataclass(kind):
        return build(cast("type", kind), value, key)
    words, accepted = _PLAIN[kind]
    if not isinstance(value, accepted) or (isinstance(value, bool) and kind is not bool):
        raise ConfigError(f"{key} is {'null' if value is None else repr(value)}; it must be {words}")
    return float(cast("float", value)) if kind is float else value


def _choice(choices: tuple[object, ...], value: object, key: str) -> object:
    if value not in choices:
        hint = did_you_mean(str(value), map(str, choices))
        raise ConfigError(f"{key} is {value!r}; choose one of {', '.join(map(repr, choices))}{hint}")
    return value


def _not_none(kind: object) -> object:
    [option] = [option for option in get_args(kind) if option is not type(None)]
    return option


def _plain(value: object) -> object:
    if isinstance(value, dict):
        return {name: _plain(item) for name, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(item) for item in value]
    return value


def _prefixed(kind: type, message: str, key: str) -> str:
    """Makes a record's own message begin with its dotted key: 'seed is -1' becomes 'sampling.seed is -1'."""
    first = re.match(r"\w*", message)
    names_field = first is not None and first.group() in field_types(kind)
    return _join(key, message) if names_field else f"{key}: {message}" if key else message


def _join(key: str, name: str) -> str:
    return f"{key}.{name}" if key else name
