"""The groups of settings that a command has, and the options of each that fit it."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from hydra._internal.config_repository import ConfigRepository  # the only place that lists the options of a group

from jukebox_core.base.paths import conf_dir
from jukebox_core.base.yaml_files import load_yaml
from jukebox_core.export.family import ExportFamily
from jukebox_core.family import family_of, transcribes, varies
from jukebox_core.models.presets import choices, chosen_data, option_names
from pipelines.settings.export import ExportSettings
from pipelines.settings.train import TrainSettings
from pipelines.settings.transcribe import TranscribeSettings
from pipelines.settings.vamp import InpaintSettings, VampSettings

if TYPE_CHECKING:
    from collections.abc import Iterator


def groups_of(kind: type, name: str) -> dict[str, list[str]]:
    """Returns the groups that a command's file conf/<name>.yaml lists, with the names of their options.

    Args:
        kind: record type of the command's settings.
        name: of the file. Groups whose option the model's family decides are left out.
    """
    found = {}
    for group, default in _defaults_of(name):
        if not str(default).startswith("_"):
            found[group] = [option for option in option_names(group) if group != "model" or _suits(kind, option)]
    return found


@contextmanager
def listing_choices(kind: type) -> Iterator[None]:
    """Omits options that a command cannot select from Hydra's completion; `kind` is that of its settings.

    These are files that only other files include, and models that do something else: make music, vary or transcribe it.
    """
    listed = ConfigRepository.get_group_options

    def selectable(repository: ConfigRepository, group_name: str, *args: Any, **kwargs: Any) -> list[str]:
        names = choices(listed(repository, group_name, *args, **kwargs))
        return [name for name in names if group_name != "model" or _suits(kind, name)]

    ConfigRepository.get_group_options = selectable  # type: ignore[method-assign, assignment]
    try:
        yield
    finally:
        ConfigRepository.get_group_options = listed  # type: ignore[method-assign]


def _defaults_of(name: str) -> Iterator[tuple[str, object]]:
    """Yields the groups that a file of conf/ lists, and the options that it chooses."""
    for each in load_yaml(conf_dir() / f"{name}.yaml").get("defaults", []):
        if isinstance(each, dict):
            yield from ((group.removeprefix("override ").partition("@")[0], option) for group, option in each.items())
        elif each not in ("quiet", "_self_"):
            yield from _defaults_of(each)


def _suits(kind: type, model: str) -> bool:
    if model not in option_names("model"):  # found by a search path
        return True
    family = family_of(chosen_data(model, "model"))
    if kind is ExportSettings:
        return isinstance(family, ExportFamily)
    if varies(family):
        return kind in (VampSettings, InpaintSettings, TrainSettings)
    return transcribes(family) == (kind is TranscribeSettings) and kind not in (VampSettings, InpaintSettings)
