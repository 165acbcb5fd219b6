"""What ``hardware=auto`` stands for on this machine: a precision, which is part of what a run is, and a batch size.

Precision is settled when settings are made, from the device's whole memory: the run's name and keys depend on it, and
its config.yaml keeps it. The batch size is settled each time from what is free. Values that are given stay.
"""

from __future__ import annotations

import logging
import os
import sys
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from jukebox_core.errors import DeviceError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from jukebox_core.families.jukebox.config import JukeboxConfig
    from jukebox_core.families.jukebox.sampling.precision import Precision
    from jukebox_core.runtime.config import HardwareConfig
    from pipelines.settings.generate import RunnerSettings, Settings

log = logging.getLogger("jukebox")

_ACCELERATORS = ("/dev/nvidiactl", "/dev/dxg", "/dev/kfd")  # Nvidia, any under Windows' Linux, AMD


def with_auto_resolved(settings: Settings) -> Settings:
    """Returns the settings with a precision in the place of ``auto``."""
    hardware, config = settings.hardware, settings.model.config
    if hardware.dtype != "auto":
        return settings
    dtype: Precision = "float32" if _plainly_float32(config, hardware) else _chosen(settings)
    return replace(settings, hardware=replace(hardware, dtype=dtype))


def with_batch(
    config: JukeboxConfig, hardware: HardwareConfig, levels: Sequence[int], samples: int, runner: RunnerSettings
) -> HardwareConfig:
    """Returns `hardware` with a batch size in the place of null: as many songs as fit what is free, one at least."""
    if hardware.batch_size is not None:
        return hardware
    from jukebox_core.families.jukebox.sampling.precision import most_side_by_side, needed_bytes
    from jukebox_core.runtime.device import free_memory, resolve_device

    device = resolve_device(hardware.device)
    together, free = runner.schedule == "wavefront", free_memory(device)
    shared = runner.workers if runner.kind == "threads" and not runner.devices else 1  # songs of several in one copy
    most = -(-samples // (runner.shards or runner.workers))
    found = most_side_by_side(
        config, tuple(levels), hardware.dtype, free, most * shared, together=together, copies=runner.copies
    )
    batch = max(1, found // shared)
    needed = needed_bytes(
        config, tuple(levels), hardware.dtype, batch * shared, together=together, copies=runner.copies
    )
    log.info(
        "%s on %s: %s, %d of %d samples side by side; about %.1f GB of the %.1f GB that are free",
        config.name, device, hardware.dtype, min(batch, samples), samples, needed / 1e9, free / 1e9,
    )  # fmt: skip
    return replace(hardware, batch_size=batch)


def _plainly_float32(config: JukeboxConfig, hardware: HardwareConfig) -> bool:
    """Whether this is a CPU with ample memory for the model, seen without torch, which takes seconds to load."""
    accelerated = sys.platform == "darwin" or any(Path(path).exists() for path in _ACCELERATORS)
    if hardware.device != "cpu" and (hardware.device != "auto" or accelerated):
        return False
    priors = [config.priors[level].transformer for level in range(config.top + 1)]
    parameters = sum(t.depth * t.width * (4 * t.attention_width + 2 * t.mlp_width) for t in priors)
    # Twice what the transformers of all levels take covers embeddings, conditioners and caches by far.
    return 2 * 4 * parameters + 1e9 < 0.5 * os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")


def _chosen(settings: Settings) -> Precision:
    from jukebox_core.families.jukebox.sampling.precision import choose_dtype
    from jukebox_core.runtime.device import kind_and_memory, resolve_device

    try:
        kind, total = kind_and_memory(resolve_device(settings.hardware.device))
    except DeviceError:
        return "float32"  # whatever it is: the checks before the run say that the device is not there
    levels = range(settings.sampling.stop_level, settings.model.config.top + 1)
    return choose_dtype(settings.model.config, levels, kind, total, together=settings.runner.schedule == "wavefront")
