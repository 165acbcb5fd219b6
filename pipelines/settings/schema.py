"""JSON schemas of settings, from their records. Imports neither torch nor OmegaConf."""

from __future__ import annotations

import dataclasses
from typing import Any, Literal, get_args, get_origin

from jukebox_core.base.meanings import meanings
from jukebox_core.base.structuring import field_types, record_in, to_plain

_PLAIN: dict[Any, dict[str, Any]] = {
    bool: {"type": "boolean"},
    int: {"type": "integer"},
    float: {"type": "number"},
    str: {"type": "string"},
    type(None): {"type": "null"},
    Any: {},
}


def schema(kind: Any, data: dict[str, Any] | None = None) -> dict[str, Any]:
    """Returns the JSON schema of a record of settings.

    Args:
        kind: the dataclass.
        data: plain settings that decide the types of some sections, such as ``{"model": {"family": "jukebox"}}``.
    """
    properties: dict[str, Any] = {}
    types, required, said = field_types(kind, data or {}), [], meanings(kind)
    for field in dataclasses.fields(kind):
        found = _of(types[field.name], (data or {}).get(field.name))
        if field.default is not dataclasses.MISSING:
            found = {**found, "default": _plain(field.default)}
        elif field.default_factory is not dataclasses.MISSING:
            found = {**found, "default": _plain(field.default_factory())}
        else:
            required.append(field.name)
        if text := said.get(field.name):
            found = {**found, "description": text}
        properties[field.name] = found
    extensible = getattr(kind, "extensible", False)
    return {
        "title": kind.__name__,
        "type": "object",
        "properties": properties,
        "required": required,
        "additionalProperties": extensible,
    }


def _of(kind: Any, data: dict[str, Any] | None) -> dict[str, Any]:
    if kind in _PLAIN:
        return dict(_PLAIN[kind])
    origin, arguments = get_origin(kind), get_args(kind)
    if origin is Literal:
        return {"enum": list(arguments)}
    if origin is tuple:
        return {"type": "array", "items": _of(arguments[0], data)}
    if origin is dict:
        return {"type": "object", "additionalProperties": _of(arguments[1], data)}
    if dataclasses.is_dataclass(kind):
        return schema(kind, data)
    if arguments:  # a union
        return {"anyOf": [_of(each, data) for each in arguments]}
    record = record_in(kind)
    return {} if record is None else schema(record, data)


def _plain(value: Any) -> Any:
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return to_plain(value)
    return [_plain(each) for each in value] if isinstance(value, tuple) else value
