"""Turns codes into sound: the tracks of a run, and codes files by themselves."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch

from jukebox_core.audio.files import write_audio
from jukebox_core.base.hashing import digest_file
from jukebox_core.errors import StoreError
from jukebox_core.store.spans import read_spans
from jukebox_core.store.spooled import open_store
from jukebox_core.tokens.codes import read_codes
from stages.handles import FileHandle, SoundHandle
from stages.resident import resident_vqvae

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from jukebox_core.families.jukebox.config import JukeboxConfig
    from jukebox_core.runtime.config import HardwareConfig
    from jukebox_core.tokens.graph import Track


def decode_track(
    config: JukeboxConfig,
    weights: FileHandle,
    hardware: HardwareConfig,
    level: int,
    track: Track,
    store: str,
    path: Path,
) -> SoundHandle:
    """Writes one level of one song as audio, and returns the file's handle."""
    return _write_sound(config, weights, hardware, level, read_spans(open_store(store), tuple(track)), path)


def decode_file(
    config: JukeboxConfig, weights: FileHandle, hardware: HardwareConfig, codes_file: str, level: int, path: Path
) -> SoundHandle:
    """Writes one level of a codes file as audio, and returns the file's handle.

    Raises:
        StoreError: the file lacks the level, holds values that are no codes, or another VQ-VAE made it.
    """
    tokens = read_level(config, codes_file, level, weights.identity)
    return _write_sound(config, weights, hardware, level, tokens, path)


def read_level(config: JukeboxConfig, codes_file: str, level: int, vqvae_sha256: str | None) -> NDArray[np.int32]:
    """Returns the codes of one level of a codes file, int32 [time].

    Args:
        config: the model that is to decode them.
        codes_file: the file.
        level: the level.
        vqvae_sha256: digest of the model's VQ-VAE; None, where it is not known yet, leaves the file's maker unchecked.

    Raises:
        StoreError: the file lacks the level, holds values that are no codes, or another VQ-VAE made it.
    """
    codes = read_codes(Path(codes_file).expanduser())
    if level not in codes.levels:
        raise StoreError(f"{codes_file} has no level {level}; it has {sorted(codes.levels)}: choose one of them")
    maker = codes.about.get("vqvae_sha256")
    if None not in (maker, vqvae_sha256) and maker != vqvae_sha256:
        raise StoreError(
            f"{codes_file} was made by model {codes.about.get('model')!r} (VQ-VAE {str(maker)[:12]}), not by "
            f"{config.name!r} ({str(vqvae_sha256)[:12]}); decode it with the model that made it"
        )
    tokens = codes.levels[level]
    if tokens.ndim != 1 or not len(tokens) or tokens.min() < 0 or tokens.max() >= config.vqvae.bins:
        raise StoreError(
            f"level {level} of {codes_file} does not hold codes from 0 to {config.vqvae.bins - 1} in a row"
        )
    return tokens


def _write_sound(
    config: JukeboxConfig,
    weights: FileHandle,
    hardware: HardwareConfig,
    level: int,
    tokens: NDArray[np.int32],
    path: Path,
) -> SoundHandle:
    audio = decode_codes(config, weights, hardware, level, tokens)
    write_audio(path, audio, config.vqvae.sample_rate)
    return SoundHandle(
        **FileHandle.of(path, digest_file(path)).model_dump(),
        seconds=len(audio) / config.vqvae.sample_rate,
        peak=float(np.abs(audio).max()),
        rms=float(np.sqrt(np.mean(np.square(audio, dtype=np.float64)))),
    )


def decode_codes(
    config: JukeboxConfig, weights: FileHandle, hardware: HardwareConfig, level: int, tokens: NDArray[np.int32]
) -> NDArray[np.float32]:
    """Returns the sound of one level's codes, float32 [time]; it may exceed 1."""
    vqvae = resident_vqvae(config, weights, hardware)
    with torch.inference_mode():
        audio = vqvae.decode(torch.from_numpy(tokens.astype(np.int64))[None], level)
    return audio[0].float().cpu().numpy()
