"""The words of a run in time with its music: the run's own tokens and lyrics, read by the network that drew them."""

from __future__ import annotations

import logging
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from jukebox_core.alignment.export import write_alignment
from jukebox_core.alignment.times import Alignment
from jukebox_core.base.atomic import atomic_write
from jukebox_core.base.paths import output_folder
from jukebox_core.errors import ConfigError, RunError
from jukebox_core.protocols import AlignmentFamily
from jukebox_core.store.spans import read_spans
from jukebox_core.store.store import TokenStore
from pipelines.licence_prompt import ask
from pipelines.runs.config_file import CONFIG_NAME
from pipelines.runs.contents import differences, with_words
from pipelines.runs.folder import find_run, identity
from pipelines.runs.settings_of_run import resume_root
from pipelines.settings.compose import compose
from stages.fetch import fetch_checked_weights, fetch_vocabularies

if TYPE_CHECKING:
    from collections.abc import Mapping

    from jukebox_core.runtime.config import HardwareConfig
    from jukebox_core.tokens.graph import Take
    from pipelines.runs.folder import RunFolder
    from pipelines.settings.align import AlignSettings
    from pipelines.settings.generate import Settings

log = logging.getLogger("jukebox")


@dataclass(frozen=True, kw_only=True, slots=True)
class PreparedAlignment:
    """Results of the checks before an alignment."""

    settings: AlignSettings
    run: RunFolder
    folder: Path  # that files are written to
    made_by: Settings  # of the run
    family: AlignmentFamily
    conditioning: Mapping[int, Any]  # by sample, of those with words
    texts: Mapping[int, str]
    takes: list[Take]
    hardware: HardwareConfig  # with a precision


def prepare(settings: AlignSettings) -> PreparedAlignment:
    """Returns the results of all checks; nothing is written but vocabularies, and no weights are read.

    Raises:
        RunError: there is no such run, its top level is not finished, or its config.yaml has other words than it.
        ConfigError: the run has no lyrics, its model knows none, or the head does not attend to them.
        DeviceError: the device does not exist.
    """
    run = find_run(settings.run, settings.storage.root)
    folder = output_folder(run.path / "align" if settings.folder is None else settings.folder)
    made_by = compose(resume_root(str(run.path), settings.storage.root, []))
    family, config = made_by.family, made_by.config
    if not isinstance(family, AlignmentFamily):
        raise ConfigError(f"run {run.name} is of the family {family.name}, which aligns no text; name another run")
    family.check_aligner(config, settings.layer, settings.head)
    if not any(_lyrics(made_by, sample) for sample in range(made_by.sampling.n_samples)):
        raise ConfigError(f"run {run.name} has no lyrics to align; generate one with song.lyrics or song.lyrics_file")
    _check_words(run, made_by)
    takes = run.takes()
    store = TokenStore(made_by.storage.tokens)
    missing = store.missing({span.key for take in takes for span in take[config.top]})
    if missing:
        raise RunError(
            f"run {run.name} lacks {len(missing)} windows of its top level; finish it with "
            f"`jukebox runs resume {run.name}`, then align it"
        )
    ask(made_by.model.files, settings.weights)
    vocabularies = fetch_vocabularies(made_by.model, settings.weights)
    conditioning = family.condition(made_by, {role: handle.read() for role, handle in vocabularies.items()})
    texts = {sample: family.aligned_text(config, each) for sample, each in enumerate(conditioning)}
    sung = [sample for sample, text in texts.items() if text.strip()]
    return PreparedAlignment(
        settings=settings,
        run=run,
        folder=folder,
        made_by=made_by,
        family=family,
        conditioning={sample: conditioning[sample] for sample in sung},
        texts={sample: texts[sample] for sample in sung},
        takes=takes,
        hardware=_with_dtype(settings, made_by),
    )


def align(prepared: PreparedAlignment) -> list[Path]:
    """Writes the files of every sample with words; returns their paths.

    Raises:
        CheckpointError: the weights are not those that the run was made with, or are damaged.
    """
    settings, made_by, config = prepared.settings, prepared.made_by, prepared.made_by.config
    role = made_by.family.role_of(config.top)
    weights = fetch_checked_weights(made_by.model, settings.weights, (role,))[role]
    recorded = prepared.run.manifest().get("weights", {}).get(role)
    if recorded not in (None, weights.identity):
        raise RunError(
            f"run {prepared.run.name} was made with other weights of {role} ({recorded[:12]}) than are here "
            f"({weights.identity[:12]}); name the right file in weights.paths"
        )
    library = settings.weights.prepared_home
    aligner = prepared.family.open_aligner(
        config,
        weights.read(),
        weights.identity,
        prepared.hardware,
        library,
        layer=settings.layer,
        head=settings.head,
    )
    store, written = TokenStore(made_by.storage.tokens), list[Path]()
    for sample, conditioning in prepared.conditioning.items():
        codes = read_spans(store, tuple(prepared.takes[sample][config.top]))
        total, offset = prepared.family.aligned_position(conditioning)
        alignment = Alignment(
            text=prepared.texts[sample],
            weights=aligner.align(codes, conditioning, hop=settings.hop, merge=settings.merge),
            row_seconds=config.seconds(config.top, 1),
            offset_seconds=offset / config.sample_rate,
            song_seconds=total / config.sample_rate,
        )
        written += _write(settings, prepared.folder / f"sample_{sample}", alignment)
        words = alignment.words()
        log.info("sample %d: %d words, %d of them estimated", sample, len(words), sum(w.estimated for w in words))
    return written


def _write(settings: AlignSettings, stem: Path, alignment: Alignment) -> list[Path]:
    written = [write_alignment(alignment, stem.with_name(f"{stem.name}.{suffix}")) for suffix in settings.formats]
    if settings.matrix:
        path = stem.with_name(f"{stem.name}.npy")
        with atomic_write(path) as file:
            np.save(file, alignment.weights, allow_pickle=False)
        written.append(path)
    return written


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


def _lyrics(made_by: Settings, sample: int) -> str:
    return made_by.family.describe(made_by.song_of(sample)).get("lyrics", "").strip()


def _with_dtype(settings: AlignSettings, made_by: Settings) -> HardwareConfig:
    """Returns the hardware with the precision that the run was sampled in, unless another one is asked for."""
    from jukebox_core.runtime.device import resolve_device

    resolve_device(settings.hardware.device)
    if settings.hardware.dtype != "auto":
        return settings.hardware
    return replace(settings.hardware, dtype=made_by.hardware.dtype)
