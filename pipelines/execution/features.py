"""Features of many recordings: checks before any weights are read, then groups of recordings on workers."""

from __future__ import annotations

import logging
import time
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from jukebox_core.audio.files import audio_seconds
from jukebox_core.base.paths import output_folder
from jukebox_core.base.structuring import build, to_plain
from jukebox_core.base.text import format_bytes, format_seconds
from jukebox_core.composer.builtin import BUILTIN_TUNE
from jukebox_core.errors import AudioError, ConfigError, DeviceError, DownloadError, LabelError, StoreError
from jukebox_core.features.clips import check_length
from jukebox_core.features.folder import FeatureFolder, SourceState
from jukebox_core.features.listing import BUILTIN, list_recordings
from jukebox_core.features.pooling import row_rate
from pipelines.execution.inputs import check_local_weights
from pipelines.execution.runner import check_runner, open_workers, run_units
from pipelines.licence_prompt import ask
from stages.features.extract import FeatureJob, FeatureNode
from stages.fetch import fetch_vocabularies, fetch_weights
from stages.sampling.shard import WorkerContext

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from jukebox_core.features.folder import Entry
    from jukebox_core.features.listing import ListedFile
    from jukebox_core.runtime.config import HardwareConfig
    from jukebox_core.sampling.schedule import Schedule, Unit
    from pipelines.orchestration.stage_calls import Stages
    from pipelines.settings.features import FeaturesSettings
    from stages.handles import FileHandle

log = logging.getLogger("jukebox")

_NUMBERS = {"total_seconds", "offset_seconds"}  # columns of a table that are numbers


@dataclass(frozen=True, kw_only=True, slots=True)
class PreparedFeatures:
    """Results of the checks before a run of `features`."""

    settings: FeaturesSettings
    hardware: HardwareConfig  # with a precision
    recordings: tuple[ListedFile, ...]
    songs: tuple[Any, ...]  # the family's song record of each recording
    lengths: tuple[float | None, ...]  # seconds by the headers; None: not audio, or too short for the recipe
    vocabularies: Mapping[str, FileHandle]

    def job(self, weights: Mapping[str, FileHandle]) -> FeatureJob:
        """Returns what all recordings share, given the handles of the plan's weights."""
        settings, library = self.settings, self.settings.weights.prepared_home
        return FeatureJob(
            model=settings.model,
            recipe=settings.features,
            hardware=self.hardware,
            weights=weights,
            vocabularies=self.vocabularies,
            folder=str(settings.path.absolute()),
            library=None if library is None else str(library),
            seconds=settings.seconds,
            offset_seconds=settings.offset_seconds,
        )

    def nodes(self, job: FeatureJob) -> list[FeatureNode]:
        """Returns the node of each recording."""
        family = self.settings.model.opened
        made = []
        for listed, song in zip(self.recordings, self.songs, strict=True):
            described = to_plain(song) | {"text": dict(family.describe(song))}
            described.pop("lyrics_file", None)  # its content is in the text
            made.append(
                FeatureNode(
                    name=listed.name,
                    path=listed.path,
                    song=song,
                    causes=job.causes(described),
                    fields=dict(listed.fields),
                )
            )
        return made


def prepare(settings: FeaturesSettings) -> PreparedFeatures:
    """Returns the results of all checks; nothing is written but vocabularies, and no weights are read.

    Raises:
        AudioError: a file is missing, or not one recording can be used.
        ConfigError: a folder without audio, or a table that does not fit.
        LabelError: a name or text that the model does not know.
        DeviceError: the device does not exist, or has too little memory.
    """
    check_runner(settings.runner)
    output_folder(settings.path, settings.audio)
    listed = tuple(list_recordings(settings.audio))
    songs = tuple(_song(settings, each) for each in listed)
    lengths = _lengths(settings, listed)
    ask(settings.model.files, settings.weights)
    vocabularies = fetch_vocabularies(settings.model, settings.weights) if settings.plan.deepest else {}
    _check_songs(settings, listed, songs, vocabularies)
    hardware = _with_dtype(settings)
    check_local_weights(settings.model, settings.weights, settings.plan.roles)
    return PreparedFeatures(
        settings=settings,
        hardware=hardware,
        recordings=listed,
        songs=songs,
        lengths=lengths,
        vocabularies=vocabularies,
    )


def unfinished(prepared: PreparedFeatures) -> list[FeatureNode] | None:
    """Returns the nodes that are not finished yet; None if that needs weights that are not here."""
    settings = prepared.settings
    try:
        weights = fetch_weights(settings.model, replace(settings.weights, offline=True), settings.plan.roles)
    except DownloadError:
        return None
    return _left(prepared, prepared.job(weights))


