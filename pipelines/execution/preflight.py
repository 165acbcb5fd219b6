"""Checks before any long computation, cheap ones first: each mistake gets one clear error, not an hour later.

`prepare` returns one value with all results, which the flow receives, so that nothing is computed twice. No check
starts Prefect or loads weights; vocabularies, a few hundred kilobytes, are fetched. Imports no torch, which needs more
time than all else that a command does when it finds its run finished.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from jukebox_core.base.paths import output_folder
from jukebox_core.base.text import format_bytes
from jukebox_core.datasets.songs import scan_songs
from jukebox_core.datasets.source import check_codes_folder, source_of
from jukebox_core.errors import DeviceError, DownloadError, LabelError
from jukebox_core.family import varies
from jukebox_core.models.labels import with_models
from jukebox_core.store.spooled import open_store
from jukebox_core.store.store import TokenStore
from pipelines.execution.alignment import RunAlignment, check_alignment
from pipelines.execution.inputs import (
    check_codes,
    check_local_weights,
    check_prompts,
    check_recordings,
    check_work_left,
    read_prompts,
)
from pipelines.execution.originals import Originals
from pipelines.execution.planning import RunPlan, plan_run
from pipelines.execution.runner import check_runner
from pipelines.execution.targets import targets
from pipelines.licence_prompt import ask
from pipelines.runs.choosing import may_be_other, named
from pipelines.runs.contents import Contents, with_contents
from pipelines.runs.folder import RunFolder, check_free, has_config, run_path
from pipelines.runs.output_files import are_complete
from pipelines.runs.takes import check_source
from pipelines.settings.common import RunnerSettings
from pipelines.settings.hardware import sampling_memory, with_batch
from stages.fetch import fetch_vocabularies, fetch_weights

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from jukebox_core.models.presets import ModelSettings
    from jukebox_core.runtime.config import HardwareConfig
    from jukebox_core.runtime.precision import SamplingMemory
    from pipelines.execution.targets import Target
    from pipelines.settings.codec import DecodeSettings, EncodeSettings
    from pipelines.settings.dataset import DatasetSettings
    from pipelines.settings.generate import Settings
    from stages.handles import FileHandle
    from stages.sampling.prompt import Excerpt, Recording

_ONE_WORKER = RunnerSettings()


@dataclass(frozen=True, kw_only=True, slots=True)
class Prepared:
    """Results of the checks before a run."""

    settings: Settings
    recordings: Mapping[Excerpt, Recording]  # length and digest of each prompt
    conditioning: tuple[Any, ...]  # of each song, as `Family.condition` returned it
    weights: Mapping[str, FileHandle] | None  # by role; None: some have to be downloaded
    plan: RunPlan | None  # None while the weights are not known
    hardware: HardwareConfig  # with a batch size after `check_machine`
    vocabularies: Mapping[str, str] = field(default_factory=dict)  # digests by role
    resume: bool = False  # the run is resumed as it was planned

    @property
    def contents(self) -> Contents | None:
        """What the run is made from besides its settings; None while the weights are not known."""
        if self.plan is None or self.weights is None:
            return None
        return Contents(
            takes=tuple(self.plan.takes),
            codec=self.settings.family.codec_role,
            weights={role: handle.identity for role, handle in self.weights.items()},
            vocabularies=self.vocabularies,
            recordings=self.recordings,
        )

    @property
    def originals(self) -> Originals | None:
        """The recordings that the songs vary, for outputs; None if they vary none, or while the plan is not known."""
        if self.plan is None or not varies(self.settings.family):
            return None
        return Originals.of(self.settings, self.plan)

    @property
    def alignment(self) -> RunAlignment | None:
        """The alignment of the songs' words; None if the settings ask for none, or while the weights are not known."""
        if not self.settings.align or self.plan is None or self.weights is None:
            return None
        weights = self.weights[self.settings.family.role_of(self.settings.config.top)]
        return RunAlignment.of(self.settings, weights, self.conditioning, self.plan.takes)

    def with_weights(self, weights: Mapping[str, FileHandle]) -> Prepared:
        """Returns a copy with the handles of all weights, and the plan that follows from them."""
        identities = {role: handle.identity for role, handle in weights.items()}
        codec = Path(weights[self.settings.family.codec_role].uri)
        plan = plan_run(
            self.settings, self.recordings, self.conditioning, identities, codec_file=codec, resume=self.resume
        )
        return replace(self, weights=weights, plan=plan)


