"""A model's files: fetched from the sources it names, or made from a seed where it is untrained. Imports no torch."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from jukebox_core.base.hashing import digest
from jukebox_core.errors import ConfigError, did_you_mean
from jukebox_core.models.checkpoints.convert import converted, copy_is_current, is_pickle, written_once
from jukebox_core.models.config import FileSpec
from jukebox_core.models.digests import read_records, record_name
from jukebox_core.models.download.fetch import digest as file_digest
from jukebox_core.models.download.progress import meter
from jukebox_core.models.download.sources import source_for
from jukebox_core.models.library import Found, Wanted, home, obtain, verify
from jukebox_core.models.presets import released_sources

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from jukebox_core.models.config import ModelFiles, WeightsConfig, WholeCopy
    from jukebox_core.models.library import Meters
    from jukebox_core.models.presets import ModelSettings

_SEED, _PACKAGE = "seed:", "package:"
_SEEDED_RECIPE = 2  # raised whenever initialisation changes, so that an older file is not taken for the new one
_SPLIT_RECIPE = 1  # raised whenever names in the files split from a whole copy change


@dataclass(frozen=True, slots=True)
class Obtained:
    """A file that is here and verified."""

    path: Path
    sha256: str  # of this file
    identity: str  # of the file as it was published, which a converted copy shares with its original


def obtain_vocabularies(
    files: ModelFiles, weights: WeightsConfig, *, meters: Meters | None = meter
) -> dict[str, Obtained]:
    """Returns the model's vocabulary files by role, fetching those that are not here yet.

    Raises:
        DownloadError: no source delivers one of them.
        ConfigError: terms must be acknowledged first.
    """
    wanted = wanted_vocabularies(files, weights)
    weights_too = () if seed_of(files) is not None else wanted_weights(files, weights).values()
    found = obtain(wanted, files, weights, meters, later=weights_too)
    return {role: _obtained(wanted[role], each) for role, each in found.items()}


def obtain_weights(
    model: ModelSettings,
    weights: WeightsConfig,
    *,
    roles: Iterable[str] | None = None,
    meters: Meters | None = meter,
) -> dict[str, Obtained]:
    """Returns the model's weight files by role, fetching or making those that are not here yet.

    Pickles are read without running code and copied to safetensors, as `WeightsConfig.pickles` says. All roles that the
    model has are asked for, unless `roles` names some.

    Raises:
        DownloadError: no source delivers one of them.
        CheckpointError: one of them is not a checkpoint; it was set aside.
        ConfigError: terms must be acknowledged first.
    """
    check_roles(model, weights)
    files = model.files
    roles = files.weights if roles is None else roles
    seed = seed_of(files)
    if seed is not None:
        return {role: _seeded(model, role, seed, weights) for role in roles}
    if files.whole is not None:
        return _from_whole(model, files.whole, weights, roles, meters)
    wanted = {role: wanted_weights(files, weights)[role] for role in roles}
    found = obtain(wanted, files, weights, meters)
    return {role: _as_safetensors(wanted[role], each) for role, each in found.items()}


def wanted_vocabularies(files: ModelFiles, weights: WeightsConfig) -> dict[str, Wanted]:
    """Returns where each vocabulary belongs and comes from. A substitute may hold them too, but only the published."""
    first = (*weights.mirrors, *((weights.substitute,) if weights.substitute else ()))
    return {
        role: _placed(spec, first, (*spec.sources, *files.vocabulary_sources), weights)
        for role, spec in files.vocabularies.items()
    }


def wanted_weights(files: ModelFiles, weights: WeightsConfig) -> dict[str, Wanted]:
    """Returns where each file of weights belongs and comes from: by role, or the shards of a whole copy by path."""
    if files.whole is not None:
        folder = home(weights) / "whole" / _mark(files.whole.sources)
        return {
            spec.path: Wanted(spec, (*weights.mirrors, *spec.sources, *files.whole.sources), folder)
            for spec in files.whole.shards
        }
    given = {role: Path(path).expanduser() for role, path in weights.paths.items()}
    if weights.substitute is not None:
        # Another content under the same names: kept apart, so that neither is ever taken for the other.
        folder = home(weights) / "substitutes" / _mark([weights.substitute])
        wanted = {
            role: Wanted(FileSpec(path=spec.path), (weights.substitute,), folder, apart=True)
            for role, spec in files.weights.items()
        }
    else:
        wanted = {
            role: _placed(spec, weights.mirrors, (*spec.sources, *files.weight_sources), weights)
            for role, spec in files.weights.items()
        }
    return {role: replace(each, given=given.get(role), pickles=weights.pickles) for role, each in wanted.items()}


def _placed(spec: FileSpec, first: tuple[str, ...], sources: tuple[str, ...], weights: WeightsConfig) -> Wanted:
    """Returns a file with its place: among the released ones, or apart if its sources are of one's own.

    Two models of a person's own may both name a ``tuned/level_2.pth.tar``, or a path that is also a released file's, so
    such a file is known by where it comes from too, and mirrors, which hold released files, are not asked for it.
    """
    if all(source in released_sources() or source.startswith(_PACKAGE) for source in sources):
        return Wanted(spec, (*first, *sources), home(weights))
    return Wanted(spec, sources, home(weights) / "own" / _mark(sources), apart=True)


def _mark(sources: Iterable[str]) -> str:
    """Returns a short name for sources; secrets in their addresses, which change, are not part of it."""
    names = " ".join(source_for(source).name for source in sources)
    return hashlib.sha256(names.encode()).hexdigest()[:8]


def check_roles(model: ModelSettings, weights: WeightsConfig) -> None:
    """Checks that paths are given for roles that there are.

    Raises:
        ConfigError: one is not.
    """
    roles = model.opened.roles(model.config)
    for role in weights.paths:
        if role not in roles:
            raise ConfigError(
                f"weights.paths.{role} is no file of model {model.name}; choose among {', '.join(roles)}"
                f"{did_you_mean(role, roles)}"
            )


def seed_of(files: ModelFiles) -> str | None:
    """Returns the seed that an untrained model's weights are made from."""
    return next((source for source in files.weight_sources if source.startswith(_SEED)), None)