def is_finished(prepared: PreparedFeatures) -> bool:
    """Whether a run of the same recordings ended before."""
    try:
        manifest = FeatureFolder(prepared.settings.path).manifest()
    except StoreError:
        return False
    names = [listed.name for listed in prepared.recordings]
    return manifest.get("status") == "finished" and manifest.get("recordings") == names


def _left(prepared: PreparedFeatures, job: FeatureJob) -> list[FeatureNode]:
    folder = FeatureFolder(prepared.settings.path)
    entries = folder.entries()
    return [
        node
        for node in prepared.nodes(job)
        if not folder.is_current(entries.get(node.name), node.causes, SourceState.of(node.path))
    ]


def run(prepared: PreparedFeatures, stages: Stages) -> None:
    """Computes the recordings that are not finished, and writes the manifest.

    Raises:
        AudioError: not one recording could be used.
        StoreError: the disk is full, or the folder cannot be written.
        StoppedError: the process was asked to stop; finished recordings are kept.
    """
    settings = prepared.settings
    job = prepared.job(stages.fetch_weights(settings.model, settings.weights, settings.plan.roles))
    folder, left = FeatureFolder(settings.path), _left(prepared, job)
    folder.write_manifest(_manifest(prepared, job, "running"))
    total = len(prepared.recordings)
    log.info("%d of %d recordings are finished", total - len(left), total)
    progress = _Progress(prepared, [node.name for node in left])
    groups = [tuple(left[at : at + settings.group]) for at in range(0, len(left), settings.group)]
    context = WorkerContext(
        model=settings.model,
        weights=settings.weights,
        devices=settings.runner.devices,
        remote=settings.runner.kind != "threads",
        resident_networks=1,
    )
    queue = _Groups(groups)
    # Workers hand what they are given to the stage that is called like this.
    as_units = cast("Stages", _ExtractingStages(stages.extract_features))
    with open_workers(settings.runner, as_units, cast("Any", job), context) as workers:
        run_units(
            cast("Schedule", queue),
            workers,
            on_submit=lambda _: None,
            on_sealed=lambda _, entries: progress.advance(cast("list[Entry]", entries)),
        )
    _check_any(folder, prepared)
    folder.write_manifest(_manifest(prepared, job, "finished"))


@dataclass(frozen=True, slots=True)
class _ExtractingStages:
    sample_unit: Any


@dataclass(frozen=True, slots=True, eq=False)
class _Group:
    """Recordings of one task; a `Unit` to the workers."""

    nodes: tuple[FeatureNode, ...]


class _Groups:
    """Groups in any order: the schedule of work whose parts do not depend on each other."""

    def __init__(self, groups: Sequence[tuple[FeatureNode, ...]]) -> None:
        self._groups = [_Group(nodes) for nodes in reversed(groups)]

    def take(self) -> Unit | None:
        """Returns a group that nobody works on; None if none is left."""
        return cast("Unit", self._groups.pop()) if self._groups else None

    def finish(self, unit: Unit) -> None:
        """Does nothing: no group waits for another."""


class _Progress:
    """Logs how far a run is: recordings, hours of audio, speed and time left."""

    def __init__(self, prepared: PreparedFeatures, left: Sequence[str]) -> None:
        names = (listed.name for listed in prepared.recordings)
        known = dict(zip(names, prepared.lengths, strict=True))
        self._lengths = {name: known[name] or 0.0 for name in left}
        self._began, self._done, self._seconds = time.monotonic(), 0, 0.0

    def advance(self, entries: Sequence[Entry]) -> None:
        """Counts finished recordings."""
        self._done += len(entries)
        self._seconds += sum(entry.seconds for entry in entries)
        spent = max(time.monotonic() - self._began, 1e-9)
        for entry in entries:
            self._lengths.pop(entry.name, None)
        left = sum(self._lengths.values()) * spent / self._seconds if self._seconds else 0.0
        log.info(
            "%d recordings, %d left; %.2f h of audio, %.1f times as fast as it plays; left %s",
            self._done,
            len(self._lengths),
            self._seconds / 3600,
            self._seconds / spent,
            format_seconds(left),
        )


def _song(settings: FeaturesSettings, listed: ListedFile) -> Any:
    """Returns the song of a recording: `song`, with what its line in a table says if that is used."""
    if not listed.fields or not settings.use_labels:
        return settings.song
    overrides = settings.model.opened.song_overrides_type
    known = {field.name for field in fields(overrides)}
    given: dict[str, Any] = {name: text for name, text in listed.fields.items() if name in known}
    for name in _NUMBERS & set(given):
        try:
            given[name] = float(given[name])
        except ValueError:
            raise ConfigError(f"{listed.name}: {name} is {given[name]!r}; give seconds, as 12.5") from None
    return build(overrides, given, listed.name).apply(settings.song)


