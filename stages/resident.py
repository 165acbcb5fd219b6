"""Models kept in memory by a process, so that each window need not load its own.

On each device a process holds one VQ-VAE and as many priors as it is told to: one where levels are sampled one after
the other, all of them where they take turns. The prior that was used least recently makes room.
"""

from __future__ import annotations

import gc
import logging
import threading
from pathlib import Path
from typing import TYPE_CHECKING, Any

from jukebox_core.families.jukebox.checkpoints.loading import load_vqvae
from jukebox_core.families.jukebox.checkpoints.prepared import Source, sampling_prior
from jukebox_core.families.jukebox.engines.engines import prepare_vqvae
from jukebox_core.runtime.device import resolve_device, use_threads

if TYPE_CHECKING:
    from collections.abc import Callable

    from jukebox_core.families.jukebox.config import JukeboxConfig
    from jukebox_core.families.jukebox.model.prior import Prior
    from jukebox_core.families.jukebox.model.vqvae import VQVAE
    from jukebox_core.runtime.config import HardwareConfig
    from stages.handles import FileHandle

log = logging.getLogger("jukebox")

_lock = threading.Lock()
_held: dict[tuple[str, str], dict[tuple[object, ...], Any]] = {}  # (kind, device) -> models, least recently used first
_priors = 1  # to be held on each device


def keep_priors(count: int) -> None:
    """Sets how many priors this process holds on each device; those beyond are freed when the next one is asked for."""
    global _priors
    _priors = count


def _resident(kind: str, device: str, identity: tuple[object, ...], room: int, load: Callable[[], Any]) -> Any:
    with _lock:
        held = _held.setdefault((kind, device), {})
        if identity in held:
            held[identity] = held.pop(identity)
            return held[identity]
        while len(held) >= room:
            del held[next(iter(held))]
        gc.collect()
        log.info("loading %s", identity[0])
        held[identity] = model = load()
        return model


def resident_vqvae(config: JukeboxConfig, weights: FileHandle, hardware: HardwareConfig) -> VQVAE:
    """Returns the VQ-VAE on its device, loading it if this process does not hold it yet."""
    device = resolve_device(hardware.device)
    use_threads(hardware)
    identity = (f"{config.name} vqvae", weights.identity, hardware.engine)

    def load() -> VQVAE:
        return prepare_vqvae(load_vqvae(config, weights.read(), device=device), hardware.engine)

    model: VQVAE = _resident("vqvae", str(device), identity, 1, load)
    return model


def resident_prior(
    config: JukeboxConfig, level: int, weights: FileHandle, hardware: HardwareConfig, library: str | None = None
) -> Prior:
    """Returns the prior of `level` on its device, loading it if this process does not hold it yet.

    `library` is the weights folder, where it is kept as it samples; None keeps nothing.
    """
    device = resolve_device(hardware.device)
    use_threads(hardware)
    identity = (f"{config.name} prior of level {level}", weights.identity, hardware.dtype, hardware.engine)

    def load() -> Prior:
        source = Source(weights.read(), weights.identity, None if library is None else Path(library))
        return sampling_prior(config, level, source, device=device, dtype=hardware.dtype, engine=hardware.engine)

    model: Prior = _resident("prior", str(device), identity, _priors, load)
    return model


def release() -> None:
    """Frees every model this process holds."""
    with _lock:
        _held.clear()
    gc.collect()
