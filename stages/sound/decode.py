"""Decodes codes to audio: the tracks of a run, and codes files."""

from __future__ import annotations

from dataclasses import asdict
from typing import TYPE_CHECKING

import numpy as np

from jukebox_core.audio.files import write_audio
from jukebox_core.base.hashing import digest_file
from jukebox_core.base.paths import user_path
from jukebox_core.errors import StoreError
from jukebox_core.store.spans import read_spans
from jukebox_core.store.spooled import open_store
from jukebox_core.tokens.codes import read_codes
from stages.handles import FileHandle, SoundHandle
from stages.sound.encode import maker_key

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from numpy.typing import NDArray

    from jukebox_core.audio.files import Tag
    from jukebox_core.family import ModelConfig
    from jukebox_core.tokens.graph import Track
    from stages.resident import CodecSpec


def decode_track(
    codec: CodecSpec, level: int, track: Track, store: str, path: Path, tags: Mapping[Tag, str] | None = None
) -> SoundHandle:
    """Writes one level of one song as audio with these tags, and returns the file's handle."""
    return _write_sound(codec, level, read_spans(open_store(store), tuple(track)), path, tags)


def decode_file(
    codec: CodecSpec, codes_file: str, level: int, path: Path, tags: Mapping[Tag, str] | None = None
) -> SoundHandle:
    """Writes one level of a codes file as audio with these tags, and returns the file's handle.

    Raises:
        StoreError: the file lacks the level, holds values outside the codebook, or was made by another codec.
    """
    tokens = read_level(codec.family, codec.config, codes_file, level, codec.weights.identity)
    return _write_sound(codec, level, tokens, path, tags)


def read_level(
    family: str, config: ModelConfig, codes_file: str, level: int, codec_sha256: str | None
) -> NDArray[np.int32]:
    """Returns the codes of one level of a codes file, int32 [time].

    Args:
        family: of the model that decodes them.
        config: that model.
        codes_file: the file.
        level: the level.
        codec_sha256: digest of the model's codec; None if it is not known yet: the file's codec is not checked.

    Raises:
        StoreError: the file lacks the level, holds values outside the codebook, or was made by another codec.
    """
    codes = read_codes(user_path(codes_file))
    if level not in codes.levels:
        raise StoreError(f"{codes_file} has no level {level}; it has {sorted(codes.levels)}: choose one of them")
    maker = codes.about.get(maker_key(family))
    if None not in (maker, codec_sha256) and maker != codec_sha256:
        raise StoreError(
            f"{codes_file} was made by model {codes.about.get('model')!r} (codec {str(maker)[:12]}), not by "
            f"{config.name!r} ({str(codec_sha256)[:12]}); decode it with the model that made it"
        )
    tokens = codes.levels[level]
    if not tokens.size or tokens.min() < 0 or tokens.max() >= config.bins:
        raise StoreError(f"level {level} of {codes_file} does not hold codes from 0 to {config.bins - 1}")
    return tokens


def _write_sound(
    codec: CodecSpec, level: int, tokens: NDArray[np.int32], path: Path, tags: Mapping[Tag, str] | None = None
) -> SoundHandle:
    audio, rate = decode_codes(codec, level, tokens), codec.config.sample_rate
    write_audio(path, audio, rate, tags=tags)
    return SoundHandle(
        **asdict(FileHandle.of(path, digest_file(path))),
        seconds=len(audio) / rate,
        peak=float(np.abs(audio).max()),
        rms=float(np.sqrt(np.mean(np.square(audio, dtype=np.float64)))),
    )


def decode_codes(codec: CodecSpec, level: int, tokens: NDArray[np.int32]) -> NDArray[np.float32]:
    """Returns the audio of one level's codes, float32 [time]; it may exceed 1."""
    audio: NDArray[np.float32] = codec.open().decode(tokens[None], level)[0]
    return audio
