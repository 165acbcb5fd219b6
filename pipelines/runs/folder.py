"""Run folders: one for each run, with its settings, its manifest and its outputs."""

from __future__ import annotations

import json
import platform
import re
import socket
from dataclasses import dataclass
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import TYPE_CHECKING, Any

from jukebox_core.base.atomic import atomic_write
from jukebox_core.base.hashing import digest
from jukebox_core.base.structuring import build, to_plain
from jukebox_core.errors import RunError, did_you_mean
from jukebox_core.family import family_of
from jukebox_core.runtime.config import ENGINE_VERSION
from jukebox_core.tokens.graph import Track
from pipelines.runs.legacy import earlier_form, upgraded

if TYPE_CHECKING:
    from collections.abc import Mapping

    from jukebox_core.tokens.graph import Take
    from pipelines.settings.generate import Settings

MANIFEST_SCHEMA = 1
_LINEAGE = re.compile(r"(-(continue|upsample)-[0-9a-f]{8})+$")  # suffixes of a run that starts from another


def identity(settings: Settings) -> dict[str, Any]:
    """Returns the settings that decide the tokens of a run, without those of folders, speed and file formats."""
    everything = to_plain(settings)
    kept = ("model", "sampling", "seconds", "song", "songs", "prompt", "source")
    found = {name: everything[name] for name in kept} | {"dtype": settings.hardware.dtype}
    usual = found["model"].pop("usual_seconds")  # apart, and only where it decides: the names of other runs stay
    return found | ({"usual_seconds": usual} if settings.uses_usual_length else {})


def default_name(settings: Settings) -> str:
    """Returns the default name of a run: the same settings give the same name, so that a repeated command resumes."""
    verb = settings.model.name
    if settings.source is not None:
        verb = f"{_LINEAGE.sub('', Path(settings.source.run).name)}-{settings.source.command}"
    return f"{verb}-{_identity_digest(settings)}"


def _identity_digest(settings: Settings) -> str:
    return digest(earlier_form(identity(settings)))[:8]


def lock_name(settings: Settings) -> str:
    """Returns the name of the run's lock in its token store, distinct for other runs of the same name."""
    name, own = settings.run.name, _identity_digest(settings)
    return f"{name}-{own}" if name else default_name(settings)


def run_path(settings: Settings) -> Path:
    """Returns the folder of the run that these settings make."""
    return Path(settings.storage.root).expanduser() / (settings.run.name or default_name(settings))


def find_run(run: str, root: str) -> RunFolder:
    """Returns the run of that name below `root`, or in that folder.

    Raises:
        RunError: there is no such run; near misses are listed.
    """
    for folder in (Path(run).expanduser(), Path(root).expanduser() / run):
        if (folder / "config.yaml").is_file() or (folder / "manifest.json").is_file():
            return RunFolder(folder)
    names = [found.name for found in runs_in(root)]
    hint = did_you_mean(run, names) or (f"; there are {', '.join(names)}" if names else f"; {root} holds no runs")
    raise RunError(f"{run!r} is not a run: there is no config.yaml in it; give a run's folder or its name{hint}")


def runs_in(root: str) -> list[RunFolder]:
    """Returns the runs below `root`, by name."""
    folders = {
        path.parent for name in ("config.yaml", "manifest.json") for path in Path(root).expanduser().glob(f"*/{name}")
    }
    return [RunFolder(folder) for folder in sorted(folders) if not folder.name.startswith(".")]


