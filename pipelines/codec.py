"""The flows that use the VQ-VAE by itself: audio files to codes files, and back."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import TYPE_CHECKING, Any

from prefect import flow

from jukebox_core.errors import ConfigError
from jukebox_core.records import build
from pipelines import tasks
from pipelines.settings import DecodeSettings, EncodeSettings
from stages.prompt import Excerpt

if TYPE_CHECKING:
    from collections.abc import Sequence

log = logging.getLogger("jukebox")


@flow(name="encode", persist_result=False, validate_parameters=False)
def encode_flow(config: dict[str, Any]) -> list[str]:
    """Writes a codes file for each audio file; returns their paths."""
    settings = build(EncodeSettings, config)
    model = settings.model.config
    weights = tasks.fetch_weights(model, settings.model.files, settings.weights, roles=("vqvae",))
    written = []
    for audio, path in zip(settings.audio, targets(settings.audio, settings.folder, ".npz"), strict=True):
        excerpt = Excerpt(path=audio, seconds=settings.seconds, offset_seconds=settings.offset_seconds)
        tasks.encode_file(model, weights["vqvae"], settings.hardware, excerpt, settings.levels, path)
        log.info("%s -> %s", audio, path)
        written.append(str(path))
    return written


@flow(name="decode", persist_result=False, validate_parameters=False)
def decode_flow(config: dict[str, Any]) -> list[str]:
    """Writes an audio file for each codes file; returns their paths."""
    settings = build(DecodeSettings, config)
    model = settings.model.config
    weights = tasks.fetch_weights(model, settings.model.files, settings.weights, roles=("vqvae",))
    written = []
    for codes, path in zip(
        settings.codes, targets(settings.codes, settings.folder, f".{settings.output.format}"), strict=True
    ):
        tasks.decode_file(model, weights["vqvae"], settings.hardware, codes, settings.level, path)
        log.info("%s -> %s", codes, path)
        written.append(str(path))
    return written


def targets(sources: Sequence[str], folder: str, suffix: str) -> list[Path]:
    """Returns the file that each source is written to: its own name in `folder`, with another suffix.

    Raises:
        ConfigError: two sources would be written to the same file, or a target exists; nothing is overwritten.
    """
    paths = [Path(folder).expanduser() / (Path(source.removeprefix("builtin:")).stem + suffix) for source in sources]
    for index, path in enumerate(paths):
        if path in paths[:index]:
            raise ConfigError(f"{sources[paths.index(path)]} and {sources[index]} would both become {path}; rename one")
        if path.exists():
            raise ConfigError(f"{path} exists; nothing is overwritten: remove it, or choose another folder")
    return paths