def prepare(given: Settings, *, resume: bool = False) -> Prepared:
    """Returns the results of all checks that need no torch, and the name of the run; writes nothing but vocabularies.

    Args:
        given: the settings of a run.
        resume: it is resumed as it was planned: with its recorded prompts and the takes that it began with.

    Raises:
        JukeboxError: the first check that fails; its message gives value, rule and remedy.
    """
    settings = with_contents(given)
    for folder in (settings.storage.root, settings.storage.scratch, settings.storage.spool.folder):
        if folder is not None:
            output_folder(folder)
    check_runner(settings.runner)
    if settings.align:
        check_alignment(settings, settings.alignment)
    if settings.run.name is not None:
        check_free(settings)
    check_source(settings, resume=resume)
    check_work_left(settings, resume=resume)
    recordings = read_prompts(settings, resume=resume)
    ask(settings.model.files, settings.weights)
    vocabularies = fetch_vocabularies(settings.model, settings.weights)
    paths = {role: handle.read() for role, handle in vocabularies.items()}
    prepared = Prepared(
        settings=settings,
        recordings=recordings,
        conditioning=_conditioning(settings, paths),
        weights=None,
        plan=None,
        hardware=settings.hardware,
        vocabularies={role: handle.identity for role, handle in vocabularies.items()},
        resume=resume,
    )
    try:
        here = replace(settings.weights, offline=True)
        prepared = prepared.with_weights(fetch_weights(settings.model, here, settings.roles))
    except DownloadError:
        if may_be_other(settings, given):
            prepared = prepared.with_weights(fetch_weights(settings.model, settings.weights, settings.roles))
    if resume and prepared.plan is not None:
        check_prompts(settings, prepared.plan.prompts)
    return replace(prepared, settings=named(settings, given, prepared.contents))


def _conditioning(settings: Settings, vocabularies: Mapping[str, Path]) -> tuple[Any, ...]:
    """Returns the conditioning of every song; LabelError also says which other models know a name."""
    try:
        return settings.family.condition(settings, vocabularies)
    except LabelError as error:
        raise with_models(error, settings.model.name, settings.weights) from None


def finished(prepared: Prepared) -> RunFolder | None:
    """Returns the run's folder if all its windows and files exist already, else None.

    Looks up every window's key and hashes every file; needs neither torch nor Prefect.
    """
    settings, plan = prepared.settings, prepared.plan
    run = RunFolder(run_path(settings))
    manifest = run.known_manifest()
    if plan is None or prepared.weights is None or manifest.get("status") != "finished":
        return None
    if plan.missing(TokenStore(settings.storage.tokens)) or not has_config(run, settings):
        return None
    codec = prepared.weights[settings.family.codec_role]
    if not are_complete(run.path, manifest, plan.takes, codec.identity, settings.output):
        return None
    others = [each for each in (prepared.alignment, prepared.originals) if each is not None]
    return run if all(each.is_complete(run.path, manifest) for each in others) else None


def check_machine(prepared: Prepared) -> Prepared:
    """Checks device, memory, local weights, and last whether the token store can be written.

    Returns a copy with a batch size.

    Raises:
        DeviceError: the device does not exist, or has too little memory for the levels to sample.
        CheckpointError: weights are truncated, unsafe, or of another model.
        StoreError: the token store cannot be written.
    """
    settings, samples = prepared.settings, prepared.settings.sampling.n_samples
    memory = sampling_memory(settings)
    hardware = with_batch(memory, settings.hardware, samples, settings.runner)
    check_memory(memory, hardware, samples=samples, runner=settings.runner)
    check_local_weights(settings.model, settings.weights, settings.roles)
    open_store(settings.storage.tokens, spool=settings.storage.spool).probe()
    return replace(prepared, hardware=hardware)


