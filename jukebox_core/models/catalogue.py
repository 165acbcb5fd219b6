"""The models as sets of files: what there is, what of it is on this machine, and moving it about. Imports no torch.

What ``jukebox models`` shows and does, for programs. Names are those of models, of aliases, of model files (paths that
end in .yaml), or ``all``.
"""

from __future__ import annotations

import json
import shutil
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from jukebox_core.base.atomic import atomic_write
from jukebox_core.base.hashing import digest_file
from jukebox_core.errors import ConfigError, DownloadError
from jukebox_core.models.checkpoints.convert import copy_path, is_pickle
from jukebox_core.models.checkpoints.prepared import prepared_files, remove_prepared
from jukebox_core.models.digests import read_records, record_name, write_record
from jukebox_core.models.download.fetch import fetch_file, set_aside
from jukebox_core.models.download.progress import meter
from jukebox_core.models.library import find, home, verify
from jukebox_core.models.presets import load_preset, load_yaml, option_names, option_path
from jukebox_core.models.resolve import (
    obtain_vocabularies,
    obtain_weights,
    seed_of,
    wanted_vocabularies,
    wanted_weights,
)

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from pathlib import Path

    from jukebox_core.models.config import WeightsConfig
    from jukebox_core.models.library import Found, Meters, Wanted
    from jukebox_core.models.presets import ModelSettings

ALL, PREPARED = "all", "prepared"
EXPORT_NAME = "export.json"
ABSENT = "not here"


@dataclass(frozen=True, slots=True)
class Listed:
    """A model, and what of it is here."""

    name: str
    aliases: tuple[str, ...]
    licence: str
    bytes: int | None  # in all; None if the size of a file that is not here was never published
    exact: bool  # whether every size is known to the byte
    present: int  # how many of its files are here
    files: int  # how many it has
    verified: str  # when the last of its files was hashed; empty if one never was


@dataclass(frozen=True, slots=True)
class Checked:
    """What verifying one file found."""

    path: Path
    sha256: str  # empty if it is not as it should be
    fault: str  # empty if it is


def aliases() -> dict[str, str]:
    """Returns the names that stand for another model, as ``small`` does: files that only build on that one."""
    found = {}
    for name in option_names("model"):
        data = load_yaml(option_path(name, "model"))
        bases = [base for base in data.get("defaults", []) if base != "_self_"]
        if set(data) == {"defaults"} and len(bases) == 1:
            found[name] = str(bases[0])
    return found


def resolve(names: Iterable[str]) -> list[str]:
    """Returns the models that `names` mean, each once, in order; ``all`` means every one with weights, but for copies.

    Raises:
        ConfigError: a name is none of a model.
    """
    known, others = option_names("model"), aliases()
    found: dict[str, None] = {}
    for name in names:
        if name == ALL:
            plain = [load_preset(each) for each in known if each not in others]
            found.update({each.name: None for each in plain if each.files.whole is None and _has_files(each)})
        else:
            option_path(name, "model")
            found[others.get(name, name)] = None
    return list(found)


def wanted(model: ModelSettings, weights: WeightsConfig) -> dict[str, Wanted]:
    """Returns the files of a model by role: weights, unless they are made from a seed, and vocabularies."""
    made = seed_of(model.files) is not None
    return ({} if made else wanted_weights(model.files, weights)) | wanted_vocabularies(model.files, weights)


def listing(weights: WeightsConfig) -> list[Listed]:
    """Returns every model that there is an entry for, and that has weights."""
    others = aliases()
    names = [name for name in option_names("model") if name not in others and _has_files(load_preset(name))]
    return [_listed(name, others, weights) for name in names]


def _has_files(model: ModelSettings) -> bool:
    """Whether there are weights to fetch: those of a model that is there to be trained are made from a seed."""
    return seed_of(model.files) is None


