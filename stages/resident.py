"""Models kept in memory by a process, so that each window need not load its own.

One prior at a time: asking for another level's frees the last one first (schedule by level).
"""

from __future__ import annotations

import gc
import logging
import threading
from typing import TYPE_CHECKING, Any

from jukebox_core.families.jukebox.loading import load_prior, load_vqvae
from jukebox_core.runtime.device import resolve_device, use_threads

if TYPE_CHECKING:
    from collections.abc import Callable

    from jukebox_core.families.jukebox.config import JukeboxConfig
    from jukebox_core.families.jukebox.prior import Prior
    from jukebox_core.families.jukebox.vqvae import VQVAE
    from jukebox_core.runtime.config import HardwareConfig
    from stages.handles import FileHandle

log = logging.getLogger("jukebox")

_lock = threading.Lock()
_held: dict[str, tuple[tuple[object, ...], Any]] = {}  # kind of model -> (what it is, the model)


def _resident(kind: str, identity: tuple[object, ...], load: Callable[[], Any]) -> Any:
    with _lock:
        held, model = _held.get(kind, (None, None))
        if held != identity:
            model = None
            _held.pop(kind, None)
            gc.collect()
            log.info("loading %s", identity[0])
            model = load()
            _held[kind] = (identity, model)
        return model


def resident_vqvae(config: JukeboxConfig, weights: FileHandle, hardware: HardwareConfig) -> VQVAE:
    """Returns the VQ-VAE on its device, loading it if this process does not hold it yet."""
    device = resolve_device(hardware.device)
    use_threads(hardware)
    identity = (f"{config.name} vqvae", weights.sha256, device)
    model: VQVAE = _resident("vqvae", identity, lambda: load_vqvae(config, weights.read(), device=device))
    return model


def resident_prior(config: JukeboxConfig, level: int, weights: FileHandle, hardware: HardwareConfig) -> Prior:
    """Returns the prior of `level` on its device, loading it if this process does not hold it yet."""
    device = resolve_device(hardware.device)
    use_threads(hardware)
    identity = (f"{config.name} prior of level {level}", weights.sha256, device, hardware.dtype)
    model: Prior = _resident(
        "prior", identity, lambda: load_prior(config, level, weights.read(), device=device, dtype=hardware.dtype)
    )
    return model


def release() -> None:
    """Frees every model this process holds."""
    with _lock:
        _held.clear()
    gc.collect()
