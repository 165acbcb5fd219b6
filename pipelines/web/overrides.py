"""Settings of requests as overrides of commands: only those that describe music, never files, places or programs.

Storage, weights, models by path, hardware, workers of clusters and Hydra's own settings are decided by who starts
``jukebox web``, not by who has the page open. Imports no torch.
"""

from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING, Any

from jukebox_core.errors import ConfigError, did_you_mean
from jukebox_core.models.presets import option_names
from pipelines.settings.overrides import escaped, quoted

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

ALLOWED = (
    "seconds", "sampling.*", "song.artist", "song.genre", "song.lyrics", "song.total_seconds", "song.offset_seconds",
    "prompt.seconds", "prompt.offset_seconds", "choose.after_level", "align", "alignment.*", "output.format",
    "runner.schedule", "mask.*", "transcription.*", "offset_seconds", "midi", "csv",
)  # fmt: skip
_PATTERN = re.compile(
    "|".join(re.escape(each).replace(r"\.\*", r"(?:\.[a-z][a-z0-9_]{0,40}){1,2}") for each in ALLOWED)
)
_WORD = re.compile(r"[A-Za-z][A-Za-z0-9_-]*(?: [A-Za-z0-9_-]+)*")  # text that Hydra reads as it is
_NOT_TEXT = frozenset({"null", "true", "false", "nan", "inf", "on", "off", "yes", "no"})
LONGEST_TEXT = 20_000  # characters


def check_allowed(settings: Mapping[str, Any]) -> None:
    """Checks that a request sets only what requests may set.

    Raises:
        ConfigError: it sets something else.
    """
    for name in settings:
        if not _PATTERN.fullmatch(name):
            raise ConfigError(
                f"{name[:80]!r} is no setting of requests, which may set {', '.join(ALLOWED)}; leave it out, or give "
                f"it to `jukebox web`{did_you_mean(name, ALLOWED)}"
            )


def check_model(name: str) -> str:
    """Returns the name of a model that comes with the program.

    Raises:
        ConfigError: there is none of that name; a path is none.
    """
    names = [each for each in option_names("model") if not each.startswith("_")]
    if name not in names:
        raise ConfigError(f"model is {name[:80]!r}; choose one of {', '.join(names)}{did_you_mean(name, names)}")
    return name


def written(settings: Mapping[str, Any]) -> Iterator[str]:
    """Yields settings as overrides, in Hydra's grammar; those that are None are left out.

    Raises:
        ConfigError: a value is text that is too long, or of a kind that no setting has.
    """
    for name, value in settings.items():
        if value is not None:
            yield f"{name}={_value(name, value)}"


def _value(name: str, value: Any) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, (int, float)):
        return json.dumps(value)
    if isinstance(value, (list, tuple)):
        return f"[{','.join(_value(name, each) for each in value)}]"
    if isinstance(value, dict):
        return "{" + ",".join(f"{_key(key)}:{_value(name, each)}" for key, each in value.items()) + "}"
    if value is None:
        return "null"
    if not isinstance(value, str):
        raise ConfigError(f"{name} is a {type(value).__name__}; write a number, text, true, false or a list of these")
    if len(value) > LONGEST_TEXT:
        raise ConfigError(f"{name} has {len(value):,} characters; a request has at most {LONGEST_TEXT:,}: shorten it")
    if _WORD.fullmatch(value) and value.lower() not in _NOT_TEXT:
        return value
    return quoted(escaped(value))


def _key(name: str) -> str:
    if not re.fullmatch(r"[a-z][a-z0-9_]{0,40}", name):
        raise ConfigError(f"{name[:40]!r} is no name of a setting; write small letters, digits and _")
    return name