def fetch(names: Iterable[str], weights: WeightsConfig, *, meters: Meters | None = meter) -> dict[str, Path]:
    """Fetches the files of models as they are; returns where each is, by its path in the layout of the sources.

    Nothing is converted and no network is built, so that neither torch nor a fitting configuration is needed.

    Raises:
        DownloadError: a file could not be fetched.
        ConfigError: a name is none of a model, or terms must be acknowledged first.
    """
    from jukebox_core.models.library import obtain

    models = [load_preset(name) for name in resolve(names)]
    found: dict[str, Path] = {}
    for model in models:
        files = wanted(model, weights)
        here = obtain(files, model.files, weights, meters)
        found |= {files[role].spec.path: each.path for role, each in here.items()}
    return found


def prepare(name: str, weights: WeightsConfig, *, meters: Meters | None = meter) -> dict[str, Path]:
    """Fetches a model and makes everything that loading it needs; returns its files by role.

    Raises:
        JukeboxError: as `fetch`; CheckpointError for a file that is no checkpoint.
    """
    model = load_preset(resolve([name])[0])
    obtained = obtain_weights(model, weights, meters=meters)
    obtained |= obtain_vocabularies(model.files, weights, meters=meters)
    return {role: file.path for role, file in obtained.items()}


def paths(name: str, weights: WeightsConfig) -> dict[str, Path]:
    """Returns where the files of a model are, by role.

    Raises:
        DownloadError: one is not here.
    """
    found = {}
    for role, each in wanted(load_preset(resolve([name])[0]), weights).items():
        here = find(each, weights)
        if here is None:
            raise DownloadError(f"{each.spec.path} is not here; run: jukebox models fetch {name}")
        found[role] = here.path
    return found


def check(names: Iterable[str], weights: WeightsConfig) -> Iterator[Checked]:
    """Hashes every file of models that is here, and says what it found, one by one.

    A file that is not as published or recorded is set aside as ``<name>.damaged``; another program's is left alone.
    """
    for each in _unique(names, weights):
        here = find(each, weights)
        if here is None:
            yield Checked(each.path, "", ABSENT)
            continue
        try:
            sha256 = verify(each, here, again=True)
        except DownloadError as error:
            aside = f"; set aside as {set_aside(here.path).name}" if here.own else ""
            yield Checked(here.path, "", f"{error}{aside}")
        else:
            yield Checked(here.path, sha256, "")


def remove(names: Iterable[str], weights: WeightsConfig) -> tuple[list[Path], list[Path]]:
    """Removes files of models; returns those removed, and those kept because another model that is here needs them.

    With the weights goes what was prepared of them; ``prepared`` among the names means all that was, of every model.
    """
    given = set(names)
    chosen = resolve(given - {PREPARED})
    others = [each for each in option_names("model") if each not in (*chosen, *aliases())]
    needed = {each.path for name in others for each in _if_whole(load_preset(name), weights)}
    removed, kept, origins = [], [], set()
    for each in _unique(chosen, weights):
        if each.path not in needed:
            origins |= _digests(each, weights)
        made = [copy_path(each.path)] if is_pickle(each.spec.path) else []
        leftovers = [each.path.with_name(f"{each.path.name}{end}") for end in (".part", ".part.json", ".damaged")]
        for path in (each.path, *made, *leftovers):
            if not path.is_file():
                continue
            if each.path in needed:
                kept.append(path)
                continue
            path.unlink()
            write_record(each.folder, record_name(each.folder, path), None)
            removed.append(path)
    return removed + remove_prepared(home(weights), None if PREPARED in given else origins), kept


def prepared(weights: WeightsConfig) -> tuple[int, int]:
    """Returns how many files are kept so that weights load faster, and their bytes."""
    sizes = [path.stat().st_size for path in prepared_files(home(weights))]
    return len(sizes), sum(sizes)


