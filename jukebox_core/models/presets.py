"""Models by name or by file, for programs that use the core without the command line. Imports no torch.

A model is a YAML file: one of ``conf/model/``, or the user's own. A file may extend others with a list of plain names,
``defaults: [_shared, _self_]``, looked up beside it and then among the shipped models. This is the subset of Hydra's
composition that models use, so that both ways give the same model.
"""

from __future__ import annotations

import math
import os
from dataclasses import dataclass, field, fields, replace
from functools import cache
from typing import TYPE_CHECKING, Any

from jukebox_core.base.paths import check_name, conf_dir, user_path
from jukebox_core.base.structuring import build
from jukebox_core.base.yaml_files import load_yaml
from jukebox_core.errors import ConfigError, did_you_mean
from jukebox_core.family import Family, family_of, open_family
from jukebox_core.models.config import ModelFiles  # noqa: TC001  records are built by reading annotations

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path


@dataclass(frozen=True, kw_only=True, slots=True)
class ModelSettings:
    """A model: its family, its hyperparameters, and the files it consists of (conf/model/*.yaml)."""

    name: str
    family: str  # which family of models it belongs to
    network: Any  # its hyperparameters, as a record of the family's `network_type`
    files: ModelFiles
    trained: bool = True  # false: weights are random, and so is the music; reports say so
    usual_seconds: float | None = None  # length of a usual song, used where a song names none; null: that of the music
    usual_temperatures: dict[str, float] = field(default_factory=dict)  # by part; those of sampling where it names none

    @classmethod
    def section_types(cls, data: Mapping[str, Any]) -> dict[str, Any]:
        """Returns the type of `network`, which the family decides."""
        return {"network": family_of(data).network_type}

    def __post_init__(self) -> None:
        """Checks the name, which folders are named after, and that network and files agree."""
        check_name(self.name, "name")
        if self.usual_seconds is not None and not 0 < self.usual_seconds < math.inf:
            raise ConfigError(f"usual_seconds is {self.usual_seconds}; it must be above 0 and finite, or null")
        for role, temperature in self.usual_temperatures.items():
            if not 0 < temperature < math.inf:
                raise ConfigError(f"usual_temperatures.{role} is {temperature}; it must be above 0 and finite")
        roles = set(self.opened.roles(self.config))
        if set(self.files.weights) != roles:
            raise ConfigError(
                f"files.weights name {sorted(self.files.weights)}; name the networks of the model, {sorted(roles)}"
            )

    @property
    def opened(self) -> Family:
        """The model's family."""
        return open_family(self.family)

    @property
    def config(self) -> Any:
        """The hyperparameters as the family's `ModelConfig`."""
        return self.opened.config(self.name, self.network)

    @property
    def usual_sampling(self) -> Any:
        """The family's settings of sampling, at the temperatures that suit this model."""
        sampling = self.opened.sampling_type()
        known = {each.name for each in fields(sampling)} & set(self.usual_temperatures)
        parts = {
            role: replace(getattr(sampling, role), temperature=self.usual_temperatures[role]) for role in sorted(known)
        }
        return replace(sampling, **parts)


def load_preset(name_or_path: str | os.PathLike[str]) -> ModelSettings:
    """Returns a model: a shipped one by name, or the user's own by the path of its file or folder.

    Raises:
        ConfigError: the model does not exist, or its file is not valid.
    """
    return build(ModelSettings, chosen_data(os.fspath(name_or_path), "model"), "model")


@cache
def released_sources() -> frozenset[str]:
    """Returns the sources of the released models, which share one layout: a path in it identifies one file."""
    files = load_yaml(conf_dir() / "model" / "_shared.yaml")["files"]
    return frozenset(files["weight_sources"]) | frozenset(files["vocabulary_sources"])


def option_names(group: str) -> list[str]:
    """Returns the names of the shipped options of a group of settings, such as ``model``."""
    return choices([path.stem for path in (conf_dir() / group).glob("*.yaml")])


def choices(names: list[str]) -> list[str]:
    """Returns the names of complete options, sorted; a leading underscore marks a part of others."""
    return sorted(name for name in names if not name.startswith("_"))


def is_path(value: str) -> bool:
    """Whether `value` is the path of a file or folder, not the name of a shipped option."""
    return os.sep in value or value.startswith("~") or value.endswith((".yaml", ".yml"))


