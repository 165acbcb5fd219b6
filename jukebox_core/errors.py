"""Every error this project raises on purpose, and how an error speaks.

    JukeboxError
    ├── ConfigError       a setting: unknown, of the wrong type, out of range, at odds with another one
    ├── LabelError        an artist, a genre or lyrics that the model does not know
    ├── AudioError        a file that is missing, empty, not audio, too short or broken
    ├── NotesError        notes or a MIDI file that are missing, damaged or out of range
    ├── CheckpointError   weights that are truncated, unsafe, misshapen or of another model
    ├── DownloadError     a file that no source could deliver whole
    ├── NumericsError     numbers that are not finite, in logits, codes or audio
    ├── DeviceError       a device that does not exist, or has too little memory
    ├── StoreError        the token store: unreachable, full, refused
    │   ├── DamagedError      a stored object whose digest or form is wrong; it was set aside
    │   ├── UnreachableError  a store that does not answer now, and may later
    │   └── DiskError         a disk that is full, read-only, failing or not ours to write
    ├── TrainingError     a training that cannot continue: a loss that is not finite, or another checkpoint
    ├── RecordError       a file of this program's own that is damaged: a manifest, a pin, a stored configuration
    │   └── NewerRecordError  a file that a newer version of this program wrote
    └── RunError          a run: unknown, unfinished, or of another model
        └── DamagedRunError   a run whose manifest or configuration is damaged

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
    """An artist, a genre or lyrics that the model does not know; `kind`, artists or genres, and `name` of a name."""

    def __init__(self, message: str, *, kind: str | None = None, name: str = "") -> None:
        super().__init__(message)
        self.kind, self.name = kind, name


class AudioError(JukeboxError, ValueError):
    """A file that is missing, empty, not audio, too short or broken."""


class NotesError(JukeboxError, ValueError):
    """Notes, or a file of notes, that are missing, damaged or out of range."""


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


class DiskError(StoreError, OSError):
    """A file cannot be written: its disk is full, read-only or failing, or something else is in its place.

    It is an OSError too, with the number of its cause in `errno`, for those who can do without the file.
    """

    def __init__(self, message: str, number: int | None = None) -> None:
        super().__init__(message)
        self.errno = number
        self.strerror = message

    def __str__(self) -> str:
        return str(self.args[0])


class TrainingError(JukeboxError):
    """A training cannot continue: its loss is not finite, or its checkpoint is another training's."""


class RecordError(JukeboxError):
    """A file that this program writes for itself is damaged: not a file, too large, or not what was written."""


class NewerRecordError(RecordError):
    """A newer version of this program wrote the file, in a form that is unknown here."""


class RunError(JukeboxError):
    """A run is unknown, unfinished, or of another model."""


class DamagedRunError(RunError):
    """The manifest or the configuration of a run is damaged; its tokens are in the store."""


def did_you_mean(value: str, choices: Iterable[str], *, limit: int = 3) -> str:
    """Returns ``"; closest: 'a', 'b'"`` for near misses of ``value``, or an empty string if nothing is near."""
    listed = list(dict.fromkeys(choices))
    near = difflib.get_close_matches(value, listed, n=limit, cutoff=0.6)
    if not near and len(value) > 1:  # a part of a name: its beginning, or what is in it
        within = [each for each in listed if value.lower() in each.lower()]
        near = sorted(within, key=lambda each: (not each.lower().startswith(value.lower()), len(each)))[:limit]
    return f"; closest: {', '.join(map(repr, near))}" if near else ""
