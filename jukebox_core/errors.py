"""Every error this project raises on purpose, and how an error speaks.

    JukeboxError
    ├── ConfigError       a setting: unknown, of the wrong type, out of range, at odds with another one
    ├── LabelError        an artist, a genre or lyrics that the model does not know
    ├── AudioError        a file that is missing, empty, not audio, too short or broken
    ├── CheckpointError   weights that are truncated, unsafe, misshapen or of another model
    ├── DownloadError     a file that no source could deliver whole
    ├── NumericsError     numbers that are not finite, in logits, codes or audio
    ├── DeviceError       a device that does not exist, or has too little memory
    ├── StoreError        the token store: unreachable, full, refused
    │   ├── DamagedError      a stored object whose digest or form is wrong; it was set aside
    │   └── UnreachableError  a store that does not answer now, and may later
    ├── TrainingError     a training that cannot continue: a loss that is not finite, or another checkpoint
    └── RunError          a run: unknown, unfinished, or of another model

Each message gives the value, the rule it breaks, and the remedy.
"""

from __future__ import annotations

import difflib
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable


class JukeboxError(Exception):
    """The root of the tree; catch this to catch all of them."""

    at_work = False  # whether it was raised while work went on, rather than by a check before it


class ConfigError(JukeboxError, ValueError):
    """A setting is unknown, of the wrong type, out of range, or at odds with another one."""


class LabelError(JukeboxError, ValueError):
    """An artist, a genre or lyrics that the model does not know."""


class AudioError(JukeboxError, ValueError):
    """A file that is missing, empty, not audio, too short or broken."""


class CheckpointError(JukeboxError):
    """Weights that are truncated, unsafe, misshapen or of another model."""


class DownloadError(JukeboxError):
    """A file that no source could deliver whole."""


class NumericsError(JukeboxError):
    """A network computes numbers that are not finite: NaN or infinity. What it made of them is not stored."""


class DeviceError(JukeboxError):
    """A device that does not exist, or that has too little memory."""


class StoreError(JukeboxError):
    """The token store is unreachable, full, or refused an operation."""


class DamagedError(StoreError):
    """A stored object, `name`, has the wrong digest or form; it was set aside."""

    def __init__(self, message: str, name: str = "") -> None:
        super().__init__(message)
        self.name = name


class UnreachableError(StoreError):
    """The token store does not answer, for a reason that may pass by itself."""


class TrainingError(JukeboxError):
    """A training cannot continue: its loss is not finite, or its checkpoint is another training's."""


class RunError(JukeboxError):
    """A run is unknown, unfinished, or of another model."""


def did_you_mean(value: str, choices: Iterable[str], *, limit: int = 3) -> str:
    """Returns ``"; closest: 'a', 'b'"`` for near misses of ``value``, or an empty string if nothing is near."""
    near = difflib.get_close_matches(value, list(choices), n=limit, cutoff=0.6)
    return f"; closest: {', '.join(map(repr, near))}" if near else ""
