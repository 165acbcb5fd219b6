"""Models as sets of files: which exist, which of their files are on this machine, and moving these. Imports no torch.

This is `jukebox models` for programs. Names are those of models, of aliases, of model files (paths that end in .yaml),
or ``all``.
"""

from __future__ import annotations

import json
import shutil
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from jukebox_core.base.atomic import atomic_write
from jukebox_core.base.hashing import digest_file
from jukebox_core.base.records import read_json
from jukebox_core.base.yaml_files import load_yaml
from jukebox_core.errors import ConfigError, DownloadError, RecordError
from jukebox_core.models.checkpoints.convert import copy_path, is_pickle
from jukebox_core.models.checkpoints.prepared import prepared_files, remove_prepared
from jukebox_core.models.download.fetch import fetch_file
from jukebox_core.models.library import Library, LocalFile
from jukebox_core.models.presets import chosen_data, load_preset, option_names, option_path
from jukebox_core.models.records import set_aside
from jukebox_core.models.resolve import comes_with_program, obtain_vocabularies, obtain_weights, seed_of, wanted_files

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from pathlib import Path

    from jukebox_core.models.config import WeightsConfig
    from jukebox_core.models.library import WantedFile
    from jukebox_core.models.presets import ModelSettings

ALL, PREPARED = "all", "prepared"
EXPORT_NAME = "export.json"
ABSENT = "not here"
_LEFTOVERS = (".part", ".part.json", ".damaged")  # of a download


@dataclass(frozen=True, slots=True)
class Listed:
    """A model, and which of its files are on this machine."""

    name: str
    aliases: tuple[str, ...]
    licence: str
    bytes: int | None  # in all; None if the size of a missing file was never published
    exact: bool  # whether every size is known to the byte
    present: int  # how many of its files are here
    files: int  # how many it has
    usable: bool  # whether a run needs no network: each file is here, or comes with this program
    verified: str  # when the last of its files was hashed; empty if one never was


@dataclass(frozen=True, slots=True)
class Checked:
    """Result of verifying one file."""

    path: Path
    sha256: str  # empty if the file has a fault
    fault: str  # empty if it has none


def aliases() -> dict[str, str]:
    """Returns the model that each alias stands for: an alias, such as ``small``, is a file that only extends another.

    Raises:
        ConfigError: a file of conf/model cannot be read.
    """
    found = {}
    for name in option_names("model"):
        data = load_yaml(option_path(name, "model"))
        bases = [base for base in data.get("defaults", []) if base != "_self_"]
        if set(data) == {"defaults"} and len(bases) == 1:
            found[name] = str(bases[0])
    return found


def resolve(names: Iterable[str]) -> list[str]:
    """Returns the models that `names` stand for, each once, in order.

    ``all`` excludes whole copies, untrained models and those that are published nowhere.

    Raises:
        ConfigError: a name is not that of a model.
    """
    known, others = option_names("model"), aliases()
    found: dict[str, None] = {}
    for name in names:
        if name == ALL:
            plain = [load_preset(each) for each in known if each not in others]
            found.update({each.name: None for each in plain if _is_published(each)})
        else:
            chosen_data(name, "model")
            found[others.get(name, name)] = None
    return list(found)


def listing(weights: WeightsConfig) -> list[Listed]:
    """Returns every shipped model that has weights to fetch."""
    others, library = aliases(), Library(weights)
    presets = {name: load_preset(name) for name in option_names("model") if name not in others}
    return [
        _listed(name, preset, [alias for alias, base in others.items() if base == name], library)
        for name, preset in presets.items()
        if seed_of(preset.files) is None
    ]


def fetch(names: Iterable[str], weights: WeightsConfig, *, show_progress: bool = True) -> dict[str, Path]:
    """Fetches the files of models; returns where each is, by its path in the layout of the sources.

    Nothing is converted and no network is built, so that torch is not needed.

    Raises:
        DownloadError: a file could not be fetched.
        ConfigError: a name is not that of a model, or terms must be acknowledged first.
    """
    chosen = [load_preset(name) for name in resolve(names)]
    found, library = {}, Library(replace(weights, auto_download=True))
    for model in chosen:
        library.check(wanted_files(model.files, weights), model.files)
    for model in chosen:
        files = wanted_files(model.files, weights)
        here = library.fetch(files, model.files, show_progress=show_progress)
        found.update({files[role].spec.path: each.path for role, each in here.items()})
    return found


