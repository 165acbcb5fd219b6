"""Checks of input files: prompts, recordings, codes files, weights. Nothing here is loaded or written."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from jukebox_core.errors import AudioError, DownloadError, RunError
from jukebox_core.family import varies
from jukebox_core.models.download.sources import source_for
from jukebox_core.models.resolve import wanted_weights
from jukebox_core.store.store import TokenStore
from pipelines.execution.planning import prompt_excerpts
from pipelines.runs.contents import absolute
from pipelines.runs.folder import RunFolder, run_path
from pipelines.runs.takes import starting_takes
from stages.fetch import fetch_checked_weights
from stages.sampling.prompt import Excerpt, Recording

if TYPE_CHECKING:
    from collections.abc import Iterable

    from jukebox_core.models.config import WeightsConfig
    from jukebox_core.models.presets import ModelSettings
    from pipelines.settings.codec import DecodeSettings, EncodeSettings
    from pipelines.settings.generate import Settings
    from stages.handles import FileHandle
    from stages.sampling.prompt import Prompt


def read_prompts(settings: Settings, *, resume: bool = False) -> dict[Excerpt, Recording]:
    """Returns length and digest of every prompt; each file is read once.

    Args:
        settings: the run's.
        resume: take them from the run's manifest, if it has them: the files are needed no longer once their codes are
            stored.

    Raises:
        AudioError: a file is missing, not audio, shorter than requested, or as long as the song.
    """
    found: dict[Excerpt, Recording] = {}
    manifest = RunFolder(run_path(settings)).known_manifest() if resume else {}
    recorded = {
        each["path"]: Recording(each["samples"], each["sha256"])
        for each in manifest.get("made_from", {}).get("prompts", [])
    }
    for excerpt in dict.fromkeys(prompt_excerpts(settings)):
        found[excerpt] = recorded.get(absolute(excerpt.path)) or excerpt.measure(settings.config)
        if found[excerpt].samples >= settings.length and not varies(settings.family):
            raise AudioError(
                f"prompt {excerpt.path} fills all of seconds={settings.seconds:g}, which leaves nothing to sample; "
                "use less of it with prompt.seconds, or ask for more seconds"
            )
    return found


def check_prompts(settings: Settings, prompts: Iterable[Prompt]) -> None:
    """Checks that the file of every prompt whose codes are not stored still has the audio that was planned.

    Raises:
        AudioError: a file is missing, or has become another.
    """
    missing = TokenStore(settings.storage.tokens).missing({key for prompt in prompts for key in prompt.keys})
    for prompt in prompts:
        if missing.intersection(prompt.keys):
            prompt.check(prompt.excerpt.read(settings.config))


def check_recordings(settings: EncodeSettings) -> None:
    """Checks that every recording to be encoded can be read.

    Raises:
        AudioError: a file is missing, not audio, or shorter than requested.
    """
    for path in settings.audio:
        excerpt = Excerpt(path=path, seconds=settings.seconds, offset_seconds=settings.offset_seconds)
        excerpt.measure(settings.model.config)


def check_work_left(settings: Settings, *, resume: bool = False) -> None:
    """Checks that the source run is shorter than these settings, unless samples or parts of it are chosen.

    Raises:
        RunError: it has the whole length at every level already.
    """
    source = settings.source
    if source is None or source.samples or source.splice or source.keep_seconds is not None:
        return
    hops, levels = settings.config.hops, settings.levels
    takes = starting_takes(settings, resume=resume)
    if any(len(take[level]) * hops[level] < settings.length for take in takes for level in levels):
        return
    remedy = "name a run that stopped above" if source.command == "upsample" else "ask for more seconds"
    raise RunError(
        f"run {Path(source.run).name} has {settings.seconds:g} s at every level down to {levels[0]} already, so "
        f"{source.command} has nothing to do; {remedy}"
    )


def check_codes(settings: DecodeSettings, codec: FileHandle | None) -> None:
    """Checks that every codes file has the level to decode, in codes of this model.

    Raises:
        StoreError: a file is missing, is no codes file, lacks the level, or was made by another model.
    """
    from stages.sound.decode import read_level  # needs torch

    model, identity = settings.model, None if codec is None else codec.identity
    for path in settings.codes:
        read_level(model.family, model.config, path, settings.level, identity)


def check_local_weights(model: ModelSettings, weights: WeightsConfig, roles: Iterable[str]) -> dict[str, FileHandle]:
    """Checks the weights that are available without a download, and returns their handles by role.

    Raises:
        DownloadError: a file is not on this machine and cannot be downloaded.
        CheckpointError: a file is truncated, no checkpoint, unsafe, or of another model.
    """
    wanted = wanted_weights(model.files, weights).values()
    remote = any(source_for(address).remote for each in wanted for address in each.sources)
    downloadable = remote and weights.downloads
    found: dict[str, FileHandle] = {}
    for role in roles:
        try:
            found |= fetch_checked_weights(model, replace(weights, offline=True), roles=(role,))
        except DownloadError:
            if not downloadable:
                raise
    return found
