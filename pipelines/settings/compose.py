"""From configuration files and overrides to checked settings; Hydra and OmegaConf are used only here.

`compose` is for programs and deployments; `from_command_line` also accepts the flags of Hydra's command line. Every
error becomes one ConfigError with this project's messages (`compose_errors`).
"""

from __future__ import annotations

import hashlib
import os
import sys
import tempfile
import threading
import warnings
from contextlib import contextmanager
from dataclasses import dataclass, fields
from itertools import pairwise
from typing import TYPE_CHECKING, Any, Generic, TypeVar, cast

import hydra
import yaml
from hydra.core.config_store import ConfigStore
from hydra.errors import HydraException
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from jukebox_core.base.paths import conf_dir, shortened, user_path
from jukebox_core.base.structuring import build, to_plain
from jukebox_core.base.yaml_files import load_yaml
from jukebox_core.composer.config import AlbumConfig
from jukebox_core.errors import ConfigError
from jukebox_core.family import DEFAULT_FAMILY, Family, family_of, open_family
from jukebox_core.models.presets import chosen_data, is_finetune, is_path, option_names, option_path
from jukebox_core.models.stored import to_stored
from pipelines.settings.align import AlignSettings
from pipelines.settings.arguments import check_arguments, is_override
from pipelines.settings.choices import listing_choices
from pipelines.settings.codec import DecodeSettings, EncodeSettings
from pipelines.settings.compose_errors import explain
from pipelines.settings.dataset import DatasetSettings
from pipelines.settings.export import ExportSettings
from pipelines.settings.features import FeaturesSettings
from pipelines.settings.generate import Settings
from pipelines.settings.hardware import with_auto_resolved
from pipelines.settings.overrides import check_references, escaped, overrides_as_text, parse, unescaped
from pipelines.settings.train import TrainSettings
from pipelines.settings.transcribe import EvaluateSettings, TranscribeSettings
from pipelines.settings.vamp import InpaintSettings, VampSettings

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence
    from pathlib import Path

    from hydra.core.override_parser.types import Override

T = TypeVar("T")

_HYDRA_VERSION = "1.3"
_PROVIDER = "jukebox"  # of nodes that are registered for one composition
_HYDRA = threading.RLock()  # Hydra keeps its state in one global


@dataclass(frozen=True, slots=True)
class Root(Generic[T]):
    """The configuration root of a command, and the record type of its settings."""

    name: str
    kind: type[T]
    node: Mapping[str, Any] | None = None  # the configuration itself, if it is not a file of conf/


GENERATE = Root("generate", Settings)
ENCODE = Root("encode", EncodeSettings)
DECODE = Root("decode", DecodeSettings)
ALIGN = Root("align", AlignSettings)
FEATURES = Root("features", FeaturesSettings)
COMPOSE = Root("compose", AlbumConfig)
DATASET = Root("dataset", DatasetSettings)
TRANSCRIBE = Root("transcribe", TranscribeSettings)
VAMP = Root("vamp", VampSettings)
INPAINT = Root("inpaint", InpaintSettings)
EVALUATE = Root("evaluate", EvaluateSettings)
EXPORT = Root("export", ExportSettings)
TRAIN = Root("train", TrainSettings)
FINETUNE = Root("finetune", TrainSettings)
ROOTS: tuple[Root[Any], ...] = (
    GENERATE, VAMP, INPAINT, ENCODE, DECODE, FEATURES, ALIGN, TRANSCRIBE, EVALUATE, COMPOSE, DATASET, EXPORT,
    TRAIN, FINETUNE,
)  # fmt: skip


def compose(root: Root[T], overrides: Sequence[str] = ()) -> T:
    """Returns the settings that `root` and `overrides` (Hydra's grammar) make.

    Raises:
        ConfigError: an override, a file or a value that does not fit; all known errors, one a line.
    """
    with _hydra_errors_as_config_error(root, overrides):
        return _checked(root, _composed(root, overrides))