def prepare(name: str, weights: WeightsConfig, *, show_progress: bool = True) -> dict[str, Path]:
    """Fetches a model and makes every file that loading it needs; returns its files by role.

    Raises:
        JukeboxError: as `fetch`; CheckpointError for a file that is no checkpoint.
    """
    model = load_preset(resolve([name])[0])
    weights = replace(weights, auto_download=True)
    obtained = obtain_weights(model, weights, show_progress=show_progress)
    obtained |= obtain_vocabularies(model.files, weights, show_progress=show_progress)
    return {role: file.path for role, file in obtained.items()}


def paths(name: str, weights: WeightsConfig) -> dict[str, Path]:
    """Returns where the files of a model are, by role.

    Raises:
        DownloadError: one is not here.
    """
    library, files = Library(weights), wanted_files(load_preset(resolve([name])[0]).files, weights)
    return {role: library.path(each, f"run: jukebox models fetch {name}") for role, each in files.items()}


def check(names: Iterable[str], weights: WeightsConfig) -> Iterator[Checked]:
    """Hashes every file of models that is here, and yields the result for each.

    A file that is not as published or recorded is renamed to ``<name>.damaged``; one of another program is left alone.
    """
    library = Library(weights)
    for each in _unique(names, weights):
        found = library.find(each)
        if found is None:
            yield Checked(each.path, "", ABSENT)
            continue
        try:
            yield Checked(found.path, library.verify(each, found, again=True).sha256, "")
        except DownloadError as error:
            aside = f"; set aside as {set_aside(found.path).name}" if found.own else ""
            yield Checked(found.path, "", f"{error}{aside}")


def remove(names: Iterable[str], weights: WeightsConfig) -> tuple[list[Path], list[Path]]:
    """Removes files of models; returns those removed, and those kept because another model that is here needs them.

    Prepared weights are removed with the weights that they were made of; ``prepared`` among the names removes those of
    every model.
    """
    given, library = set(names), Library(weights)
    chosen = resolve(given - {PREPARED})
    others = [each for each in option_names("model") if each not in (*chosen, *aliases())]
    needed = {each.path for name in others for each in _if_complete(load_preset(name), library)}
    removed: list[Path] = []
    kept: list[Path] = []
    origins: set[str] = set()
    for each in _unique(chosen, weights):
        made = [copy_path(each.path)] if is_pickle(each.spec.path) else []
        leftovers = [each.path.with_name(f"{each.path.name}{end}") for end in _LEFTOVERS]
        here = [path for path in (each.path, *made, *leftovers) if path.is_file()]
        if each.path in needed:
            kept += here
            continue
        known = (library.find(each), library.records(each.folder).get(each.path))
        origins |= {sha256 for file in known if file for sha256 in (file.sha256, file.identity)}
        for path in here:
            library.records(each.folder).remove(path)
        removed += here
    return removed + remove_prepared(weights.home, None if PREPARED in given else origins - {""}), kept


def prepared(weights: WeightsConfig) -> tuple[int, int]:
    """Returns how many files of prepared weights are kept, and their size in bytes."""
    sizes = [path.stat().st_size for path in prepared_files(weights.home)]
    return len(sizes), sum(sizes)


def export(names: Iterable[str], target: Path, weights: WeightsConfig) -> list[Path]:
    """Copies models that are here to the folder `target`, in the layout of the sources; returns the copies.

    The folder can be imported on another machine, or named there as a mirror.

    Raises:
        DownloadError: a file is not here, or damaged.
    """
    library = Library(replace(weights, pickles="keep"))  # the published files, not their safetensors copies
    copies, records = [], {}
    for each in _unique(names, weights):
        source = library.path(each, "it cannot be exported; fetch it first")
        sha256 = library.verify(each, LocalFile(source, own=False)).sha256
        path = _exported_path(each, weights)
        records[path] = {"bytes": source.stat().st_size, "sha256": sha256}
        copies.append(_copied(source, target / path, sha256))
    with atomic_write(target / EXPORT_NAME) as file:
        file.write((json.dumps({"files": records}, indent=2) + "\n").encode())
    return copies