def _lengths(settings: FeaturesSettings, listed: Sequence[ListedFile]) -> tuple[float | None, ...]:
    """Returns the seconds of each recording by its header; AudioError if not one can be used."""
    sizes, found, errors = settings.plan.sizes, list[float | None](), list[str]()
    for each in listed:
        if each.path.startswith(BUILTIN):
            if each.path != BUILTIN_TUNE:
                raise AudioError(f"there is no {each.path}; the music that comes with this program is {BUILTIN_TUNE}")
            found.append(settings.seconds or 0.0)
            continue
        try:
            seconds = audio_seconds(Path(each.path)) - settings.offset_seconds
            seconds = seconds if settings.seconds is None else min(seconds, settings.seconds)
            check_length(int(seconds * sizes.rate), settings.features, sizes)
            found.append(seconds)
        except AudioError as error:
            found.append(None)
            errors.append(f"{each.path}: {error}" if each.path not in str(error) else str(error))
    if len(errors) == len(listed):
        raise AudioError(f"none of {len(listed)} recordings can be used; the first: {errors[0]}")
    return tuple(found)


def _check_songs(
    settings: FeaturesSettings,
    listed: Sequence[ListedFile],
    songs: Sequence[Any],
    vocabularies: Mapping[str, FileHandle],
) -> None:
    """Checks that the network can be conditioned on every song; LabelError or ConfigError names the recording."""
    plan, seen = settings.plan, set[Any]()
    if not plan.deepest:
        return
    paths = {role: handle.read() for role, handle in vocabularies.items()}
    total = max(plan.sizes.shortest, plan.sizes.context * plan.sizes.hop)
    for each, song in zip(listed, songs, strict=True):
        if song in seen:
            continue
        seen.add(song)
        try:
            plan.family.condition_window(settings.model.config, plan.sizes.level, song, paths, total=total, offset=0)
        except (LabelError, ConfigError) as error:
            where = each.name if each.fields else "song"
            raise type(error)(f"{where}: {error}") from None


def _with_dtype(settings: FeaturesSettings) -> HardwareConfig:
    """Returns the hardware with a precision, after a check that the network fits in the free memory."""
    from jukebox_core.runtime.device import free_memory, kind_and_memory, resolve_device
    from jukebox_core.runtime.precision import choose_dtype

    hardware, plan = settings.hardware, settings.plan
    device = resolve_device(hardware.device)
    if not plan.deepest:
        return hardware if hardware.dtype != "auto" else replace(hardware, dtype="float32")
    batch = hardware.batch_size or 1

    class Memory:
        dtypes = settings.model.opened.dtypes

        def bytes(self, dtype: str, batch: int) -> int:
            return plan.family.feature_bytes(settings.model.config, plan.sizes.level, plan.deepest, dtype, batch)

    if hardware.dtype == "auto":
        hardware = replace(hardware, dtype=choose_dtype(Memory(), *kind_and_memory(device)))
    needed, free = Memory().bytes(hardware.dtype, batch), free_memory(device)
    if needed > free:
        raise DeviceError(
            f"{plan.deepest} layers of {settings.model.name} in {hardware.dtype} with batches of {batch} windows need "
            f"about {format_bytes(needed)} but {device} has {format_bytes(free)} free; set hardware.dtype=bfloat16 or "
            "int8, or choose lower layers"
        )
    return hardware


def _check_any(folder: FeatureFolder, prepared: PreparedFeatures) -> None:
    entries = folder.entries()
    refused = [entries[each.name] for each in prepared.recordings if entries[each.name].error is not None]
    if len(refused) == len(prepared.recordings):
        raise AudioError(f"none of {len(refused)} recordings could be used; the first: {refused[0].error}")
    if refused:
        log.warning("%d of %d recordings could not be used; %s lists them", len(refused), len(prepared.recordings),
                    folder.path / "index.jsonl")  # fmt: skip


def _manifest(prepared: PreparedFeatures, job: FeatureJob, status: str) -> dict[str, Any]:
    settings, sizes = prepared.settings, prepared.settings.plan.sizes
    return {
        "status": status,
        "model": settings.model.name,
        "family": settings.model.family,
        "licence": settings.model.files.licence,
        "weights": {role: handle.identity for role, handle in job.weights.items()},
        "dtype": job.hardware.dtype,
        "recipe": to_plain(settings.features),
        "level": sizes.level,
        "layers": list(settings.plan.layers),
        "width": sizes.width,
        "code_rate": sizes.code_rate,
        "row_rate": row_rate(settings.features, sizes.code_rate),
        "sample_rate": sizes.rate,
        "recordings": [listed.name for listed in prepared.recordings],
    }