def export(names: Iterable[str], target: Path, weights: WeightsConfig) -> list[Path]:
    """Copies models that are here to the folder `target`, in the layout of the sources; returns the copies.

    The folder can be brought to another machine and imported there, or named there as a mirror.

    Raises:
        DownloadError: a file is not here or damaged.
    """
    copies, records = [], {}
    for each in _unique(names, weights):
        here = find(each, replace(weights, pickles="keep"))
        if here is None:
            raise DownloadError(f"{each.spec.path} is not here, so it cannot be exported; fetch it first")
        sha256 = verify(each, here)
        carried = _carried_as(each, weights)
        records[carried] = {"bytes": here.path.stat().st_size, "sha256": sha256}
        copies.append(_copied(here.path, target / carried, sha256))
    with atomic_write(target / EXPORT_NAME) as file:
        file.write((json.dumps({"files": records}, indent=2) + "\n").encode())
    return copies


def import_(source: Path, weights: WeightsConfig, names: Iterable[str] = (ALL,)) -> list[Path]:
    """Copies files from a folder that `export` made into the weights folder; returns those that are here now.

    Raises:
        DownloadError: a file is not what was exported, published or recorded.
        ConfigError: the folder is not an export.
    """
    try:
        told = json.loads((source / EXPORT_NAME).read_text())["files"]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise ConfigError(
            f"{source} is no export: {EXPORT_NAME} in it cannot be read ({error}); name a folder that "
            "`jukebox models export` wrote"
        ) from error
    here = []
    for each in _unique(names, weights):
        entry = told.get(_carried_as(each, weights))
        if entry is None:
            continue
        spec = each.spec if each.spec.sha256 else replace(each.spec, bytes=entry["bytes"], sha256=entry["sha256"])
        shelf = (source / _carried_as(each, weights).removesuffix(spec.path)).absolute()
        here.append(fetch_file(spec, [str(shelf)], each.folder, offline=True))
    if not here:
        raise ConfigError(f"{source} holds none of the files of {', '.join(names)}; it holds {', '.join(told)}")
    return here


def _digests(wanted: Wanted, weights: WeightsConfig) -> set[str]:
    """Returns the digests by which what was prepared of a file may know it: its own, and that of its original."""
    here = find(wanted, weights)
    records = read_records(wanted.folder)
    known = [
        records.get(record_name(wanted.folder, path)) for path in {wanted.path, here.path if here else wanted.path}
    ]
    return {sha256 for record in known if record for sha256 in (record.sha256, record.origin) if sha256}


def _carried_as(wanted: Wanted, weights: WeightsConfig) -> str:
    """Returns the path of a file in an export: that of the sources, unless another file may have it too."""
    return str(wanted.path.relative_to(home(weights))) if wanted.apart else wanted.spec.path


def _unique(names: Iterable[str], weights: WeightsConfig) -> list[Wanted]:
    every = (each for name in resolve(names) for each in wanted(load_preset(name), weights).values())
    return list({each.path: each for each in every}.values())


def _if_whole(model: ModelSettings, weights: WeightsConfig) -> list[Wanted]:
    """The files of a model if all of them are here."""
    files = list(wanted(model, weights).values())
    return files if all(find(each, weights) for each in files) else []


def _listed(name: str, others: dict[str, str], weights: WeightsConfig) -> Listed:
    model = load_preset(name)
    files = {each.path: each for each in wanted(model, weights).values()}
    here = {path: find(each, weights) for path, each in files.items()}
    times = [found.verified if found else "" for found in here.values()]
    sizes = [_size(files[path], found) for path, found in here.items()]
    return Listed(
        name,
        tuple(alias for alias, base in others.items() if base == name),
        model.files.licence,
        sum(size for size, _ in sizes) if all(size for size, _ in sizes) else None,
        all(exact for _, exact in sizes),
        sum(found is not None for found in here.values()),
        len(here),
        max(times, default="") if all(times) else "",
    )


def _size(each: Wanted, found: Found | None) -> tuple[int, bool]:
    if found is not None and found.path == each.path:
        return found.path.stat().st_size, True
    return each.spec.bytes or each.spec.about_bytes or 0, each.spec.bytes is not None


def _copied(source: Path, target: Path, sha256: str) -> Path:
    if target.is_file() and target.stat().st_size == source.stat().st_size and digest_file(target) == sha256:
        return target
    with atomic_write(target) as copy, source.open("rb") as original:
        shutil.copyfileobj(original, copy, 8 << 20)
    return target