def _obtained(wanted: Wanted, found: Found) -> Obtained:
    sha256 = verify(wanted, found)
    return Obtained(found.path, sha256, sha256)


def _as_safetensors(wanted: Wanted, found: Found) -> Obtained:
    """Returns the file, or its copy; files of the user's own and of other programs are used as they are."""
    sha256 = verify(wanted, found)
    if wanted.pickles == "keep" or not found.own or found.path != wanted.path or not is_pickle(found.path.name):
        record = read_records(wanted.folder).get(record_name(wanted.folder, found.path))
        return Obtained(found.path, sha256, (record.origin if record else None) or sha256)
    copy = converted(found.path, sha256, wanted.folder)
    made = Obtained(copy, file_digest(FileSpec(path=str(copy.relative_to(wanted.folder))), wanted.folder), sha256)
    if wanted.pickles == "replace":
        found.path.unlink(missing_ok=True)
    return made


def _from_whole(
    model: ModelSettings,
    whole: WholeCopy,
    weights: WeightsConfig,
    roles: Iterable[str],
    meters: Meters | None,
) -> dict[str, Obtained]:
    """Returns the networks of a whole copy, each split off into a file of its own once."""
    wanted = wanted_weights(model.files, weights)
    folder = next(iter(wanted.values())).folder
    targets = {role: folder / f"{role}.v{_SPLIT_RECIPE}.safetensors" for role in roles}
    recorded = _recorded_origin(wanted, folder)
    if recorded is None or not all(copy_is_current(target, folder, recorded) for target in targets.values()):
        found = obtain(wanted, model.files, weights, meters)
        origin = digest({path: verify(wanted[path], each) for path, each in found.items()})
        for role, target in targets.items():
            _split(model, whole, role, target, folder, origin, [each.path for each in found.values()])
        if weights.pickles == "replace" and set(targets) == set(model.files.weights):
            for each in found.values():
                each.path.unlink(missing_ok=True)
    shared = digest({path: read_records(folder)[path].sha256 for path in wanted})
    return {
        role: Obtained(path, file_digest(FileSpec(path=path.name), folder), digest([shared, role]))
        for role, path in targets.items()
    }


def _recorded_origin(wanted: Mapping[str, Wanted], folder: Path) -> str | None:
    """Returns what identifies the shards that were fetched; None if not all were. They may be gone by now."""
    records = read_records(folder)
    return digest({path: records[path].sha256 for path in wanted}) if set(wanted) <= set(records) else None


def _split(
    model: ModelSettings, whole: WholeCopy, role: str, target: Path, folder: Path, origin: str, shards: list[Path]
) -> None:
    def write() -> None:
        model.opened.split(model.config, role, shards, target)

    written_once(target, folder, origin, f"split from {whole.sources[0]}", write, *shards)


def _seeded(model: ModelSettings, role: str, seed: str, weights: WeightsConfig) -> Obtained:
    folder, number = home(weights), int(seed.removeprefix(_SEED))
    causes = {"recipe": _SEEDED_RECIPE, **model.opened.initialise_causes(model.config, role)}
    name = f"{model.name}/seed-{number}-{digest(causes)[:12]}/{role}.safetensors"
    if not (folder / name).exists():
        model.opened.initialise(model.config, role, number, folder / name)
    sha256 = file_digest(FileSpec(path=name), folder)
    return Obtained(folder / name, sha256, sha256)
