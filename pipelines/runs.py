"""Run folders: one for each run, with its settings, its manifest and everything it made."""

from __future__ import annotations

import json
import platform
from dataclasses import dataclass
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import TYPE_CHECKING, Any

from jukebox_core.atomic import written_whole
from jukebox_core.errors import RunError
from jukebox_core.records import to_plain
from jukebox_core.runtime.config import ENGINE_VERSION
from jukebox_core.tokens.graph import Track
from jukebox_core.tokens.keys import digest

if TYPE_CHECKING:
    from collections.abc import Mapping

    from jukebox_core.tokens.graph import Take
    from pipelines.settings import Settings

MANIFEST_SCHEMA = 1


def identity(settings: Settings) -> dict[str, Any]:
    """Returns the settings that decide what a run is: what it makes, not where, how fast or in which file format."""
    everything = to_plain(settings)
    kept = ("model", "sampling", "seconds", "song", "songs", "prompt", "source")
    return {name: everything[name] for name in kept} | {"dtype": settings.hardware.dtype}


def default_name(settings: Settings) -> str:
    """Returns the name of a run that was given none: the same settings give the same name, so a command resumes."""
    verb = f"{Path(settings.source.run).name}-{settings.source.command}" if settings.source else settings.model.name
    return f"{verb}-{digest(identity(settings))[:8]}"


def run_path(settings: Settings) -> Path:
    """Returns the folder of the run that these settings make."""
    return Path(settings.storage.root).expanduser() / (settings.run.name or default_name(settings))


@dataclass(frozen=True, slots=True)
class RunFolder:
    """The folder of one run, and its manifest."""

    path: Path

    @property
    def name(self) -> str:
        """The run's name."""
        return self.path.name

    @property
    def manifest_path(self) -> Path:
        """Where the manifest is."""
        return self.path / "manifest.json"

    def manifest(self) -> dict[str, Any]:
        """Returns the manifest.

        Raises:
            RunError: there is none, or it cannot be read, or a newer version of this program wrote it.
        """
        try:
            manifest: dict[str, Any] = json.loads(self.manifest_path.read_text(encoding="utf-8"))
        except FileNotFoundError:
            raise RunError(
                f"{self.path} is not a run: it has no manifest.json; name a folder that a run made"
            ) from None
        except (OSError, ValueError) as error:
            raise RunError(
                f"{self.manifest_path} cannot be read ({error}); run the command that made it again"
            ) from None
        if manifest.get("schema", 0) > MANIFEST_SCHEMA:
            raise RunError(
                f"{self.manifest_path} has schema {manifest['schema']}, newer than the {MANIFEST_SCHEMA} known here; "
                "update this program"
            )
        return manifest

    def update(self, **fields: object) -> dict[str, Any]:
        """Writes `fields` into the manifest, whole or not at all, and returns it."""
        manifest = self.manifest() if self.manifest_path.exists() else {"schema": MANIFEST_SCHEMA, "run": self.name}
        manifest |= fields
        _write_text(self.manifest_path, json.dumps(manifest, indent=1, ensure_ascii=False) + "\n")
        return manifest

    def takes(self) -> list[Take]:
        """Returns the take of each sample, as far as the run got.

        Raises:
            RunError: the run never got as far as planning its windows.
        """
        takes = self.manifest().get("takes")
        if not takes:
            raise RunError(f"run {self.name} made no tokens yet; run it again to its end first")
        return [tuple(Track.joined(track) for track in take) for take in takes]


def check_free(settings: Settings) -> RunFolder:
    """Returns the folder of the run that these settings make, which holds that run or nothing yet.

    Raises:
        RunError: the folder holds a run with other settings, or something that is not a run.
    """
    folder = RunFolder(run_path(settings))
    if folder.manifest_path.exists():
        refuse_other(folder, identity(settings))
    elif folder.path.exists() and (not folder.path.is_dir() or any(folder.path.iterdir())):
        raise RunError(f"{folder.path} exists and is not a run; choose another run.name, nothing there is overwritten")
    return folder


def open_run(settings: Settings, config_yaml: str) -> RunFolder:
    """Returns the run's folder, made if need be, with config.yaml and manifest.json in it.

    Raises:
        RunError: as `check_free`, or the folder cannot be made.
    """
    folder = check_free(settings)
    try:
        folder.path.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise RunError(f"cannot make {folder.path} ({error.strerror}); choose another storage.root") from None
    _write_text(folder.path / "config.yaml", config_yaml)
    if not folder.manifest_path.exists():
        folder.update(
            identity=identity(settings), created=now(), versions=versions(), licence=settings.model.files.licence
        )
    return folder


def refuse_other(folder: RunFolder, mine: Mapping[str, Any]) -> None:
    """Refuses a folder whose run was made with settings other than `mine`.

    Raises:
        RunError: it was; the message names what differs.
    """
    theirs = folder.manifest().get("identity", {})
    if theirs == mine:
        return
    changed = differences(theirs, mine)
    raise RunError(
        f"run {folder.name} was made with other settings ({'; '.join(changed[:4])}); "
        "nothing is overwritten: choose another run.name, or leave it out"
    )


def differences(old: object, new: object, at: str = "") -> list[str]:
    """Returns what differs between two trees of settings, as ``key: old -> new``."""
    if isinstance(old, dict) and isinstance(new, dict):
        keys = [*old, *(key for key in new if key not in old)]
        return [d for key in keys for d in differences(old.get(key), new.get(key), f"{at}.{key}" if at else key)]
    return [] if old == new else [f"{at}: {old!r} -> {new!r}"]


def take_to_json(take: Take) -> list[list[list[object]]]:
    """Returns a take as plain lists, for the manifest."""
    return [[list(span) for span in track] for track in take]


def now() -> str:
    """Returns the time, in ISO format, in UTC."""
    return datetime.now(UTC).isoformat(timespec="seconds")


def versions() -> dict[str, str]:
    """Returns the versions of what can change a result, for the manifest."""
    found = {"python": platform.python_version(), "engine": str(ENGINE_VERSION)}
    for package in ("jukebox-pipelines", "torch", "numpy", "prefect", "hydra-core", "soundfile", "soxr"):
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            found[package] = "not installed"
    return found


def _write_text(path: Path, text: str) -> None:
    with written_whole(path) as file:
        file.write(text.encode("utf-8"))