@dataclass(frozen=True, slots=True)
class RunFolder:
    """The folder of one run, and its manifest."""

    path: Path

    @property
    def name(self) -> str:
        """The run's name."""
        return self.path.name

    @property
    def place(self) -> str:
        """Host and folder, which distinguish the run from others of the same name."""
        return f"{socket.gethostname()}:{self.path.expanduser().resolve()}"

    @property
    def manifest_path(self) -> Path:
        """Path of the manifest."""
        return self.path / "manifest.json"

    def manifest(self) -> dict[str, Any]:
        """Returns the manifest.

        Raises:
            RunError: it does not exist, cannot be read, or was written by a newer version of this program.
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

    def identity(self) -> dict[str, Any]:
        """Returns the run's `identity` from its manifest; empty if the manifest has none."""
        return upgraded(self.manifest().get("identity", {}))

    def model_config(self) -> Any:
        """Returns the hyperparameters of the run's model, as its family's `ModelConfig`.

        Raises:
            ConfigError: the manifest describes no model that this program knows.
        """
        model = self.identity().get("model", {})
        family = family_of(model)
        return family.config(str(model.get("name")), build(family.network_type, model.get("network"), "model.network"))

    def update(self, **fields: object) -> dict[str, Any]:
        """Writes `fields` into the manifest, atomically, and returns it."""
        manifest = self.manifest() if self.manifest_path.exists() else {"schema": MANIFEST_SCHEMA, "run": self.name}
        manifest |= fields
        _write_text(self.manifest_path, json.dumps(manifest, indent=1, ensure_ascii=False) + "\n")
        return manifest

    def takes(self) -> list[Take]:
        """Returns the planned take of each sample.

        Raises:
            RunError: the run stopped before its windows were planned.
        """
        takes = self.manifest().get("takes")
        if not takes:
            raise RunError(f"run {self.name} made no tokens yet; run it again to its end first")
        return [tuple(Track.parse(track) for track in take) for take in takes]


def check_free(settings: Settings) -> RunFolder:
    """Returns the folder of the run that these settings make, after a check that it is empty or holds that run.

    Raises:
        RunError: the folder holds a run with other settings, or something that is not a run.
    """
    folder = RunFolder(run_path(settings))
    if folder.manifest_path.exists():
        refuse_other(folder, identity(settings))
    elif folder.path.exists() and (not folder.path.is_dir() or any(folder.path.iterdir())):
        raise RunError(f"{folder.path} exists and is not a run; choose another run.name, nothing is overwritten")
    return folder


def open_run(settings: Settings, config_yaml: str) -> RunFolder:
    """Returns the run's folder with config.yaml and manifest.json, created if missing.

    Raises:
        RunError: as `check_free`, or the folder cannot be created.
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
    """Checks that a folder's run was made with the settings `mine`.

    Raises:
        RunError: it was made with others; the message lists the differences.
    """
    theirs = folder.identity()
    if theirs == mine:
        return
    changed = differences(theirs, mine)
    raise RunError(
        f"run {folder.name} was made with other settings ({'; '.join(changed[:4])}); "
        "nothing is overwritten: choose another run.name, or leave it out"
    )


def differences(old: object, new: object, at: str = "") -> list[str]:
    """Returns the differences between two trees of settings, as ``key: old -> new``."""
    if isinstance(old, dict) and isinstance(new, dict):
        keys = [*old, *(key for key in new if key not in old)]
        return [d for key in keys for d in differences(old.get(key), new.get(key), f"{at}.{key}" if at else key)]
    return [] if old == new else [f"{at}: {old!r} -> {new!r}"]


def take_to_json(take: Take) -> list[list[str]]:
    """Returns a take as text, one line for each span of each track, for the manifest."""
    return [track.lines() for track in take]


def now() -> str:
    """Returns the time, in ISO format, in UTC."""
    return datetime.now(UTC).isoformat(timespec="seconds")


def versions() -> dict[str, str]:
    """Returns the versions of Python, the engine and all packages that can change a result, for the manifest."""
    found = {"python": platform.python_version(), "engine": str(ENGINE_VERSION)}
    for package in ("jukebox-pipelines", "torch", "numpy", "prefect", "hydra-core", "soundfile", "soxr"):
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            found[package] = "not installed"
    return found


def _write_text(path: Path, text: str) -> None:
    with atomic_write(path) as file:
        file.write(text.encode("utf-8"))