def unchecked(root: Root[Any], overrides: Sequence[str] = ()) -> dict[str, Any]:
    """Returns the plain settings that `root` and `overrides` make, ``???`` where a value must be given; for help.

    Raises:
        ConfigError: as `compose`, apart from values that are missing or out of range.
    """
    with _hydra_errors_as_config_error(root, overrides):
        config = _composed(root, overrides)
        _name_usual_temperatures(config)
        check_references(OmegaConf.to_container(config, resolve=False))
        return cast("dict[str, Any]", OmegaConf.to_container(config, resolve=True, throw_on_missing=False))


def _composed(root: Root[Any], overrides: Sequence[str]) -> DictConfig:
    readable = overrides_as_text(root.kind, overrides, lambda: _family(root, overrides).name)
    selected = _with_files(root, readable)
    _check_added_files(override_value(readable, "hydra.searchpath"))
    with hydra.initialize_config_dir(str(conf_dir()), version_base=_HYDRA_VERSION), _odd_input_refused(overrides):
        return hydra.compose(root.name, selected)


def from_command_line(root: Root[T], arguments: Sequence[str]) -> list[T]:
    """Returns the settings of every job of a command line; none if its flags only make Hydra print something.

    Args:
        root: the command's.
        arguments: overrides and Hydra's flags, in any order: ``--help``, ``--cfg job``, ``--multirun``, ``-sc`` ...

    Raises:
        ConfigError: as `compose`, for the first invalid job; all jobs are checked before any is returned.
        SystemExit: Hydra printed help or completion, or refused a flag.
    """
    jobs: list[T] = []
    refused: list[ConfigError] = []

    def job(config: DictConfig) -> None:
        try:
            jobs.append(_checked(root, config))
        except (ConfigError, OmegaConfBaseException) as error:
            refused.append(_explained(error, root, overrides))

    check_arguments(root.kind, root.name, arguments)
    flags = [a for a in arguments if not is_override(a)]
    _check_added_files([f.partition("=")[2] or following for f, following in pairwise([*flags, ""]) if _adds_files(f)])
    overrides = [a for a in arguments if is_override(a)]
    if not flags and not any(o.startswith("hydra.") for o in overrides):
        return [compose(root, overrides)]  # one job, in half the time of `hydra.main`
    with _hydra_errors_as_config_error(root, overrides), listing_choices(root.kind):
        readable = overrides_as_text(
            root.kind, overrides, lambda: _family(root, overrides).name, sweep=_sweeps(arguments)
        )
        _check_added_files(override_value(readable, "hydra.searchpath"))
        with _arguments([*flags, *_with_files(root, readable)]), _odd_input_refused(overrides):
            hydra.main(version_base=_HYDRA_VERSION, config_path=str(conf_dir()), config_name=root.name)(job)()
    if refused:
        raise refused[0]
    return jobs


def stored_root(name: str, sections: Mapping[str, Any], overrides: Sequence[str]) -> Root[Settings]:
    """Returns the configuration root of a command that starts from stored settings: data, which nothing in them alters.

    A group named in `overrides`, as in ``song=lantern``, replaces that section of the stored settings.
    """
    groups = [group for group in _groups() if any(o.partition("=")[0] == group for o in overrides)]
    left = {section: value for section, value in sections.items() if section not in groups}
    defaults = [*({group: None} for group in groups), "quiet", "_self_", {"experiment": None}]
    return Root(name, Settings, {"defaults": defaults, **escaped(left)})


def override_value(overrides: Sequence[str], key: str) -> object:
    """Returns the value of a setting in `overrides`; None if they do not set it, or sweep over several values.

    Raises:
        ConfigError: Hydra cannot read it.
    """
    given = [o for o in overrides if o.lstrip("+").partition("=")[0] == key and "=" in o]
    try:
        parsed = [parse(o) for o in overrides_as_text(Settings, given, lambda: DEFAULT_FAMILY, sweep=True)]
    except HydraException as error:
        raise explain(error, Settings, given, {}) from None
    found = [o.value() for o in parsed if not o.is_sweep_override()]
    return OmegaConf.to_container(OmegaConf.create({"value": found[-1]}))["value"] if found else None  # type: ignore[call-overload,index]


