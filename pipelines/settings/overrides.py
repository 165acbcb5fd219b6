"""Values that users write and that runs store, as Hydra and OmegaConf take them: text stays the text that it is.

- Hydra's grammar knows few characters outside quotes. Text that it cannot read is quoted here, so that
  ``song.artist=Beyoncé`` and ``song.lyrics=hello, world`` need no second pair of quotes.
- ``${storage.root}`` refers to another setting, and to nothing else: a setting never reads the environment. What is
  stored was resolved before, so it is escaped here and comes back as it was.
- ``???`` marks a value that must be given in OmegaConf's files. As text of a user it is text.

`overrides_as_text` and `escaped` are applied before a composition, `unescaped` and `check_references` after it.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any, get_args, get_origin

from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.errors import HydraException
from omegaconf import OmegaConf

from jukebox_core.base.paths import shortened
from jukebox_core.base.structuring import field_types, record_in
from jukebox_core.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from hydra.core.override_parser.types import Override

_MISSING = "???"
_TEXT_MISSING = "\ufdd0???"  # that text in OmegaConf; no text of a user has this code point, which is no character
_ASSIGNMENT = re.compile(r"(?P<name>\+{0,2}(?P<key>[\w.-]+)=)(?P<value>.*)", re.DOTALL)
_QUOTED = r""""(?:[^"\\]|\\.)*"|'(?:[^'\\]|\\.)*'"""
_PIECES = re.compile(rf"{_QUOTED}|\$\{{[^{{}}]*\}}|[^][{{}}(),:=\"']+|.", re.DOTALL)  # of a list or section
_PLAIN = re.compile(r"[\w\s/\\+.$%*@?|-]*", re.ASCII)  # Hydra reads it without quotes
_REFERENCE = re.compile(r"(?P<slashes>\\*)\$\{")
_RESOLVER = re.compile(  # ${name:argument}, not after a backslash
    r"(?<!\\)(?:\\\\)*(?P<text>\$\{(?:[^{}:]|\$\{[^{}]*\})*:[^{}]*\}?)"
)
_ONLY_NAMES = (
    "a setting refers to others by name alone, as in ${storage.root}, and reads neither the environment nor the time; "
    r"write the value itself, or \${ where text begins with ${"
)


def parse(override: str) -> Override:
    """Returns an override in Hydra's form.

    Raises:
        HydraException: it does not follow the grammar.
        ConfigError: it nests far too deep.
    """
    try:
        [parsed] = OverridesParser.create().parse_overrides([override])
    except RecursionError:
        raise ConfigError(f"{shortened(override)} nests too deep; write fewer brackets") from None
    return parsed


def overrides_as_text(
    kind: type, overrides: Sequence[str], family: Callable[[], str], *, sweep: bool = False
) -> list[str]:
    """Returns overrides that Hydra can read: text is quoted where its grammar lacks a character.

    Overrides that remain wrong are returned as they are; composing them raises the error.

    Args:
        kind: the settings' type; it says which settings are text.
        overrides: as a user wrote them.
        family: returns the name of the model's family, which decides the types of some sections.
        sweep: whether commas separate the values of a sweep.

    Raises:
        ConfigError: an override refers to something else than settings, or nests too deep.
    """
    return [_as_text(kind, override, family, sweep=sweep) for override in overrides]


def _as_text(kind: type, override: str, family: Callable[[], str], *, sweep: bool) -> str:
    _refuse_resolvers(override, override.partition("=")[0].lstrip("+~"))
    found = _ASSIGNMENT.fullmatch(override)
    if found is None:
        return override
    parsed = _parsed(override)
    if parsed is not None and (sweep or not parsed.is_sweep_override()):
        if parsed.is_sweep_override() or parsed.value() != _MISSING or not _is_text(kind, found["key"], family):
            return override
        return found["name"] + quoted(_TEXT_MISSING)
    pieces = found["name"] + "".join(map(_quoted_piece, _PIECES.findall(found["value"])))
    whole = found["name"] + quoted(found["value"].strip())
    can_be_pieces = _parsed(pieces) is not None
    can_be_whole = _is_text(kind, found["key"], family, one=not set("[{,") & set(found["value"]))
    if can_be_whole and not (sweep and can_be_pieces):
        return whole
    return pieces if can_be_pieces else override


