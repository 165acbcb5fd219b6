"""The words of a run in time with its music: the run's own tokens and lyrics, read by the network that drew them."""

from __future__ import annotations

import logging
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from jukebox_core.alignment.export import alignment_paths
from jukebox_core.base.paths import output_folder
from jukebox_core.errors import RunError
from jukebox_core.store.store import TokenStore
from pipelines.execution.alignment import (
    FOLDER,
    RunAlignment,
    aligner_spec,
    check_alignment,
    in_run,
    report_quality,
    sung_tracks,
)
from pipelines.execution.outputs import renew_report
from pipelines.licence_prompt import ask
from pipelines.orchestration.stage_calls import PLAIN
from pipelines.runs.config_file import CONFIG_NAME
from pipelines.runs.contents import differences, with_contents, with_words
from pipelines.runs.folder import find_run, identity
from pipelines.runs.settings_of_run import resume_root
from pipelines.settings.compose import compose
from stages.fetch import fetch_checked_weights, fetch_vocabularies

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from jukebox_core.runtime.config import HardwareConfig
    from pipelines.runs.folder import RunFolder
    from pipelines.settings.align import AlignSettings
    from pipelines.settings.generate import Settings
    from stages.sound.align import SungTrack

log = logging.getLogger("jukebox")


@dataclass(frozen=True, kw_only=True, slots=True)
class PreparedAlignment:
    """Results of the checks before an alignment."""

    settings: AlignSettings
    run: RunFolder
    folder: Path  # that files are written to
    made_by: Settings  # of the run
    songs: Mapping[int, SungTrack]  # those with words, by sample
    hardware: HardwareConfig  # with a precision

    @property
    def in_run(self) -> bool:
        """Whether the files are written into the run's folder, where its report shows them."""
        return self.settings.folder is None


def prepare(settings: AlignSettings) -> PreparedAlignment:
    """Returns the results of all checks; nothing is written but vocabularies, and no weights are read.

    Raises:
        RunError: there is no such run, its top level is not finished, or its config.yaml has other words than it.
        ConfigError: the run has no lyrics, its model knows none, the head does not attend to them, or the folder cannot
            be written to.
        DeviceError: the device does not exist.
    """
    run = find_run(settings.run, settings.storage.root)
    folder = output_folder(run.path / FOLDER if settings.folder is None else settings.folder)
    made_by = with_contents(compose(resume_root(str(run.path), settings.storage.root, [])))
    check_alignment(made_by, settings.alignment, run=run.name)
    _check_words(run, made_by)
    takes, store = run.takes(), TokenStore(made_by.storage.tokens)
    missing = store.missing({span.key for take in takes for span in take[made_by.config.top]})
    if missing:
        raise RunError(
            f"run {run.name} lacks {len(missing)} windows of its top level; finish it with "
            f"`jukebox runs resume {run.name}`, then align it"
        )
    ask(made_by.model.files, settings.weights)
    vocabularies = fetch_vocabularies(made_by.model, settings.weights)
    conditioning = made_by.family.condition(made_by, {role: handle.read() for role, handle in vocabularies.items()})
    return PreparedAlignment(
        settings=settings,
        run=run,
        folder=folder,
        made_by=made_by,
        songs=sung_tracks(made_by, conditioning, takes),
        hardware=_with_dtype(settings, made_by),
    )


def align(prepared: PreparedAlignment) -> list[Path]:
    """Writes the files of every sample with words; returns their paths.

    In the run's folder, files that exist are kept, and the report is written again with the words, if it can be.

    Raises:
        CheckpointError: the weights are damaged.
        RunError: the weights are not those that the run was made with.
    """
    settings, made_by, run, folder = prepared.settings, prepared.made_by, prepared.run, prepared.folder
    role = made_by.family.role_of(made_by.config.top)
    weights = fetch_checked_weights(made_by.model, settings.weights, (role,))[role]
    recorded = run.manifest().get("weights", {}).get(role)
    if recorded not in (None, weights.identity):
        raise RunError(
            f"run {run.name} was made with other weights of {role} ({recorded[:12]}) than are here "
            f"({weights.identity[:12]}); name the right file in weights.paths"
        )
    aligner = aligner_spec(made_by, settings.alignment, weights, prepared.hardware, settings.weights)
    if prepared.in_run:
        config = in_run(settings.alignment)
        task = RunAlignment(aligner=aligner, songs=prepared.songs, store=made_by.storage.tokens, config=config)
        task.write(run, PLAIN)
        try:
            renew_report(made_by, run, PLAIN)
        except RunError as error:  # its audio was removed, for example
            log.warning("the report is not renewed: %s", error)
    else:
        config = settings.alignment
        for sample, song in prepared.songs.items():
            found = PLAIN.align_song(aligner, song, made_by.storage.tokens, config, folder / f"sample_{sample}")
            report_quality(sample, found)
    return [path for sample in prepared.songs for path in alignment_paths(config, folder / f"sample_{sample}")]


def _check_words(run: RunFolder, made_by: Settings) -> None:
    """Checks that the words in the run's config.yaml are those that its manifest says it was made with.

    Raises:
        RunError: they are others; the message lists the differences.
    """
    made_with, now = with_words(run.identity()), identity(made_by)
    names = [name for name in ("song", "songs") if name in made_with]
    theirs, mine = ({name: of[name] for name in names} for of in (made_with, now))
    if changed := differences(theirs, mine):
        raise RunError(
            f"{run.path / CONFIG_NAME} was changed since run {run.name} was made ({'; '.join(changed[:4])}); "
            "undo that, or generate another run with these words"
        )


def _with_dtype(settings: AlignSettings, made_by: Settings) -> HardwareConfig:
    """Returns the hardware with the precision that the run was sampled in, unless another one is asked for."""
    from jukebox_core.runtime.device import resolve_device

    resolve_device(settings.hardware.device)
    if settings.hardware.dtype != "auto":
        return settings.hardware
    return replace(settings.hardware, dtype=made_by.hardware.dtype)
