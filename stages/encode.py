"""The tasks that turn audio into codes: prompts of a run, and files by themselves."""

from __future__ import annotations

import logging
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch
from prefect import task
from prefect.cache_policies import NO_CACHE

from jukebox_core.audio.files import read_audio
from jukebox_core.tokens.codes import Codes, write_codes
from jukebox_core.tokens.graph import Take, Track
from jukebox_core.tokens.keys import digest, digest_bytes
from jukebox_core.tokens.store import TokenStore
from stages.resident import resident_vqvae

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from jukebox_core.families.jukebox.config import JukeboxConfig
    from jukebox_core.runtime.config import HardwareConfig
    from stages.handles import FileHandle

log = logging.getLogger("jukebox")


@dataclass(frozen=True, kw_only=True, slots=True)
class Excerpt:
    """A part of an audio file; lengths in seconds."""

    path: str
    seconds: float | None  # None: to the end
    offset_seconds: float = 0.0
    longest: float | None = None  # if `seconds` is None, stop here at the latest


@task(name="encode prompts", cache_policy=NO_CACHE, persist_result=False)
def encode_prompts_task(
    config: JukeboxConfig, weights: FileHandle, hardware: HardwareConfig, excerpts: Sequence[Excerpt], store: str
) -> list[Take]:
    """Returns a take for each excerpt: its codes at every level, sealed in the token store under the sound's digest."""
    takes: dict[Excerpt, Take] = {}
    for excerpt in excerpts:
        if excerpt not in takes:
            takes[excerpt] = _encode_prompt(config, weights, hardware, excerpt, TokenStore(store))
    return [takes[excerpt] for excerpt in excerpts]


def _encode_prompt(
    config: JukeboxConfig, weights: FileHandle, hardware: HardwareConfig, excerpt: Excerpt, store: TokenStore
) -> Take:
    audio = read_excerpt(excerpt, config)
    heard = digest_bytes(audio.tobytes())
    causes = [
        {"schema": 1, "family": "jukebox", "prompt": heard, "weights": weights.sha256, "level": level}
        for level in range(config.vqvae.levels)
    ]
    keys = [digest(cause) for cause in causes]
    lengths = [len(audio) // hop for hop in config.vqvae.hops]
    if all(store.sealed(key) for key in keys):
        log.info("prompt %s: codes reused", excerpt.path)
    else:
        codes = encode_audio(config, weights, hardware, audio, range(config.vqvae.levels))
        for key, cause, tokens in zip(keys, causes, codes, strict=True):
            store.seal(key, tokens, first=0, causes=cause)
        log.info("prompt %s: %.2f s encoded", excerpt.path, len(audio) / config.vqvae.sample_rate)
    return tuple(Track().extend(key, length) for key, length in zip(keys, lengths, strict=True))


@task(name="encode file", cache_policy=NO_CACHE, persist_result=False)
def encode_file_task(
    config: JukeboxConfig,
    weights: FileHandle,
    hardware: HardwareConfig,
    excerpt: Excerpt,
    levels: Sequence[int],
    path: Path,
) -> Path:
    """Writes the codes file of one excerpt, and returns its path."""
    codes = encode_audio(config, weights, hardware, read_excerpt(excerpt, config), levels)
    write_codes(path, Codes(dict(zip(levels, codes, strict=True)), about(config, weights.sha256)))
    return path


def about(config: JukeboxConfig, vqvae_sha256: str) -> dict[str, object]:
    """Returns what a codes file says of the model that made it."""
    return {
        "model": config.name,
        "vqvae_sha256": vqvae_sha256,
        "sample_rate": config.vqvae.sample_rate,
        "hops": list(config.vqvae.hops),
    }


def read_excerpt(excerpt: Excerpt, config: JukeboxConfig) -> NDArray[np.float32]:
    """Returns the excerpt's sound, float32 [time], at the model's rate, cut to whole top-level tokens."""
    rate, hop = config.vqvae.sample_rate, config.vqvae.hops[-1]
    audio = read_audio(excerpt.path, rate=rate, seconds=excerpt.seconds, offset=excerpt.offset_seconds)
    if excerpt.seconds is None and excerpt.longest is not None:
        audio = audio[: int(excerpt.longest * rate)]
    return audio[: len(audio) // hop * hop]


def encode_audio(
    config: JukeboxConfig,
    weights: FileHandle,
    hardware: HardwareConfig,
    audio: NDArray[np.float32],
    levels: Sequence[int],
) -> list[NDArray[np.int32]]:
    """Returns the codes of mono audio at each of `levels`, int32 [time]."""
    vqvae = resident_vqvae(config, weights, hardware)
    device = next(vqvae.parameters()).device
    with torch.inference_mode():
        codes = vqvae.encode(torch.from_numpy(audio).to(device)[None], list(levels))
    return [tokens[0].cpu().numpy().astype(np.int32) for tokens in codes]
