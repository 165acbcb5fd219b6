"""Run folders: one for each run, with its settings, its manifest and its outputs."""

from __future__ import annotations

import logging
import os
import re
import secrets
import shutil
import socket
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from jukebox_core.base.atomic import DISK, atomic_write, write_error
from jukebox_core.base.hashing import digest
from jukebox_core.base.paths import user_path
from jukebox_core.base.records import dump_record, is_regular, set_aside
from jukebox_core.base.structuring import build
from jukebox_core.errors import DamagedRunError, RunError, did_you_mean
from jukebox_core.family import family_of
from jukebox_core.models.stored import to_stored, without_credentials
from jukebox_core.tokens.graph import Track
from pipelines.runs.config_file import CONFIG_NAME, settings_in
from pipelines.runs.contents import other_settings, prompt_marks, refuse_changed, with_contents
from pipelines.runs.legacy import earlier_form, upgraded
from pipelines.runs.manifest import MANIFEST_SCHEMA, read_manifest, versions

if TYPE_CHECKING:
    from collections.abc import Mapping

    from jukebox_core.tokens.graph import Take
    from pipelines.runs.contents import Contents
    from pipelines.settings.generate import Settings

log = logging.getLogger("jukebox")

MANIFEST_NAME = "manifest.json"
MAKING = ".making-"
"""How the name of a folder begins in which a run is being created."""
REMOVED = ".removed-"
"""How the name of a folder begins in which a run is being removed."""
TEMPORARY = re.compile(r"\.(config\.yaml|manifest\.json)\.[0-9a-f]{8}\.tmp")
"""Files of a run that a kill has left between their creation and their renaming."""

_LINEAGE = re.compile(r"(-(continue|upsample)-[0-9a-f]{8})+$")  # suffixes of a run that starts from another


def identity(settings: Settings) -> dict[str, Any]:
    """Returns the settings that decide the tokens of a run, without those of folders, speed and file formats.

    Words are here in place of the file that has them; `pipelines.runs.contents` has the content of other files.

    Raises:
        LabelError: a lyrics file cannot be read.
    """
    return _identity(with_contents(settings))


def _identity(settings: Settings) -> dict[str, Any]:
    everything = to_stored(settings)
    kept = ("model", "sampling", "seconds", "song", "songs", "prompt", "source")
    found = {name: everything[name] for name in kept} | {"dtype": settings.hardware.dtype}
    found["model"].pop("usual_temperatures")  # sampling has those that decide
    usual = found["model"].pop("usual_seconds")  # apart, and only where it decides: the names of other runs stay
    return found | ({"usual_seconds": usual} if settings.uses_usual_length else {})


def default_name(settings: Settings) -> str:
    """Returns the default name of a run: the same settings give the same name, so that a repeated command resumes.

    Prompts are named by the content of their files.
    """
    mine = identity(settings)
    mine["prompt"]["files"] = prompt_marks(mine["prompt"]["files"])
    return _named(settings, mine)


def earlier_name(settings: Settings) -> str:
    """Returns the default name that earlier versions gave: with the paths of files, as the user wrote them."""
    return _named(settings, _identity(settings))


def _named(settings: Settings, mine: Mapping[str, Any]) -> str:
    verb = settings.model.name
    if settings.source is not None:
        verb = f"{_LINEAGE.sub('', Path(settings.source.run).name)}-{settings.source.command}"
    return f"{verb}-{digest(earlier_form(mine))[:8]}"


def lock_name(settings: Settings) -> str:
    """Returns the name of the run's lock in its token store, distinct for other runs of the same name."""
    name, default = settings.run.name, default_name(settings)
    return default if name in (None, default) else f"{name}-{default.rpartition('-')[2]}"


def lock_of(settings: Settings) -> str:
    """Returns the name of the lock of the run that these settings make: the one it has, or the one it will get."""
    return RunFolder(run_path(settings)).known_manifest().get("lock") or lock_name(settings)


def run_path(settings: Settings) -> Path:
    """Returns the folder of the run that these settings make."""
    return user_path(settings.storage.root) / (settings.run.name or default_name(settings))


def find_run(run: str, root: str) -> RunFolder:
    """Returns the run of that name below `root`, or in that folder; a plain name is looked up below `root` first.

    Raises:
        RunError: there is no such run; near misses are listed.
    """
    below, given = user_path(root) / run, user_path(run)
    plain = run not in ("", ".", "..") and os.sep not in run
    for folder in (below, given) if plain else (given, below) if run else ():
        if _is_listed(folder):
            return RunFolder(folder)
    names = [found.name for found in runs_in(root)]
    hint = did_you_mean(run, names) or (f"; there are {', '.join(names)}" if names else f"; {root} holds no runs")
    raise RunError(f"{run!r} is not a run: there is no config.yaml in it; give a run's folder or its name{hint}")