def dump(settings: object) -> str:
    """Returns settings as YAML, the content of a run's config.yaml, without credentials of sources.

    `pipelines.runs.settings_of_run` reads it.
    """
    return yaml.safe_dump(to_stored(settings), sort_keys=False, allow_unicode=True)


def _checked(root: Root[T], config: DictConfig) -> T:
    _name_usual_temperatures(config)
    check_references(OmegaConf.to_container(config, resolve=False))
    made = build(root.kind, unescaped(OmegaConf.to_container(config, resolve=True, throw_on_missing=True)))
    return cast("T", with_auto_resolved(made)) if isinstance(made, Settings) else made


def _name_usual_temperatures(config: DictConfig) -> None:
    """Adds temperatures to a model of an earlier version, whose file names none: `sampling` refers to them."""
    model = config.get("model")
    if isinstance(model, DictConfig) and "sampling" in config and "usual_temperatures" not in model:
        usual = to_plain(family_of({"family": model.get("family")}).sampling_type())
        of_model = {part: how["temperature"] for part, how in usual.items() if isinstance(how, dict)}
        OmegaConf.update(config, "model.usual_temperatures", of_model, force_add=True)


@contextmanager
def _hydra_errors_as_config_error(root: Root[Any], overrides: Sequence[str]) -> Iterator[None]:
    """Serialises access to Hydra, and raises its errors as ConfigError."""
    with _HYDRA, _stored(root), warnings.catch_warnings():
        warnings.filterwarnings("error", message="provider=.* is not", category=UserWarning)
        try:
            yield
        except ConfigError:
            raise
        except (HydraException, OmegaConfBaseException, UserWarning, ValueError) as error:  # ValueError: bad flags
            raise _explained(error, root, overrides) from error


@contextmanager
def _odd_input_refused(overrides: Sequence[str]) -> Iterator[None]:
    """Raises ConfigError for the errors that Hydra has no own kind for: odd names meet its assertions, for example."""
    try:
        yield
    except (ConfigError, HydraException, OmegaConfBaseException, UserWarning, OSError):
        raise
    except Exception as error:
        reason = " ".join(str(error).split())[:200] or type(error).__name__
        given = " ".join(map(shortened, overrides))
        raise ConfigError(
            f"{given} cannot be composed ({reason}); write name=value with the names of settings"
        ) from error


def _explained(error: Exception, root: Root[Any], overrides: Sequence[str]) -> ConfigError:
    try:
        family = _family(root, overrides).name
    except (ConfigError, HydraException):  # the model's name is the error
        family = DEFAULT_FAMILY
    return explain(error, root.kind, overrides, {"family": family, "model": {"family": family}})


@contextmanager
def _stored(root: Root[Any]) -> Iterator[None]:
    """Registers the node of `root` with Hydra; unregisters it and the files of overrides after the block.

    Each composition copies all registered nodes: leftovers would make every later one slower.
    """
    store = ConfigStore.instance()
    try:
        if root.node is not None:
            store.store(name=root.name, node=dict(root.node), provider=_PROVIDER)
        yield
    finally:
        _forget(store.repo)


def _forget(options: dict[str, Any]) -> None:
    for name, part in list(options.items()):
        if isinstance(part, dict):
            _forget(part)
        elif part.provider == _PROVIDER:
            del options[name]


def _adds_files(flag: str) -> bool:
    return flag.partition("=")[0] in ("--config-dir", "-cd", "--config-path", "-cp")


def _check_added_files(folders: object) -> None:
    """Checks the files of folders that a user adds to Hydra's search path, which Hydra itself reads without limits.

    Raises:
        ConfigError: a file is no plain YAML of a bounded size.
    """
    named = [folder for folder in folders if isinstance(folder, str)] if isinstance(folders, list) else []
    for folder in (user_path(each.removeprefix("file://")) for each in named if each):
        for group in (*_groups(), "experiment"):
            for file in sorted((folder / group).glob("*.yaml")):
                load_yaml(file)


