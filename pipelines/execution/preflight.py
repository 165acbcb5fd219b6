"""What is checked before any long work: each mistake gets its one clear error here, not an hour later.

Cheap checks first. Nothing here starts Prefect or loads weights; vocabularies, a few hundred kilobytes, are fetched.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from jukebox_core.base.text import format_bytes
from jukebox_core.datasets.songs import scan_songs
from jukebox_core.errors import DeviceError, DownloadError
from jukebox_core.store.spooled import open_store
from jukebox_core.store.store import TokenStore
from pipelines.execution.inputs import (
    check_codes,
    check_prompts,
    check_recordings,
    check_weights_here,
    check_work_left,
    free_targets,
)
from pipelines.execution.planning import needed_weights, plan_run, song_requests
from pipelines.execution.runner import check_runner
from pipelines.licence_prompt import ask
from pipelines.runs.audio_files import sounds
from pipelines.runs.folder import RunFolder, check_free, run_path
from pipelines.runs.takes import check_source
from pipelines.settings.generate import RunnerSettings
from pipelines.settings.hardware import with_batch
from stages.fetch import fetch_vocabularies, fetch_weights
from stages.sampling.label import label_songs

if TYPE_CHECKING:
    from collections.abc import Sequence

    from jukebox_core.families.jukebox.config import JukeboxConfig
    from jukebox_core.runtime.config import HardwareConfig
    from pipelines.execution.schedule import Order
    from pipelines.settings.dataset import DatasetSettings
    from pipelines.settings.generate import DecodeSettings, EncodeSettings, Settings

_ONE_WORKER = RunnerSettings()


def check(settings: Settings) -> None:
    """Checks everything that can be checked without weights and without torch. Writes nothing but vocabularies.

    Raises:
        JukeboxError: the first thing found wrong; its message gives value, rule and remedy.
    """
    check_runner(settings.runner)
    check_free(settings)
    check_source(settings)
    check_work_left(settings)
    check_prompts(settings)
    requests = song_requests(settings)
    ask(settings.model.files, settings.weights)
    vocabularies = fetch_vocabularies(settings.model.files, settings.weights)
    label_songs(settings.model.config, vocabularies, requests)


def finished(settings: Settings) -> RunFolder | None:
    """Returns the run's folder if all that the settings ask for is there already, else None.

    Every window's key is looked up and every audio file is hashed; neither torch nor Prefect is needed for it.
    """
    run = RunFolder(run_path(settings))
    if not run.manifest_path.exists() or run.manifest().get("status") != "finished":
        return None
    try:
        here = replace(settings.weights, offline=True)
        weights = fetch_weights(settings.model.config, settings.model.files, here, needed_weights(settings))
    except DownloadError:
        return None
    vocabularies = fetch_vocabularies(settings.model.files, settings.weights)
    labels = label_songs(settings.model.config, vocabularies, song_requests(settings))
    plan = plan_run(settings, labels, weights)
    files = sounds(plan.takes, weights["vqvae"].identity, settings.output.format)
    report = not settings.output.report or (run.path / "report.html").is_file()
    if plan.missing(TokenStore(settings.storage.tokens)) or not report:
        return None
    return run if all(sound.record(run) for sound in files) else None


def check_machine(settings: Settings) -> None:
    """Checks device, memory, the weights that are here already, and last the token store, which is written to.

    Raises:
        DeviceError: the device is not there, or has too little memory for the levels to be sampled.
        CheckpointError: weights are truncated, unsafe, or of another model.
        StoreError: the token store cannot be written.
    """
    config, samples = settings.model.config, settings.sampling.n_samples
    levels = range(settings.sampling.stop_level, config.top + 1)
    hardware = with_batch(config, settings.hardware, levels, samples, settings.runner)
    check_memory(config, hardware, levels, samples=samples, runner=settings.runner)
    check_weights_here(config, settings.model.files, settings.weights, needed_weights(settings))
    open_store(settings.storage.tokens, spool=settings.storage.spool).probe()


def check_encode(settings: EncodeSettings) -> None:
    """Checks everything that `encode` needs, before anything is written.

    Raises:
        JukeboxError: the first thing found wrong.
    """
    free_targets(settings.audio, settings.folder, ".npz")
    check_recordings(settings)
    ask(settings.model.files, settings.weights)
    check_memory(settings.model.config, settings.hardware, (), samples=1)
    check_weights_here(settings.model.config, settings.model.files, settings.weights, ("vqvae",))


def check_decode(settings: DecodeSettings) -> None:
    """Checks everything that `decode` needs, before anything is written.

    Raises:
        JukeboxError: the first thing found wrong.
    """
    free_targets(settings.codes, settings.folder, f".{settings.output.format}")
    ask(settings.model.files, settings.weights)
    check_memory(settings.model.config, settings.hardware, (), samples=1)
    here = check_weights_here(settings.model.config, settings.model.files, settings.weights, ("vqvae",))
    check_codes(settings, here.get("vqvae"))


def check_dataset(settings: DatasetSettings) -> None:
    """Checks everything that `dataset` needs, apart from the recordings themselves.

    Raises:
        JukeboxError: the first thing found wrong.
    """
    scan_songs(settings.audio, settings.metadata)
    ask(settings.model.files, settings.weights)
    if settings.encode:
        check_memory(settings.model.config, settings.hardware, (), samples=1)
        check_weights_here(settings.model.config, settings.model.files, settings.weights, ("vqvae",))


def check_memory(
    config: JukeboxConfig,
    hardware: HardwareConfig,
    levels: Sequence[int],
    *,
    samples: int,
    runner: RunnerSettings = _ONE_WORKER,
) -> None:
    """Checks that the device is there and that the priors of `levels` that it holds at a time would fit in its memory.

    Raises:
        DeviceError: the device is missing, or has too little memory; the message says what would fit.
    """
    from jukebox_core.families.jukebox.sampling import memory  # needs torch, which the checks above do not
    from jukebox_core.runtime.device import free_memory, resolve_device

    device, batch_size = resolve_device(hardware.device), hardware.batch_size or 1
    free, batch = free_memory(device), runner.side_by_side(samples, batch_size)

    def need(dtype: str, batch: int, schedule: Order = runner.schedule, copies: int = runner.copies) -> int:
        if schedule == "wavefront":
            return copies * memory.estimate_bytes_together(config, levels, dtype, batch)
        return copies * max((memory.estimate_bytes(config, level, dtype, batch) for level in levels), default=0)

    needed = need(hardware.dtype, batch)
    if needed <= free:
        return
    choices = [(f"hardware.dtype={dtype}", need(dtype, batch)) for dtype in ("float32", "bfloat16")]
    choices.append(("hardware.batch_size=1", need(hardware.dtype, runner.side_by_side(samples, 1))))
    if runner.schedule != "by_level":
        choices.append(("runner.schedule=by_level", need(hardware.dtype, batch, "by_level")))
    if runner.workers > 1:
        choices.append(("runner.workers=1", need(hardware.dtype, min(samples, batch_size), copies=1)))
    remedies = [f"{override} needs {format_bytes(size)}" for override, size in choices if size <= free]
    remedies.append("model=1b_lyrics is the smallest released model, model=mini the smallest of all")
    raise DeviceError(
        f"{config.name} in {hardware.dtype} with {batch} samples side by side needs about {format_bytes(needed)} but "
        f"{device} has {format_bytes(free)} free; {'; '.join(remedies)}"
    )
