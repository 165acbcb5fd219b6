"""Priors prepared for sampling, from the file of weights or from the cached copy of an earlier start.

Preparation converts a prior's weights to the precision, quantises them for int8, and packs them for the kernels of the
CPU. It takes seconds at every start and is deterministic, so its result is cached in the library.
"""

from __future__ import annotations

import hashlib
import logging
import platform
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

from jukebox_core.errors import CheckpointError
from jukebox_core.families.jukebox.checkpoints.loading import build_prior, first_layers, load_prior
from jukebox_core.families.jukebox.engines import native
from jukebox_core.families.jukebox.engines.engines import is_packed, prepare, quantise_projections
from jukebox_core.families.jukebox.engines.native import NativeTransformer, pack_prior
from jukebox_core.families.jukebox.model.streaming import tap_major
from jukebox_core.models.checkpoints.checkpoint import save_safetensors
from jukebox_core.models.checkpoints.direct import read_into
from jukebox_core.models.checkpoints.prepared import FOLDER, discard, is_sound, keep
from jukebox_core.runtime import finite, quantise
from jukebox_core.runtime.device import COMPUTE_DTYPES
from jukebox_core.runtime.native import convolution, matrices

if TYPE_CHECKING:
    import torch

    from jukebox_core.families.jukebox.config import JukeboxConfig
    from jukebox_core.families.jukebox.model.prior import Prior

log = logging.getLogger("jukebox")

MIN_BYTES = 64_000_000  # of a file; preparing a smaller one is faster than looking for a copy
_SMALLER = 0.9  # of the file: a copy that is neither packed nor smaller loads no faster
_LABEL_TABLES = ("labels.artist.weight", "labels.genre.weight")  # 65 MB of 1b_lyrics, and a song needs a few rows
_LAYOUT_SOURCES = (quantise, matrices, convolution, native, finite)  # the code that decides the content, and checks it


@dataclass(frozen=True, slots=True)
class Source:
    """The weights of a prior."""

    path: Path
    identity: str  # their digest as they were published
    library: Path | None = None  # the weights folder, which caches prepared copies; None: no cache


def sampling_prior(
    config: JukeboxConfig,
    level: int,
    source: Source,
    *,
    device: torch.device,
    dtype: str,
    engine: str,
    deepest: int | None = None,
) -> Prior:
    """Returns the prior of `level` as `load_prior` and `prepare` make it, from the cached copy if it exists.

    With `deepest`, it is cut to its first layers (`first_layers`): no others are read, and no copy is made of them.

    Raises:
        CheckpointError: the file is not a checkpoint of this prior.
        DeviceError: the engine is asked for by name and does not work here.
    """
    if source.library is None or source.path.stat().st_size < MIN_BYTES:
        return prepare(load_prior(config, level, source.path, device=device, dtype=dtype, deepest=deepest), engine)
    empty = _empty(config, level, dtype, deepest)
    packed = is_packed(empty, engine, device)
    kept = source.library / FOLDER / f"{source.identity[:16]}-{dtype}-{'packed' if packed else 'plain'}-{_layout()}"
    kept = kept.with_suffix(".safetensors")
    if is_sound(kept, source.library, source.identity):
        try:
            return prepare(_read(empty, kept, device, packed=packed, part=deepest is not None), engine)
        except (CheckpointError, OSError) as error:
            log.warning("%s; it is made again", error)
            discard(kept, source.library)
    del empty
    prior = prepare(load_prior(config, level, source.path, device=device, dtype=dtype, deepest=deepest), engine)
    if deepest is not None:
        return prior
    size = sum(tensor.nbytes for tensor in {id(t): t for t in prior.state_dict(keep_vars=True).values()}.values())
    if packed or size < _SMALLER * source.path.stat().st_size:
        keep(kept, source.library, source.identity, size, lambda: save_safetensors(prior, kept))
    return prior


def _empty(config: JukeboxConfig, level: int, dtype: str, deepest: int | None) -> Prior:
    """Returns the prior of `load_prior` on the meta device: modules, dtypes and shapes without memory."""
    prior = build_prior(config, level)
    if deepest is not None:
        first_layers(prior, deepest)
    if dtype == "int8":
        quantise_projections(prior.body.transformer)
    prior.set_compute_dtype(COMPUTE_DTYPES[dtype])
    return prior.eval().requires_grad_(requires_grad=False)


def _read(prior: Prior, kept: Path, device: torch.device, *, packed: bool, part: bool) -> Prior:
    if packed:
        pack_prior(prior)
    read_into(prior, kept, device, mapped=_LABEL_TABLES, part=part)
    tap_major(prior)
    if isinstance(prior.body.transformer, NativeTransformer):
        prior.body.transformer.arena.promote_to_huge_pages()
    return prior


@cache
def _layout() -> str:
    """Returns 8 hexadecimal digits that change with the code that lays out and quantises weights."""
    causes = hashlib.sha256(platform.machine().encode())
    for module in _LAYOUT_SOURCES:
        causes.update(Path(str(module.__file__)).read_bytes())
    return causes.hexdigest()[:8]