def is_finetune(value: str) -> bool:
    """Whether `value` names a fine-tune of a shipped model, as ``vampnet:NAME``."""
    return ":" in value and not is_path(value)


def chosen_data(value: str, group: str) -> dict[str, Any]:
    """Returns the settings of an option of `group`: a shipped one, a fine-tune of one, or the user's own file.

    Raises:
        ConfigError: it does not exist, its file is not valid, or its family has no fine-tunes by name.
    """
    if group != "model" or not is_finetune(value):
        return option_data(option_path(value, group), group)
    base, _, name = value.partition(":")
    data = option_data(option_path(base, group), group)
    family = family_of(data)
    if not hasattr(family, "finetuned"):
        raise ConfigError(f"model is {value!r}, but {base} has no fine-tunes by name; write model={base}")
    check_name(name, "the name of a fine-tune")
    found: dict[str, Any] = family.finetuned(data, name)
    return found


def option_path(name_or_path: str, group: str) -> Path:
    """Returns the file that describes an option of `group`; in a folder of the user it is called ``<group>.yaml``.

    Raises:
        ConfigError: no such option or file exists.
    """
    if not is_path(name_or_path):
        names = option_names(group)
        if name_or_path not in names:
            raise ConfigError(no_option(group, name_or_path, names))
        return conf_dir() / group / f"{name_or_path}.yaml"
    path = user_path(name_or_path)
    if path.is_dir():
        path = path / f"{group}.yaml"
    if not path.exists():
        beside = [found.name for found in path.parent.glob("*.yaml")]
        raise ConfigError(
            f"{group} is {name_or_path!r}, but there is no file {path}; give the path of a YAML file, of a folder with "
            f"{group}.yaml in it, or one of {', '.join(option_names(group))}{did_you_mean(path.name, beside)}"
        )
    return path


def no_option(group: str, name: str, names: list[str]) -> str:
    """Returns the message for an option that a group does not have."""
    return f"{group} is {name!r}; choose one of {', '.join(choices(names))}{did_you_mean(name, choices(names))}"


def option_data(path: Path, group: str) -> dict[str, Any]:
    """Returns the settings in a file, merged into those of its `defaults` list.

    Sources of files that begin with ``./`` are relative to the file itself, so that a model's folder can be moved.

    Raises:
        ConfigError: a file is missing, is not YAML, extends itself, or has a `defaults` list that names no sibling.
    """
    return _merged_file(path, group, ())


def _merged_file(path: Path, group: str, above: tuple[Path, ...]) -> dict[str, Any]:
    if path in above:
        raise ConfigError(f"{path} builds on itself; remove it from the defaults of {above[-1]}")
    own = _beside(load_yaml(path), path.parent)
    names = own.pop("defaults", [])
    if not isinstance(names, list):
        raise ConfigError(f"{path}: defaults is {names!r}; it must be a list of names, as in [_shared, _self_]")
    merged: dict[str, Any] = {}
    for name in names if "_self_" in names else [*names, "_self_"]:
        part = own if name == "_self_" else _merged_file(_sibling(path, name, group), group, (*above, path))
        merged = _merge(merged, part)
    return merged


def _beside(data: dict[str, Any], folder: Path) -> dict[str, Any]:
    """Returns the settings of a file in `folder`, with relative sources made absolute."""
    files = data.get("files")
    if not isinstance(files, dict):
        return data
    for key in ("weight_sources", "vocabulary_sources"):
        if isinstance(files.get(key), list):
            files[key] = [
                str((folder / source).resolve()) if isinstance(source, str) and source.startswith("./") else source
                for source in files[key]
            ]
    return data


def _sibling(path: Path, name: object, group: str) -> Path:
    if not isinstance(name, str) or is_path(name):
        raise ConfigError(f"{path}: defaults names {name!r}; only plain names of files beside it, or of {group}/, fit")
    folders = (path.parent, conf_dir() / group)
    user_path(name)  # has a length that a file's name can have
    found = next((folder / f"{name}.yaml" for folder in folders if (folder / f"{name}.yaml").is_file()), None)
    if found is None:
        raise ConfigError(f"{path}: defaults names {name!r}, but no {name}.yaml is in {' or '.join(map(str, folders))}")
    return found


def _merge(below: dict[str, Any], above: dict[str, Any]) -> dict[str, Any]:
    merged = dict(below)
    for name, value in above.items():
        old = merged.get(name)
        merged[name] = _merge(old, value) if isinstance(old, dict) and isinstance(value, dict) else value
    return merged