def check_encode(settings: EncodeSettings) -> None:
    """Checks everything that `encode` needs, before anything is written.

    Raises:
        JukeboxError: the first check that fails.
    """
    output_folder(settings.folder)
    files = targets(settings.audio, settings.folder, ".npz")
    check_recordings(settings)
    ask(settings.model.files, settings.weights)
    _check_codec(settings.model, settings.hardware)
    _check_targets(settings, files)


def check_decode(settings: DecodeSettings) -> None:
    """Checks everything that `decode` needs, before anything is written.

    Raises:
        JukeboxError: the first check that fails.
    """
    output_folder(settings.folder)
    files = targets(settings.codes, settings.folder, f".{settings.output.format}")
    ask(settings.model.files, settings.weights)
    _check_codec(settings.model, settings.hardware)
    check_codes(settings, _check_targets(settings, files))


def _check_targets(settings: EncodeSettings | DecodeSettings, files: Sequence[Target]) -> FileHandle | None:
    """Checks that what exists already was made by the same command; returns the codec's weights if they are here."""
    role = settings.model.opened.codec_role
    codec = check_local_weights(settings.model, settings.weights, (role,)).get(role)
    for target in files:
        target.is_made(settings.how, None if codec is None else codec.identity)
    return codec


def check_dataset(settings: DatasetSettings) -> None:
    """Checks everything that `dataset` needs, apart from the recordings themselves.

    Raises:
        JukeboxError: the first check that fails.
    """
    output_folder(settings.folder, [settings.audio])
    songs = scan_songs(settings.audio, settings.metadata)
    check_codes_folder(settings.folder, source_of(songs), songs)
    ask(settings.model.files, settings.weights)
    if settings.encode:
        _check_codec(settings.model, settings.hardware)
        role = settings.model.opened.codec_role
        here = check_local_weights(settings.model, settings.weights, (role,))
        if role in here:
            check_codes_folder(settings.folder, source_of(songs, here[role].identity), songs)


def _check_codec(model: ModelSettings, hardware: HardwareConfig) -> None:
    from jukebox_core.runtime.precision import SamplingMemory

    check_memory(SamplingMemory(family=model.opened, config=model.config, levels=()), hardware, samples=1)


def check_memory(
    memory: SamplingMemory, hardware: HardwareConfig, *, samples: int, runner: RunnerSettings = _ONE_WORKER
) -> None:
    """Checks that the device exists, and that the networks that it holds at a time fit in its memory.

    Raises:
        DeviceError: the device does not exist, or has too little memory; the message lists settings that fit.
    """
    from jukebox_core.runtime.device import free_memory, resolve_device

    device, batch_size = resolve_device(hardware.device), hardware.batch_size or 1
    free, batch = free_memory(device), runner.max_concurrent(samples, batch_size)
    needed = memory.bytes(hardware.dtype, batch)
    if needed <= free:
        return
    choices = [(f"hardware.dtype={dtype}", memory.bytes(dtype, batch)) for dtype in ("float32", "bfloat16")]
    one = runner.max_concurrent(samples, 1)
    choices.append(("hardware.batch_size=1", memory.bytes(hardware.dtype, one)))
    if runner.schedule != "by_level":
        by_level = replace(memory, together=False)
        choices.append(("runner.schedule=by_level", by_level.bytes(hardware.dtype, batch)))
    if runner.workers > 1:
        alone = replace(memory, copies=1)
        choices.append(("runner.workers=1", alone.bytes(hardware.dtype, min(samples, batch_size))))
    remedies = [f"{override} needs {format_bytes(size)}" for override, size in choices if size <= free]
    remedies.append("model=1b_lyrics is the smallest released model, model=mini the smallest of all")
    raise DeviceError(
        f"{memory.config.name} in {hardware.dtype} with a batch of {batch} samples needs about {format_bytes(needed)} "
        f"but {device} has {format_bytes(free)} free; {'; '.join(remedies)}"
    )