def quoted(text: str) -> str:
    """Returns `text` as Hydra's grammar quotes it."""
    return '"' + re.sub(r'(\\*)("|$(?!\n))', lambda m: m[1] * 2 + m[2].replace('"', r"\""), text) + '"'


def escaped(value: Any) -> Any:
    """Returns plain data of which OmegaConf makes the same data again, whatever its text looks like."""
    if isinstance(value, dict):
        return {name: escaped(each) for name, each in value.items()}
    if isinstance(value, (list, tuple)):
        return [escaped(each) for each in value]
    if value == _MISSING:
        return _TEXT_MISSING
    return _REFERENCE.sub(r"\g<slashes>\g<slashes>\\${", value) if isinstance(value, str) else value


def unescaped(value: Any, at: str = "") -> Any:
    """Returns resolved settings with the text that stood for other text in OmegaConf; `at` is their dotted key.

    Raises:
        ConfigError: text that is not UTF-8 or has a NUL in it: neither can be stored.
    """
    if isinstance(value, dict):
        return {name: unescaped(each, f"{at}.{name}".lstrip(".")) for name, each in value.items()}
    if isinstance(value, list):
        return [unescaped(each, f"{at}.{place}") for place, each in enumerate(value)]
    if not isinstance(value, str):
        return value
    if "\0" in value:
        raise ConfigError(f"{at} is {shortened(value)}; text has no NUL: leave it out")
    try:
        value.encode()
    except UnicodeEncodeError:
        raise ConfigError(
            f"{at} is {shortened(value)}, which is not UTF-8; write it in UTF-8, and rename a file whose name is not"
        ) from None
    return value.replace(_TEXT_MISSING, _MISSING)


def check_references(value: Any, at: str = "") -> None:
    """Checks that settings, not resolved yet, refer to settings only; `at` is their dotted key.

    Raises:
        ConfigError: they refer to something else, such as the environment.
    """
    if isinstance(value, dict):
        for name, each in value.items():
            check_references(each, f"{at}.{name}".lstrip("."))
    elif isinstance(value, list):
        for place, each in enumerate(value):
            check_references(each, f"{at}.{place}")
    elif isinstance(value, str):
        _refuse_resolvers(value, at)


def _refuse_resolvers(text: str, key: str) -> None:
    if found := _RESOLVER.search(text):
        raise ConfigError(f"{key} has {shortened(found['text'])} in it; {_ONLY_NAMES}")


def _parsed(override: str) -> Override | None:
    try:
        return parse(override)
    except HydraException:
        return None


def _quoted_piece(piece: str) -> str:
    if piece[0] in "\"'[]{}(),:=$" or _PLAIN.fullmatch(piece):
        return piece
    text = piece.strip()
    return piece.replace(text, quoted(text))


def _is_text(kind: Any, dotted: str, family: Callable[[], str], *, one: bool = False) -> bool:
    """Whether a dotted key is a setting whose value is text, or text or null; with `one`, or a list of texts."""
    here: Any = kind
    data: Mapping[str, Any] | None = None
    for name in dotted.split("."):
        if get_origin(here) in (tuple, dict):
            here = get_args(here)[get_origin(here) is dict]
        elif (record := record_in(here)) is None:
            return False
        else:
            data = data or {"family": family(), "model": {"family": family()}}
            here = field_types(record, data).get(name)
    return here is str or set(get_args(here)) == {str, type(None)} or (one and here == tuple[str, ...])


def _refuse(*_: object) -> None:
    raise ConfigError(_ONLY_NAMES)


for _name in ("create", "decode", "deprecated", "dict.keys", "dict.values", "env", "select"):
    OmegaConf.register_new_resolver(f"oc.{_name}", _refuse, replace=True)