def runs_in(root: str) -> list[RunFolder]:
    """Returns the runs below `root`, damaged ones too, by name."""
    try:
        folders = sorted(user_path(root).iterdir())
    except (OSError, ValueError):
        return []
    return [RunFolder(folder) for folder in folders if not folder.name.startswith(".") and _is_listed(folder)]


def _is_listed(folder: Path) -> bool:
    return any(os.path.lexists(folder / name) for name in (MANIFEST_NAME, CONFIG_NAME))


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
        return f"{socket.gethostname()}:{user_path(self.path).resolve()}"

    @property
    def manifest_path(self) -> Path:
        """Path of the manifest."""
        return self.path / MANIFEST_NAME

    def manifest(self) -> dict[str, Any]:
        """Returns the manifest; its entries have the types of `pipelines.runs.manifest.Manifest`.

        Raises:
            RunError: it does not exist, or was written by a newer version of this program.
            DamagedRunError: it is damaged.
        """
        try:
            return read_manifest(self.manifest_path)
        except FileNotFoundError:
            raise RunError(
                f"{self.path} is not a run: it has no manifest.json; name a folder that a run made"
            ) from None

    def current_manifest(self) -> dict[str, Any]:
        """Returns the manifest of a run that goes on.

        Raises:
            RunError: it is gone: the folder was removed while its run went on.
            DamagedRunError: it is damaged.
        """
        if not os.path.lexists(self.manifest_path):
            raise RunError(
                f"{self.path} was removed while its run went on; what was sampled is stored: run the command again"
            )
        return self.manifest()

    def known_manifest(self) -> dict[str, Any]:
        """Returns the manifest; empty if it does not exist or is damaged.

        Raises:
            RunError: it was written by a newer version of this program.
        """
        try:
            return read_manifest(self.manifest_path)
        except (FileNotFoundError, DamagedRunError):
            return {}

    def identity(self) -> dict[str, Any]:
        """Returns the run's `identity` from its manifest."""
        return without_credentials(upgraded(self.manifest()["identity"]))  # which an earlier version may have stored

    def model_config(self) -> Any:
        """Returns the hyperparameters of the run's model, as its family's `ModelConfig`.

        Raises:
            ConfigError: the manifest describes no model that this program knows.
        """
        model = self.identity()["model"]
        family = family_of(model)
        return family.config(str(model.get("name")), build(family.network_type, model.get("network"), "model.network"))

    def update(self, **fields: object) -> dict[str, Any]:
        """Writes `fields` into the manifest, atomically, and returns it.

        Raises:
            RunError: the manifest is gone: the folder was removed while its run went on.
            DamagedRunError: it is damaged.
        """
        manifest = self.current_manifest() | fields
        _write(self.manifest_path, dump_record(manifest))
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

    def is_vacant(self) -> bool:
        """Whether nothing is at the run's path, or an empty folder."""
        if not os.path.lexists(self.path):
            return True
        return self.path.is_dir() and not any(self.path.iterdir())


def check_free(settings: Settings, contents: Contents | None = None) -> RunFolder:
    """Returns the folder of the run that these settings make, after a check that it is empty or holds that run.

    A damaged or unfinished beginning of that run counts as that run.

    Args:
        settings: the run's.
        contents: what it is made from; None: not known yet.

    Raises:
        RunError: the folder holds a run with other settings or contents, or something that is not a run.
    """
    folder = RunFolder(run_path(settings))
    try:
        if folder.is_vacant():
            return folder
        manifest = folder.known_manifest()
    except OSError as error:
        raise RunError(f"cannot look at {folder.path} ({error.strerror}); choose another storage.root") from None
    if manifest:
        refuse_other(folder, identity(settings))
        if contents is not None:
            refuse_changed(folder.name, manifest, contents)
    elif not _is_own(folder, settings, contents):
        damaged = os.path.lexists(folder.manifest_path) or settings_in(folder.path) is not None
        what = "is a damaged run that may be another" if damaged else "exists and is not a run"
        raise RunError(f"{folder.path} {what}; choose another run.name, nothing is overwritten")
    return folder


