"""Turns audio into codes: prompts of a run, and files by themselves."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

import numpy as np
import torch

from jukebox_core.store.spooled import open_store
from jukebox_core.tokens.codes import Codes, write_codes
from stages.resident import resident_vqvae

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from numpy.typing import NDArray

    from jukebox_core.families.jukebox.config import JukeboxConfig
    from jukebox_core.runtime.config import HardwareConfig
    from stages.handles import FileHandle
    from stages.sampling.prompt import Excerpt, Prompt

log = logging.getLogger("jukebox")


def encode_prompt(
    config: JukeboxConfig, weights: FileHandle, hardware: HardwareConfig, prompt: Prompt, store: str
) -> None:
    """Seals a prompt's codes, every level's under its key; those that are stored already are left alone."""
    tokens = open_store(store)
    missing = [level for level, key in enumerate(prompt.keys) if not tokens.sealed(key)]
    if not missing:
        log.info("prompt %s: codes reused", prompt.excerpt.path)
        return
    audio = prompt.excerpt.read(config)
    for level, codes in zip(missing, encode_audio(config, weights, hardware, audio, missing), strict=True):
        tokens.seal(prompt.keys[level], codes, first=0, causes=prompt.causes[level])
    log.info("prompt %s: %.2f s encoded", prompt.excerpt.path, len(audio) / config.vqvae.sample_rate)


def encode_file(
    config: JukeboxConfig,
    weights: FileHandle,
    hardware: HardwareConfig,
    excerpt: Excerpt,
    levels: Sequence[int],
    path: Path,
) -> Path:
    """Writes the codes file of one excerpt, and returns its path."""
    codes = encode_audio(config, weights, hardware, excerpt.read(config), levels)
    write_codes(path, Codes(dict(zip(levels, codes, strict=True)), about(config, weights.identity)))
    return path


def about(config: JukeboxConfig, vqvae_sha256: str) -> dict[str, object]:
    """Returns what a codes file says of the model that made it."""
    return {
        "model": config.name,
        "vqvae_sha256": vqvae_sha256,
        "sample_rate": config.vqvae.sample_rate,
        "hops": list(config.vqvae.hops),
    }


def encode_audio(
    config: JukeboxConfig,
    weights: FileHandle,
    hardware: HardwareConfig,
    audio: NDArray[np.float32],
    levels: Sequence[int],
) -> list[NDArray[np.int32]]:
    """Returns the codes of mono audio at each of `levels`, int32 [time]."""
    vqvae = resident_vqvae(config, weights, hardware)
    with torch.inference_mode():
        codes = vqvae.encode(torch.from_numpy(audio)[None], list(levels))
    return [tokens[0].cpu().numpy().astype(np.int32) for tokens in codes]