def import_(source: Path, weights: WeightsConfig, names: Iterable[str] = (ALL,)) -> list[Path]:
    """Copies files from a folder that `export` made into the weights folder; returns those that are here now.

    Raises:
        DownloadError: a file is not as it was exported, published or recorded.
        ConfigError: the folder is not an export.
    """
    try:
        files = read_json(source / EXPORT_NAME)["files"]
        exported = {str(path): (int(file["bytes"]), str(file["sha256"])) for path, file in files.items()}
    except (OSError, RecordError, AttributeError, KeyError, TypeError, ValueError) as error:
        raise ConfigError(
            f"{source} is no export: {EXPORT_NAME} in it cannot be read ({error}); name a folder that "
            "`jukebox models export` wrote"
        ) from error
    here = []
    for each in _unique(names, weights):
        path, spec = _exported_path(each, weights), each.spec
        if path not in exported:
            continue
        if not spec.sha256:
            size, sha256 = exported[path]
            spec = replace(spec, bytes=size, sha256=sha256)
        folder = str((source / path.removesuffix(spec.path)).absolute())
        here.append(fetch_file(spec, [folder], each.folder, offline=True))
    if not here:
        raise ConfigError(f"{source} holds none of the files of {', '.join(names)}; it holds {', '.join(exported)}")
    return here


def _is_published(model: ModelSettings) -> bool:
    return model.files.whole is None and not seed_of(model.files) and bool(model.files.weight_sources)


def _exported_path(wanted: WantedFile, weights: WeightsConfig) -> str:
    """Returns the path of a file in an export: that of the sources, unless another file may have the same."""
    return str(wanted.path.relative_to(weights.home)) if wanted.apart else wanted.spec.path


def _unique(names: Iterable[str], weights: WeightsConfig) -> list[WantedFile]:
    every = (each for name in resolve(names) for each in wanted_files(load_preset(name).files, weights).values())
    return list({each.path: each for each in every}.values())


def _if_complete(model: ModelSettings, library: Library) -> list[WantedFile]:
    """Returns the files of a model if all of them are here, else none."""
    files = list(wanted_files(model.files, library.weights).values())
    return files if all(map(library.find, files)) else []


def _listed(name: str, model: ModelSettings, others: Iterable[str], library: Library) -> Listed:
    files = {each.path: each for each in wanted_files(model.files, library.weights).values()}
    here = {path: library.find(each) for path, each in files.items()}
    times = [found.verified if found else "" for found in here.values()]
    sizes = [_size(files[path], found) for path, found in here.items()]
    return Listed(
        name,
        tuple(others),
        model.files.licence,
        sum(size for size, _ in sizes) if all(size for size, _ in sizes) else None,
        all(exact for _, exact in sizes),
        sum(found is not None for found in here.values()),
        len(here),
        all(found is not None or comes_with_program(files[path]) for path, found in here.items()),
        max(times, default="") if all(times) else "",
    )


def _size(each: WantedFile, found: LocalFile | None) -> tuple[int, bool]:
    """Returns the size of a file in bytes, 0 if it is unknown, and whether it is exact."""
    if found is not None and found.path == each.path:
        return found.path.stat().st_size, True
    return each.spec.bytes or each.spec.about_bytes or 0, each.spec.bytes is not None


def _copied(source: Path, target: Path, sha256: str) -> Path:
    if target.is_file() and target.stat().st_size == source.stat().st_size and digest_file(target) == sha256:
        return target
    with atomic_write(target) as copy, source.open("rb") as original:
        shutil.copyfileobj(original, copy, 8 << 20)
    return target
