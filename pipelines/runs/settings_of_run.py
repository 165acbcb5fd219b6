"""Settings derived from those of an earlier run: to start a new run from its tokens, or to resume it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from jukebox_core.base.structuring import to_plain
from jukebox_core.base.yaml_files import load_yaml
from pipelines.runs.folder import find_run
from pipelines.runs.legacy import upgraded
from pipelines.settings.common import StorageSettings
from pipelines.settings.compose import override_value, stored_root
from pipelines.settings.generate import ChooseSettings, PromptSettings

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from pipelines.settings.compose import Root
    from pipelines.settings.generate import Settings


def run_root(command: str, run: str, overrides: Sequence[str]) -> Root[Settings]:
    """Returns the configuration root of ``continue RUN`` or ``upsample RUN``: the settings of that run.

    Entries of `songs` follow their samples when `overrides` choose among the run's samples.

    Raises:
        RunError: no run has that name, or its config.yaml cannot be read.
    """
    folder = find_run(run, _root(overrides)).path
    stored = upgraded(load_yaml(folder / "config.yaml"))
    fresh: dict[str, Any] = {
        "run": {**stored.get("run", {}), "name": None},
        "prompt": to_plain(PromptSettings()),  # the run's tokens start with its prompt already
        "songs": _chosen_songs(stored, overrides),
        "source": {
            "run": str(folder.resolve()),
            "command": command,
            "samples": [],
            "keep_seconds": None,
            "splice": [],
        },
    }
    if command == "upsample":
        fresh["sampling"] = {**stored.get("sampling", {}), "stop_level": 0}
        fresh["choose"] = to_plain(ChooseSettings())
    return stored_root(command, {**stored, **fresh}, overrides)


def resume_root(run: str, root: str, overrides: Sequence[str]) -> Root[Settings]:
    """Returns the configuration root of ``runs resume RUN``: the run's own settings, in its own folder.

    Raises:
        RunError: no run has that name, or its config.yaml cannot be read.
    """
    folder = find_run(run, root).path.absolute()
    stored = upgraded(load_yaml(folder / "config.yaml"))
    own: dict[str, Any] = {
        "run": {**stored.get("run", {}), "name": folder.name},
        "storage": {**stored.get("storage", {}), "root": str(folder.parent)},
    }
    return stored_root("resume", {**stored, **own}, overrides)


def _root(overrides: Sequence[str]) -> str:
    given = override_value(overrides, "storage.root")
    return given if isinstance(given, str) else StorageSettings().root


def _chosen_songs(stored: Mapping[str, Any], overrides: Sequence[str]) -> list[Any]:
    """Returns the stored entries of `songs`, or those of the samples that `overrides` choose."""
    songs, chosen = list(stored.get("songs", ())), override_value(overrides, "source.samples")
    if not songs or not isinstance(chosen, list) or not all(c in range(len(songs)) for c in chosen):
        return songs
    count = override_value(overrides, "sampling.n_samples") or stored.get("sampling", {}).get("n_samples")
    samples = chosen * count if len(chosen) == 1 and isinstance(count, int) else chosen
    return [songs[sample] for sample in samples]