def _is_own(folder: RunFolder, settings: Settings, contents: Contents | None) -> bool:
    """Whether a folder without a readable manifest is that of the run that these settings make.

    Its config.yaml says so; without one, the pin of its windows, or its name, which is a hash of the settings.
    """
    if not folder.path.is_dir() or folder.path.is_symlink():
        return False
    from jukebox_core.store.pins import Pins  # needs fsspec, which a list of runs does without

    pin = Pins(settings.storage.tokens).of(folder.name, folder.place)
    if pin is not None and contents is not None and pin.keys != contents.keys:
        return False
    if settings_in(folder.path) is not None:
        return has_config(folder, settings)
    if pin is not None:
        return True
    names = [path.name for path in folder.path.iterdir()]
    if all(TEMPORARY.fullmatch(name) for name in names):
        return True
    return MANIFEST_NAME in names and folder.name == default_name(settings)


def has_config(folder: RunFolder, settings: Settings) -> bool:
    """Whether the folder has a config.yaml of the run that these settings make."""
    stored = settings_in(folder.path)
    return stored is not None and not other_settings(_identity(stored), identity(settings))


def open_run(settings: Settings, config_yaml: str, contents: Contents | None = None) -> RunFolder:
    """Returns the run's folder with config.yaml and manifest.json, created if missing, mended if damaged.

    A new folder appears with both files, or not at all. Damaged files are kept under another name.

    Raises:
        RunError: as `check_free`, or the folder cannot be created.
    """
    folder = check_free(settings, contents)
    try:
        if os.path.lexists(folder.path):
            _complete(folder, settings, config_yaml)
        else:
            _create(folder, settings, config_yaml)
    except OSError as error:
        if error.errno in DISK:
            raise write_error(folder.path, error) from None
        raise RunError(f"cannot make {folder.path} ({error.strerror}); choose another storage.root") from None
    return folder


def _create(folder: RunFolder, settings: Settings, config_yaml: str) -> None:
    root = folder.path.parent
    root.mkdir(parents=True, exist_ok=True)
    draft = root / f"{MAKING}{secrets.token_hex(8)}"
    try:
        draft.mkdir()
        _write(draft / CONFIG_NAME, config_yaml.encode("utf-8"))
        _write(draft / MANIFEST_NAME, _new_manifest(folder, settings))
        draft.rename(folder.path)
    except BaseException:
        shutil.rmtree(draft, ignore_errors=True)
        raise


def _complete(folder: RunFolder, settings: Settings, config_yaml: str) -> None:
    config, manifest = folder.path / CONFIG_NAME, folder.manifest_path
    for path in folder.path.iterdir():
        if TEMPORARY.fullmatch(path.name) and is_regular(path):
            path.unlink()
    if os.path.lexists(config) and settings_in(folder.path) is None:
        _set_aside(config)
    if not config.exists() or config.read_bytes() != config_yaml.encode("utf-8"):
        _write(config, config_yaml.encode("utf-8"))
    known = folder.known_manifest()
    if known:
        mine = {} if known.get("takes") else {"identity": identity(settings)}
        folder.update(settings=to_stored(settings), **mine)
        return
    if os.path.lexists(manifest):
        _set_aside(manifest)
    _write(manifest, _new_manifest(folder, settings))


def _set_aside(path: Path) -> None:
    log.warning("%s is damaged; it is kept as %s, and made again", path, set_aside(path).name)


def _new_manifest(folder: RunFolder, settings: Settings) -> bytes:
    content = {
        "schema": MANIFEST_SCHEMA,
        "run": folder.name,
        "identity": identity(settings),
        "created": now(),
        "versions": versions(),
        "licence": settings.model.files.licence,
        "settings": to_stored(settings),
    }
    return dump_record(content)


def refuse_other(folder: RunFolder, mine: Mapping[str, Any]) -> None:
    """Checks that a folder's run was made with the settings `mine`.

    Raises:
        RunError: it was made with others; the message lists the differences.
    """
    changed = other_settings(folder.identity(), mine)
    if changed:
        raise RunError(
            f"run {folder.name} was made with other settings ({'; '.join(changed[:4])}); "
            "nothing is overwritten: choose another run.name, or leave it out"
        )


def take_to_json(take: Take) -> list[list[str]]:
    """Returns a take as text, one line for each span of each track, for the manifest."""
    return [track.lines() for track in take]


def now() -> str:
    """Returns the time, in ISO format, in UTC."""
    return datetime.now(UTC).isoformat(timespec="seconds")


def _write(path: Path, data: bytes) -> None:
    with atomic_write(path) as file:
        file.write(data)
