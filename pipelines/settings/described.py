"""Settings as rows for people: name, default and meaning, read from the records. Imports neither torch nor Hydra."""

from __future__ import annotations

import dataclasses
import re
import types
from typing import TYPE_CHECKING, Any, Literal, NamedTuple, Union, cast, get_args, get_origin

from jukebox_core.base.meanings import meanings
from jukebox_core.base.structuring import field_types, record_in

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

MISSING = "???"  # marks a value that must be given
_NUMBERED = re.compile(r"(?P<stem>\w*_)\d+")


class Row(NamedTuple):
    """One setting."""

    name: str  # dotted
    default: str
    meaning: str


def rows(kind: type, data: Mapping[str, Any], prefix: str = "") -> list[Row]:
    """Returns the settings of a record, those of its sections included, in the order of its fields.

    Sections of one type that are numbered share rows, in which ``N`` stands for the number.

    Args:
        kind: the record.
        data: its values as plain data, `MISSING` where one must be given. Those that it lacks have their defaults.
        prefix: dotted name of the section, with a dot at its end.
    """
    return _joined(_rows(kind, data, prefix))


def _rows(kind: type, data: Mapping[str, Any], prefix: str) -> Iterator[Row]:
    known, words = field_types(kind, data), meanings(kind)
    defaults = {field.name: field.default for field in dataclasses.fields(cast("Any", kind))}
    for name, type_of in known.items():
        value = data.get(name, defaults[name])
        record = record_in(type_of) if get_origin(type_of) not in (tuple, dict) else None
        if record is not None and value is not None:
            inner = value if isinstance(value, dict) else {}
            yield from _rows(record, inner, f"{prefix}{name}.")
        else:
            yield Row(prefix + name, _shown(value), _with_choices(words.get(name, ""), type_of))


def _joined(found: Iterable[Row]) -> list[Row]:
    """Returns the rows with those of numbered sections joined; where their defaults differ, all of them are listed."""
    groups: dict[tuple[str, str], list[Row]] = {}
    for row in found:
        section, _, name = row.name.rpartition(".")
        groups.setdefault((_NUMBERED.sub(r"\g<stem>N", section) + "." * bool(section) + name, row.meaning), []).append(
            row
        )
    joined = []
    for (name, meaning), members in groups.items():
        values = [member.default for member in members]
        default = values[0] if len(set(values)) == 1 else ", ".join(values)
        joined.append(members[0] if len(members) == 1 else Row(name, default, meaning))
    return joined


def _shown(value: object) -> str:
    if value == MISSING or value is dataclasses.MISSING:
        return "(needed)"
    if value is None:
        return "null"
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, (list, tuple)):
        return f"[{', '.join(map(_shown, value))}]"
    if isinstance(value, dict):
        return f"{{{', '.join(f'{key}: {_shown(each)}' for key, each in value.items())}}}"
    text = f"{value:g}" if isinstance(value, float) else str(value)
    return text.replace("\n", " ") or "''"


def _with_choices(meaning: str, type_of: Any) -> str:
    """Returns a meaning with the values that a setting can have, unless the words name them all."""
    options = get_args(type_of) if get_origin(type_of) in (Union, types.UnionType) else (type_of,)
    choices = [str(value) for option in options if get_origin(option) is Literal for value in get_args(option)]
    if not choices or all(re.search(rf"\b{re.escape(each)}\b", meaning) for each in choices):
        return meaning
    return f"{meaning}; " * bool(meaning) + f"one of {', '.join(choices)}"
