"""Errors of Hydra and OmegaConf as messages of this project: the value, the rule, the remedy."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any, get_args, get_origin

from hydra.errors import MissingConfigException, OverrideParseException
from omegaconf.errors import (
    ConfigTypeError,
    GrammarParseError,
    InterpolationResolutionError,
    MissingMandatoryValue,
    OmegaConfBaseException,
)

from jukebox_core.base.structuring import field_types, record_in, unknown_key
from jukebox_core.errors import ConfigError
from jukebox_core.models.presets import no_option

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

_UNKNOWN = re.compile(r"Could not (?:override|delete from config\.) '(?P<key>[^']+)'")
_TAKEN = re.compile(r"Could not append to config\. An item is already at '(?P<key>[^']+)'")
_SWEEP = re.compile(r"Ambiguous value for argument '(?P<key>[^=]+)=(?P<value>.*)'")
_FOLDER = re.compile(r"provider=.*?, path=(?:file://)?(?P<path>.*) is not")


def explain(error: Exception, kind: type, overrides: Sequence[str], data: Mapping[str, Any]) -> ConfigError:
    """Returns one ConfigError for an error that Hydra or OmegaConf raised while composing settings of type `kind`.

    `data` names the model's family, which decides the types of some sections.
    """
    return error if isinstance(error, ConfigError) else ConfigError(_message(error, kind, overrides, data))


def _message(error: Exception, kind: type, overrides: Sequence[str], data: Mapping[str, Any]) -> str:
    text = str(error)
    if isinstance(error, OverrideParseException):
        why = text.splitlines()[0].partition(" expecting")[0]
        return (
            f"{error.override!r} cannot be understood ({why}); write name=value, "
            """and quote text with punctuation twice, as in 'song.lyrics="one (two)"'"""
        )
    if isinstance(error, MissingConfigException) and error.missing_cfg_file:
        group, _, name = error.missing_cfg_file.rpartition("/")
        return no_option(group or "config", name, list(error.options or ()))
    if isinstance(error, MissingMandatoryValue):
        return f"{error.full_key} has no value; give {error.full_key}=..."
    if isinstance(error, OmegaConfBaseException):
        refers = isinstance(error, InterpolationResolutionError | GrammarParseError)
        remedy = r"; name a setting that exists, as in ${storage.root}, or write \${ for the text ${" if refers else ""
        return f"{error.full_key or 'the settings'}: {text.splitlines()[0]}{remedy}"
    if found := _FOLDER.search(text):
        return f"hydra.searchpath names {found['path']}, which is not a folder; name folders, as in [file:///my/conf]"
    if found := _TAKEN.search(text):
        return f"{found['key']} exists already; write {found['key']}=... without the +"
    if found := _SWEEP.search(text):
        key, value = found["key"], found["value"]
        return (
            f"{key} is {value!r}, which could be several things; for a list write {key}=[{value}], "
            f"""for one text '{key}="{value}"', and for a run with each of them add --multirun"""
        )
    if found := _UNKNOWN.search(text):
        return _unknown(kind, found["key"], data)
    if isinstance(error.__cause__, ConfigTypeError) and error.__cause__.full_key:
        key, rule = error.__cause__.full_key, _rule(error.__cause__)
        value = next((each.partition("=")[2] for each in overrides if each.startswith(f"{key}=")), "something else")
        return f"{key} is {value}; it must be {rule}"
    given = f" (given: {' '.join(overrides)})" if overrides else ""
    return " ".join(text.split()) + given


def _rule(error: ConfigTypeError) -> str:
    """Returns what a setting must be into which something of another type was to be merged."""
    return "a list, as in [a, b]" if "with ListConfig" in str(error) else "a section of names and values"


def _unknown(kind: Any, dotted: str, data: Mapping[str, Any]) -> str:
    """Returns the message for a dotted key that Hydra did not find in the composed settings."""
    here = kind
    walked: list[str] = []
    for name in dotted.split("."):
        if get_origin(here) in (tuple, dict):
            here = get_args(here)[get_origin(here) is dict]
        elif (record := record_in(here)) is None:
            return f"{dotted} is not a setting; {'.'.join(walked)} is a single value"
        elif name in field_types(record, data):
            here = field_types(record, data)[name]
        else:
            return unknown_key(record, name, ".".join(walked))
        walked.append(name)
    if get_origin(here) is dict:
        return f"{dotted} has no entries yet; write a + before it, as in '+{dotted}={{name: value}}'"
    return f"{dotted} cannot be set by itself: the section or list above it is empty; give that as a whole"
