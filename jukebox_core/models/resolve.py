"""The files that a model needs, by role: where each belongs and comes from, and how it is obtained. Imports no torch.

Weights are fetched, split from a copy of the whole model, or, of an untrained model, drawn from a seed.
"""

from __future__ import annotations

import hashlib
from dataclasses import replace
from typing import TYPE_CHECKING

from jukebox_core.base.hashing import digest
from jukebox_core.base.paths import user_path
from jukebox_core.errors import ConfigError, did_you_mean
from jukebox_core.models.checkpoints.convert import convert, copy_path
from jukebox_core.models.config import FileSpec
from jukebox_core.models.download.sources import source_for
from jukebox_core.models.library import Library, LocalFile, WantedFile
from jukebox_core.models.presets import released_sources

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

    from jukebox_core.models.config import ModelFiles, WeightsConfig, WholeCopy
    from jukebox_core.models.presets import ModelSettings

_SEED, _PACKAGE = "seed:", "package:"
_SEEDED_RECIPE = 2  # raised whenever initialisation changes, so that an older file is not used instead of a new one
_SPLIT_RECIPE = 1  # raised whenever names in the files split from a whole copy change


def obtain_vocabularies(
    files: ModelFiles, weights: WeightsConfig, *, show_progress: bool = True
) -> dict[str, LocalFile]:
    """Returns the model's vocabulary files by role, verified; missing ones are fetched.

    Raises:
        DownloadError: no source delivers one of them.
        ConfigError: terms must be acknowledged first.
    """
    wanted, later = wanted_vocabularies(files, weights), wanted_weights(files, weights).values()
    return Library(weights).fetch(wanted, files, show_progress=show_progress, later=later)


def obtain_weights(
    model: ModelSettings, weights: WeightsConfig, *, roles: Iterable[str] | None = None, show_progress: bool = True
) -> dict[str, LocalFile]:
    """Returns the model's weight files by role, verified; missing ones are fetched or made.

    Pickles are read without running code and copied to safetensors, as `WeightsConfig.pickles` says.

    Args:
        model: the model.
        weights: where files are, and how they are fetched.
        roles: the roles that are needed; by default all of the model.
        show_progress: report downloads on stderr.

    Raises:
        DownloadError: no source delivers one of them.
        CheckpointError: one of them is not a checkpoint; it was renamed to ``<name>.damaged``.
        ConfigError: terms must be acknowledged first, or a path is given for a role that the model does not have.
    """
    check_roles(model, weights)
    library, files = Library(weights), model.files
    roles = list(files.weights if roles is None else roles)
    seed = seed_of(files)
    if seed is not None:
        return {role: _seeded(model, role, seed, library) for role in roles}
    if files.whole is not None:
        return _from_whole(model, files.whole, library, roles, show_progress)
    wanted = {role: wanted_weights(files, weights)[role] for role in roles}
    found = library.fetch(wanted, files, show_progress=show_progress)
    return {role: _as_safetensors(wanted[role], each, library) for role, each in found.items()}


def wanted_vocabularies(files: ModelFiles, weights: WeightsConfig) -> dict[str, WantedFile]:
    """Returns the vocabularies by role. A substitute may hold them too, but only with the published content."""
    first = (*weights.mirrors, *((weights.substitute,) if weights.substitute else ()))
    return {
        role: _placed(spec, first, (*spec.sources, *files.vocabulary_sources), weights)
        for role, spec in files.vocabularies.items()
    }


def wanted_weights(files: ModelFiles, weights: WeightsConfig) -> dict[str, WantedFile]:
    """Returns the files of weights by role, or the shards of a whole copy by path; none of an untrained model."""
    if seed_of(files) is not None:
        return {}
    if files.whole is not None:
        folder = weights.home / "whole" / _mark(files.whole.sources)
        return {
            spec.path: WantedFile(spec, (*weights.mirrors, *spec.sources, *files.whole.sources), folder, convert=False)
            for spec in files.whole.shards
        }
    given = {role: user_path(path) for role, path in weights.paths.items()}
    if weights.substitute is not None:
        # Other content under the same paths: kept in a folder of its own, so that neither replaces the other.
        source, folder = weights.substitute, weights.home / "substitutes" / _mark([weights.substitute])
        wanted = {
            role: WantedFile(FileSpec(path=spec.path), (source,), folder, apart=True)
            for role, spec in files.weights.items()
        }
    else:
        wanted = {
            role: _placed(spec, weights.mirrors, (*spec.sources, *files.weight_sources), weights)
            for role, spec in files.weights.items()
        }
    return {role: replace(each, given=given.get(role)) for role, each in wanted.items()}


