"""Checks of the fields of settings and hyperparameters. Imports no torch."""

from __future__ import annotations

from jukebox_core.errors import ConfigError


def require(condition: bool, message: str) -> None:
    """Raises ConfigError with `message` unless `condition` holds."""
    if not condition:
        raise ConfigError(message)


def require_positive(owner: object, *names: str) -> None:
    """Raises ConfigError, which names the first of these fields of `owner` that is not above 0, if there is one."""
    for name in names:
        value = getattr(owner, name)
        require(value > 0, f"{name} is {value}; it must be positive")
