"""The settings of `jukebox models`: the section `weights` with overrides, usually without Hydra.

Hydra takes half a second to import and compose, more than most of these commands need. So plain values, as in
``weights.folder=/data``, are read here; any other form of Hydra's grammar is left to Hydra. A test holds both equal.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from jukebox_core.base.paths import conf_dir
from jukebox_core.base.structuring import build
from jukebox_core.base.yaml_files import load_yaml
from jukebox_core.models.config import WeightsConfig  # noqa: TC001  records are built by reading annotations

if TYPE_CHECKING:
    from collections.abc import Sequence


_OVERRIDE = re.compile(r"weights\.(?P<name>\w+)=(?P<value>.*)", re.DOTALL)
_NUMBER = re.compile(r"0|[1-9][0-9]{0,17}")
_TEXT = re.compile(r"[A-Za-z_/.][\w/.:@%-]*", re.ASCII)
_WORDS = {"true": True, "false": False, "null": None}
_NUMBERS = frozenset({"nan", "inf", "infinity"})  # numbers, as Hydra reads them


class _NotPlainError(Exception):
    """A value that only Hydra and OmegaConf understand."""


@dataclass(frozen=True, kw_only=True, slots=True)
class ModelsSettings:
    """The settings of `jukebox models` (root conf/models.yaml)."""

    weights: WeightsConfig


def weights_settings(overrides: Sequence[str]) -> WeightsConfig:
    """Returns the section `weights` of conf/ with `overrides`, in Hydra's grammar.

    Raises:
        ConfigError: an override or a value does not fit; every known mistake, a line each.
    """
    try:
        section = _section(overrides)
    except _NotPlainError:
        from pipelines.settings.compose import Root, compose

        return compose(Root("models", ModelsSettings), overrides).weights
    return build(ModelsSettings, {"weights": section}).weights


def _section(overrides: Sequence[str]) -> dict[str, Any]:
    section = load_yaml(conf_dir() / "weights" / "default.yaml")
    for override in overrides:
        found = _OVERRIDE.fullmatch(override)
        if found is None or found["name"] not in section:
            raise _NotPlainError
        section[found["name"]] = _value(found["value"])
    return section


def _value(text: str) -> object:
    """Returns the value that Hydra reads from `text`: a word, a whole number, plain text, or a list of these."""
    if text.startswith("[") and text.endswith("]"):
        return [_scalar(part.strip()) for part in text[1:-1].split(",")] if text != "[]" else []
    return _scalar(text)


def _scalar(text: str) -> object:
    if text.lower() in _WORDS:
        return _WORDS[text.lower()]
    if _NUMBER.fullmatch(text):
        return int(text)
    if not _TEXT.fullmatch(text) or text.lower() in _NUMBERS or re.match(r"\.?[0-9]", text):
        raise _NotPlainError
    return text
