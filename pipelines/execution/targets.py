"""The files that `encode` and `decode` write, and which of them an earlier command wrote, as one that was interrupted.

A record beside them, ``.made.json``, says from which content and settings each was made. So the same command skips what
is finished, and never takes another file for it.
"""

from __future__ import annotations

from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from jukebox_core.base.atomic import atomic_write
from jukebox_core.base.hashing import digest, digest_file
from jukebox_core.base.locks import locked
from jukebox_core.base.paths import user_path
from jukebox_core.base.records import dump_record, is_regular, read_record
from jukebox_core.errors import ConfigError, RecordError

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

RECORD_NAME = ".made.json"


@dataclass(frozen=True, slots=True)
class MadeFile:
    """What a file was made from, and its content."""

    causes: str  # digest of source, settings and weights
    sha256: str  # empty while it is being written, which is atomic: a kill after that leaves it whole, and this empty


@dataclass(frozen=True, slots=True)
class MadeFiles:
    """The record of a folder: the files that were made in it, by name."""

    files: dict[str, MadeFile]


@dataclass(frozen=True, slots=True)
class Target:
    """A file to write."""

    source: str
    path: Path

    def causes(self, how: Mapping[str, Any], weights: str) -> str:
        """Returns the digest of the source's content, of the settings and of the weights."""
        source = Path(self.source)
        content = self.source if self.source.startswith("builtin:") else digest_file(source)
        return digest({"source": content, "how": dict(how), "weights": weights})

    def is_made(self, how: Mapping[str, Any], weights: str | None) -> bool:
        """Whether the file exists, made from the same content in the same way.

        Args:
            how: the settings that decide its content.
            weights: digest of the model's; None: they are not on this machine yet.

        Raises:
            ConfigError: another file is in its place.
        """
        if not self.path.exists():
            return False
        found = _read(self.path.parent).get(self.path.name)
        if found is None or weights is None or not is_regular(self.path):
            raise self._taken()
        if found["sha256"] not in ("", digest_file(self.path)) or found["causes"] != self.causes(how, weights):
            raise self._taken()
        return True

    @contextmanager
    def recorded(self, how: Mapping[str, Any], weights: str) -> Iterator[None]:
        """A block that writes the file, atomically, after which it is recorded as made."""
        causes = self.causes(how, weights)
        self._record(MadeFile(causes, ""))
        yield
        self._record(MadeFile(causes, digest_file(self.path)))

    def _record(self, made: MadeFile) -> None:
        folder = self.path.parent
        with locked(folder / f"{RECORD_NAME}.lock"), atomic_write(folder / RECORD_NAME) as file:
            file.write(dump_record({"files": _read(folder) | {self.path.name: asdict(made)}}))

    def _taken(self) -> ConfigError:
        return ConfigError(
            f"{self.path} exists, and was not made from {self.source} with these settings; nothing is overwritten: "
            "remove it, or choose another folder"
        )


def targets(sources: Sequence[str], folder: str, suffix: str) -> list[Target]:
    """Returns the file that each source is written to: its own name in `folder`, with another suffix.

    Raises:
        ConfigError: two sources would be written to the same file, or to one whose name would be too long.
    """
    found: dict[Path, Target] = {}
    for source in sources:
        path = user_path(f"{folder}/{Path(source.removeprefix('builtin:')).stem}{suffix}")
        if path in found:
            raise ConfigError(f"{found[path].source} and {source} would both become {path}; rename one")
        found[path] = Target(source, path)
    return list(found.values())


def _read(folder: Path) -> dict[str, dict[str, str]]:
    try:
        files: dict[str, dict[str, str]] = read_record(folder / RECORD_NAME, MadeFiles)["files"]
    except (FileNotFoundError, RecordError):  # without it, nothing counts as made
        return {}
    return files
