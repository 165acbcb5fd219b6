"""``hardware=auto`` on this machine: a precision, which is part of a run's identity, and a batch size.

Precision is chosen when settings are composed, from the device's total memory: the run's name and keys depend on it,
and its config.yaml records it. The batch size is chosen at each start from the free memory. Explicit values are kept.
"""

from __future__ import annotations

import logging
import os
import sys
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from jukebox_core.base.text import format_bytes
from jukebox_core.errors import DeviceError
from jukebox_core.export.engine import ENGINE, check_hardware

if TYPE_CHECKING:
    from jukebox_core.runtime.config import HardwareConfig
    from jukebox_core.runtime.precision import Precision, SamplingMemory
    from pipelines.settings.common import RunnerSettings
    from pipelines.settings.generate import Settings

log = logging.getLogger("jukebox")

_ACCELERATORS = ("/dev/nvidiactl", "/dev/dxg", "/dev/kfd")  # Nvidia, any under Windows' Linux, AMD


def with_auto_resolved(settings: Settings) -> Settings:
    """Returns the settings with ``hardware.dtype=auto`` replaced by a precision.

    Raises:
        ConfigError, DeviceError: ``engine=onnx`` cannot compute as the settings ask for.
    """
    if settings.hardware.engine == ENGINE:
        check_hardware(settings.hardware)
        return replace(settings, hardware=replace(settings.hardware, dtype="float32"))
    if settings.hardware.dtype != "auto":
        return settings
    dtype: Precision = "float32" if _certainly_float32(settings) else _chosen(settings)
    return replace(settings, hardware=replace(settings.hardware, dtype=dtype))


def with_batch(
    memory: SamplingMemory, hardware: HardwareConfig, samples: int, runner: RunnerSettings
) -> HardwareConfig:
    """Returns `hardware` with a batch size of null replaced by the largest that fits the free memory, at least 1."""
    if hardware.batch_size is not None:
        return hardware
    from jukebox_core.runtime.device import free_memory, resolve_device
    from jukebox_core.runtime.precision import max_batch_size

    device = resolve_device(hardware.device)
    free = free_memory(device)
    shared = runner.workers if runner.kind == "threads" and not runner.devices else 1  # threads share one copy
    limit = -(-samples // (runner.shards or runner.workers))
    found = max_batch_size(free, limit * shared, lambda count: memory.bytes(hardware.dtype, count))
    batch = max(1, found // shared)
    needed = memory.bytes(hardware.dtype, batch * shared)
    log.info(
        "%s on %s: %s, batch of %d of %d samples; about %s of the %s that are free",
        memory.config.name,
        device,
        hardware.dtype,
        min(batch, samples),
        samples,
        format_bytes(needed),
        format_bytes(free),
    )
    return replace(hardware, batch_size=batch)


def sampling_memory(settings: Settings) -> SamplingMemory:
    """Returns the memory estimate of sampling a run on one device."""
    from jukebox_core.runtime.precision import SamplingMemory

    return SamplingMemory(
        family=settings.family,
        config=settings.config,
        levels=settings.levels,
        together=settings.runner.schedule == "wavefront",
        copies=settings.runner.copies,
    )


def _certainly_float32(settings: Settings) -> bool:
    """Whether the device is a CPU with ample memory for the model, without torch, whose import takes seconds."""
    accelerated = sys.platform == "darwin" or any(Path(path).exists() for path in _ACCELERATORS)
    device = settings.hardware.device
    if device != "cpu" and (device != "auto" or accelerated):
        return False
    parameters = settings.family.approximate_parameters(settings.config)
    # Twice the bytes of the networks of all levels covers embeddings, conditioners and caches by far.
    return 2 * 4 * parameters + 1e9 < 0.5 * os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")


def _chosen(settings: Settings) -> Precision:
    from jukebox_core.runtime.device import kind_and_memory, resolve_device
    from jukebox_core.runtime.precision import choose_dtype

    try:
        kind, total = kind_and_memory(resolve_device(settings.hardware.device))
    except DeviceError:
        return "float32"  # any value: the checks before the run report the missing device
    return choose_dtype(replace(sampling_memory(settings), copies=1), kind, total)
