"""Which folder belongs to a run, once it is known what the run is made from. Imports neither torch nor Prefect."""

from __future__ import annotations

import os
from dataclasses import replace
from typing import TYPE_CHECKING

from jukebox_core.errors import RunError
from pipelines.runs.folder import RunFolder, check_free, default_name, earlier_name, run_path

if TYPE_CHECKING:
    from pipelines.runs.contents import Contents
    from pipelines.settings.generate import Settings


def named(settings: Settings, given: Settings, contents: Contents | None) -> Settings:
    """Returns the settings with the name of their run.

    Without a name of the user's it is a hash of the settings. If that name belongs to a run that was made from other
    files, such as other weights under the same path, a hash of the content is added to it.

    Args:
        settings: with the content of files, as `with_contents` returns them.
        given: the same as the user gave them, after which earlier versions named the run.
        contents: what the run is made from; None: not known yet, which is allowed unless `may_be_other`.

    Raises:
        RunError: the user's name belongs to another run, or to something that is not a run.
    """
    if settings.run.name is not None:
        check_free(settings, contents)
        return settings
    default, refused = default_name(settings), None
    names = [default, earlier_name(given)]
    if contents is not None:
        names.append(f"{default}-{contents.digest[:8]}")
    for name in dict.fromkeys(names):
        candidate = _with_name(settings, name)
        try:
            if not check_free(candidate, contents).is_vacant():
                return candidate
        except RunError as error:
            refused = error if name == default else refused
    if refused is None:
        return _with_name(settings, default)
    if contents is None:
        raise refused
    return _with_name(settings, names[-1])


def may_be_other(settings: Settings, given: Settings) -> bool:
    """Whether a planned or damaged run has a name of these settings: it may have been made from other files."""
    names = [settings.run.name] if settings.run.name else [default_name(settings), earlier_name(given)]
    folders = [RunFolder(run_path(_with_name(settings, name))) for name in names]
    manifests = [folder.known_manifest() for folder in folders if os.path.lexists(folder.manifest_path)]
    return any(not manifest or bool(manifest.get("takes")) for manifest in manifests)


def _with_name(settings: Settings, name: str) -> Settings:
    return replace(settings, run=replace(settings.run, name=name))