def _sweeps(arguments: Sequence[str]) -> bool:
    return bool({"-m", "--multirun", "hydra.mode=MULTIRUN"} & set(arguments))


@contextmanager
def _arguments(arguments: list[str]) -> Iterator[None]:
    """Replaces the process's arguments for Hydra, makes it raise its errors, and discards its sweep files."""
    argv, full = sys.argv, os.environ.get("HYDRA_FULL_ERROR")
    with tempfile.TemporaryDirectory(prefix="jukebox-sweep-") as folder:
        if _sweeps(arguments):
            arguments = [*arguments, f"hydra.sweep.dir='{folder}'"]
        sys.argv = [argv[0], *arguments]
        os.environ["HYDRA_FULL_ERROR"] = "1"
        try:
            yield
        finally:
            sys.argv = argv
            os.environ.pop("HYDRA_FULL_ERROR")
            if full is not None:
                os.environ["HYDRA_FULL_ERROR"] = full


def _groups() -> list[str]:
    return sorted(folder.name for folder in conf_dir().iterdir() if folder.is_dir() and folder.name != "experiment")


def _with_files(root: Root[Any], overrides: Sequence[str]) -> list[str]:
    """Returns the overrides with YAML files, as in ``model=/my/model.yaml``, registered as options of their groups."""
    groups = set(_groups())
    named = [_with_file(o, text) if o.key_or_group in groups else text for text in overrides for o in (parse(text),)]
    return [*_family_defaults(root, overrides), *named]


def _family_defaults(root: Root[Any], overrides: Sequence[str]) -> list[str]:
    """Returns overrides that select a family's defaults of ``sampling`` and ``song``; none for the default family."""
    known = {field.name for field in fields(cast("Any", root.kind))}
    if {"song", "sampling"} - known or root.node is not None:
        return []
    family, chosen = _family(root, overrides), {override.partition("=")[0] for override in overrides}
    defaults = []
    for group, kind in (("sampling", family.sampling_type), ("song", family.song_type)):
        if group in known and family.name != DEFAULT_FAMILY and group not in chosen:
            name = f"_{family.name}"
            ConfigStore.instance().store(group=group, name=name, node=to_plain(kind()), provider=_PROVIDER)
            defaults.append(f"{group}={name}")
    return defaults


def _family(root: Root[Any], overrides: Sequence[str]) -> Family:
    """Returns the family of the model in `overrides`, or else of the root's own; the default one if none is known."""
    model = override_value(overrides, "model")
    if model is None and root.node is None:
        defaults = load_yaml(conf_dir() / f"{root.name}.yaml").get("defaults", [])
        model = next((each["model"] for each in defaults if isinstance(each, dict) and "model" in each), None)
    if not isinstance(model, str) or not (is_path(model) or is_finetune(model) or model in option_names("model")):
        return open_family(DEFAULT_FAMILY)
    return family_of(chosen_data(model, "model"))


def _with_file(override: Override, text: str) -> str:
    value = override.value() if not override.is_sweep_override() else None
    group = override.key_or_group
    if isinstance(value, str) and group == "model" and is_finetune(value):
        name = f"_{value.replace(':', '_')}"
    elif isinstance(value, str) and is_path(value):
        path = option_path(value, group)
        name = f"_{path.stem}_{fingerprint(path)}"  # an underscore keeps it out of lists of options
    else:
        return text
    ConfigStore.instance().store(group=group, name=name, node=chosen_data(value, group), provider=_PROVIDER)
    return f"{override.get_key_element()}='{name}'"


def fingerprint(path: Path) -> str:
    """Returns 8 hexadecimal digits that identify a path, for the names of options made from it."""
    return hashlib.sha256(str(path.resolve()).encode()).hexdigest()[:8]
