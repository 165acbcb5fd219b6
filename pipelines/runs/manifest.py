"""The shape of a run's manifest. Imports neither torch nor Prefect.

Every reader of a manifest may rely on these types: `read_manifest` refuses a file that lacks them. Entries that are not
listed are kept as they are.
"""

from __future__ import annotations

import platform
from dataclasses import dataclass, field
from datetime import datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import PurePosixPath
from typing import TYPE_CHECKING, Any, ClassVar

from jukebox_core.base.records import read_record
from jukebox_core.errors import ConfigError, DamagedRunError, NewerRecordError, RecordError, RunError
from jukebox_core.runtime.config import ENGINE_VERSION

if TYPE_CHECKING:
    from pathlib import Path

MANIFEST_SCHEMA = 1
_ORIGINAL_FILES = 5  # of `pipelines.execution.originals`
_REMEDY = "run the command that made it again, which keeps the file and makes a new one, or remove the run"


@dataclass(frozen=True, kw_only=True, slots=True)
class _Model:
    extensible: ClassVar[bool] = True
    name: str


@dataclass(frozen=True, kw_only=True, slots=True)
class _Sampling:
    extensible: ClassVar[bool] = True
    n_samples: int
    stop_level: int


@dataclass(frozen=True, kw_only=True, slots=True)
class _Prompt:
    extensible: ClassVar[bool] = True
    files: tuple[str, ...] = ()


@dataclass(frozen=True, kw_only=True, slots=True)
class _Identity:
    extensible: ClassVar[bool] = True
    model: _Model
    sampling: _Sampling
    seconds: float
    dtype: str
    song: dict[str, Any] = field(default_factory=dict)
    songs: tuple[dict[str, Any], ...] = ()
    prompt: _Prompt = _Prompt()
    source: dict[str, Any] | None = None


@dataclass(frozen=True, kw_only=True, slots=True)
class _File:
    """A file of the run: audio, codes or a picture."""

    extensible: ClassVar[bool] = True
    path: str
    sha256: str | None = None
    tokens: str | None = None
    level: int | None = None
    sample: int | None = None
    seconds: float | None = None
    peak: float | None = None
    rms: float | None = None
    sound: str | None = None  # of a picture: the sha256 of the audio that it shows

    def __post_init__(self) -> None:
        """Checks that the file is inside the run's folder."""
        path = PurePosixPath(self.path)
        if path.is_absolute() or ".." in path.parts or not path.parts or "\0" in self.path:
            raise ConfigError(f"path is {self.path!r}; it must be the path of a file in the run's folder")


@dataclass(frozen=True, kw_only=True, slots=True)
class _Alignment:
    """The words of a sample in time with its music."""

    extensible: ClassVar[bool] = True
    sample: int
    causes: str  # digest of all that decides the times
    files: tuple[_File, ...]


@dataclass(frozen=True, kw_only=True, slots=True)
class _Original:
    """The recording that a sample varies, as sound and pictures, and the mask."""

    extensible: ClassVar[bool] = True
    sample: int
    causes: str  # digest of the tokens that are shown
    files: tuple[_File, ...]
    seconds: float
    peak: float
    rms: float

    def __post_init__(self) -> None:
        """Checks that all files are recorded."""
        if len(self.files) != _ORIGINAL_FILES:
            raise ConfigError(f"files has {len(self.files)} entries; it must have {_ORIGINAL_FILES}")


@dataclass(frozen=True, kw_only=True, slots=True)
class _Timing:
    extensible: ClassVar[bool] = True
    stage: str
    seconds: float
    level: int | None = None
    tokens: int | None = None
    windows: int | None = None
    reused: int | None = None


@dataclass(frozen=True, kw_only=True, slots=True)
class _Splice:
    extensible: ClassVar[bool] = True
    run: str
    sample: int
    from_seconds: float
    to_seconds: float | None


@dataclass(frozen=True, kw_only=True, slots=True)
class _Parent:
    extensible: ClassVar[bool] = True
    run: str
    command: str
    samples: tuple[int, ...] = ()
    keep_seconds: float | None = None
    splice: tuple[_Splice, ...] = ()
    begins_seconds: tuple[float, ...] = ()


@dataclass(frozen=True, kw_only=True, slots=True)
class _Heard:
    """The part of a prompt's file that the songs start with."""

    extensible: ClassVar[bool] = True
    path: str
    samples: int
    sha256: str


@dataclass(frozen=True, kw_only=True, slots=True)
class _MadeFrom:
    extensible: ClassVar[bool] = True
    prompts: tuple[_Heard, ...] = ()
    vocabularies: dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True, slots=True)
class Manifest:
    """The content of manifest.json."""

    extensible: ClassVar[bool] = True
    schema: int
    identity: _Identity
    run: str = ""
    settings: dict[str, Any] | None = None
    created: str | None = None
    finished: str | None = None
    status: str = "planned"
    stopped_by: str | None = None
    process: str | None = None
    versions: dict[str, str] = field(default_factory=dict)
    licence: str | None = None
    store: str | None = None
    lock: str | None = None
    weights: dict[str, str] = field(default_factory=dict)
    made_from: _MadeFrom | None = None
    takes: tuple[tuple[tuple[str, ...], ...], ...] | None = None  # null: not planned yet
    kept: tuple[tuple[int, ...], ...] | None = None
    parent: _Parent | None = None
    audio: tuple[_File, ...] = ()
    codes: tuple[_File, ...] = ()
    pictures: tuple[_File, ...] = ()
    alignment: tuple[_Alignment, ...] = ()
    originals: tuple[_Original, ...] = ()
    report: _File | None = None
    timings: tuple[_Timing, ...] = ()
    earlier_timings: tuple[_Timing, ...] = ()

    def __post_init__(self) -> None:
        """Checks times, and that what is kept fits the takes."""
        for name in ("created", "finished"):
            _check_time(name, getattr(self, name))
        if self.kept and [len(take) for take in self.takes or ()] != [len(lengths) for lengths in self.kept]:
            raise ConfigError("kept has other levels than takes; it must have a length for each of their tracks")


def read_manifest(path: Path) -> dict[str, Any]:
    """Returns the manifest in a file, in which the entries of `Manifest` have its types.

    Raises:
        FileNotFoundError: there is none.
        DamagedRunError: it is damaged.
        RunError: a newer version of this program wrote it.
    """
    try:
        return read_record(path, Manifest, MANIFEST_SCHEMA)
    except NewerRecordError as error:
        raise RunError(str(error)) from None
    except RecordError as error:
        raise DamagedRunError(f"{error}; {_REMEDY}") from None


def _check_time(name: str, value: str | None) -> None:
    try:
        datetime.fromisoformat(value or "2026-01-01")
    except ValueError:
        raise ConfigError(f"{name} is {value!r}; it must be a time, as in 2026-01-31T12:00:00+00:00") from None


def versions() -> dict[str, str]:
    """Returns the versions of Python, the engine and all packages that can change a result, for the manifest."""
    found = {"python": platform.python_version(), "engine": str(ENGINE_VERSION)}
    for package in ("jukebox-pipelines", "torch", "numpy", "prefect", "hydra-core", "soundfile", "soxr"):
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            found[package] = "not installed"
    return found