def wanted_files(files: ModelFiles, weights: WeightsConfig) -> dict[str, WantedFile]:
    """Returns every file of a model by role: weights, unless they are drawn from a seed, and vocabularies."""
    return wanted_weights(files, weights) | wanted_vocabularies(files, weights)


def check_roles(model: ModelSettings, weights: WeightsConfig) -> None:
    """Checks that every role in ``weights.paths`` is one of the model.

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


def comes_with_program(wanted: WantedFile) -> bool:
    """Whether a file needs no network, since this program brings it."""
    return any(source.startswith(_PACKAGE) for source in wanted.sources)


def seed_of(files: ModelFiles) -> str | None:
    """Returns the ``seed:<number>`` that an untrained model's weights are drawn from; None of a trained one."""
    return next((source for source in files.weight_sources if source.startswith(_SEED)), None)


def _placed(spec: FileSpec, first: tuple[str, ...], sources: tuple[str, ...], weights: WeightsConfig) -> WantedFile:
    """Returns a file with its place: among the released ones, or, if its sources are the user's own, apart from them.

    Two models of the user may both name a ``tuned/weights.pth.tar``, or the path of a released file, so such a file is
    identified by its sources too, and mirrors, which hold released files, are not asked for it.
    """
    if all(source in released_sources() or source.startswith(_PACKAGE) for source in sources):
        return WantedFile(spec, (*first, *sources), weights.home)
    return WantedFile(spec, sources, weights.home / "own" / _mark(sources), apart=True)


def _mark(sources: Iterable[str]) -> str:
    """Returns 8 hexadecimal digits for sources; secrets in their addresses, which change, do not matter."""
    names = " ".join(source_for(source).name for source in sources)
    return hashlib.sha256(names.encode()).hexdigest()[:8]


def _as_safetensors(wanted: WantedFile, found: LocalFile, library: Library) -> LocalFile:
    """Returns the file's safetensors copy; files of the user's own and of other programs are used as they are."""
    if not library.converts(wanted) or not found.own or found.path != wanted.path:
        return found
    copy = copy_path(found.path)
    record = library.records(wanted.folder).make(
        copy, found.sha256, f"converted from {found.path.name}", lambda: convert(found.path, copy), found.path
    )
    if library.weights.pickles == "replace":
        found.path.unlink(missing_ok=True)
    return LocalFile.of(copy, record, own=True)


def _from_whole(
    model: ModelSettings, whole: WholeCopy, library: Library, roles: list[str], show_progress: bool
) -> dict[str, LocalFile]:
    """Returns the networks of a whole copy, each split off into a file of its own once."""
    wanted = wanted_weights(model.files, library.weights)
    records = library.records(next(iter(wanted.values())).folder)
    targets = {role: records.folder / f"{role}.v{_SPLIT_RECIPE}.safetensors" for role in roles}
    known = records.read()
    # Shards that were fetched once may have been removed since; their digests are still recorded.
    origin = digest({path: known[path].sha256 for path in wanted}) if set(wanted) <= set(known) else None
    shards: list[Path] = []
    if origin is None or not all(records.is_current(target, origin) for target in targets.values()):
        found = library.fetch(wanted, model.files, show_progress=show_progress)
        origin = digest({path: each.sha256 for path, each in found.items()})
        shards = [each.path for each in found.values()]
    made = {}
    for role, target in targets.items():
        record = records.make(
            target,
            origin,
            f"split from {whole.sources[0]}",
            lambda role=role, target=target: model.opened.split(model.config, role, shards, target),  # type: ignore[misc]
            *shards,
        )
        made[role] = replace(LocalFile.of(target, record, own=True), identity=digest([origin, role]))
    if library.weights.pickles == "replace" and set(targets) == set(model.files.weights):
        for path in shards:
            path.unlink(missing_ok=True)
    return made


def _seeded(model: ModelSettings, role: str, seed: str, library: Library) -> LocalFile:
    number = int(seed.removeprefix(_SEED))
    causes = {"recipe": _SEEDED_RECIPE, **model.opened.initialise_causes(model.config, role)}
    path = library.home / f"{model.name}/seed-{number}-{digest(causes)[:12]}/{role}.safetensors"
    if not path.exists():
        model.opened.initialise(model.config, role, number, path)
    return LocalFile.of(path, library.records(library.home).verify(path), own=True)
