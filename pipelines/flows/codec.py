"""The flows that use the VQ-VAE by itself: audio files to codes files, and back."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Any

from prefect import flow

from jukebox_core.base.structuring import build
from pipelines.execution.inputs import free_targets
from pipelines.orchestration.prefect_tasks import prefect_stages
from pipelines.settings.generate import DecodeSettings, EncodeSettings
from stages.sampling.prompt import Excerpt

if TYPE_CHECKING:
    from pipelines.orchestration.stage_calls import Stages

log = logging.getLogger("jukebox")


@flow(name="encode", persist_result=False, validate_parameters=False)
def encode_flow(config: dict[str, Any]) -> list[str]:
    """Returns the paths of the codes files: one for each audio file that `config` names."""
    return encode_files(build(EncodeSettings, config), prefect_stages())


@flow(name="decode", persist_result=False, validate_parameters=False)
def decode_flow(config: dict[str, Any]) -> list[str]:
    """Returns the paths of the audio files: one for each codes file that `config` names."""
    return decode_files(build(DecodeSettings, config), prefect_stages())


def encode_files(settings: EncodeSettings, stages: Stages) -> list[str]:
    """Writes a codes file for each audio file; returns their paths."""
    model = settings.model.config
    weights = stages.fetch_weights(model, settings.model.files, settings.weights, roles=("vqvae",))
    written = []
    for audio, path in zip(settings.audio, free_targets(settings.audio, settings.folder, ".npz"), strict=True):
        excerpt = Excerpt(path=audio, seconds=settings.seconds, offset_seconds=settings.offset_seconds)
        stages.encode_file(model, weights["vqvae"], settings.hardware, excerpt, settings.levels, path)
        log.info("%s -> %s", audio, path)
        written.append(str(path))
    return written


def decode_files(settings: DecodeSettings, stages: Stages) -> list[str]:
    """Writes an audio file for each codes file; returns their paths."""
    model = settings.model.config
    weights = stages.fetch_weights(model, settings.model.files, settings.weights, roles=("vqvae",))
    written = []
    for codes, path in zip(
        settings.codes, free_targets(settings.codes, settings.folder, f".{settings.output.format}"), strict=True
    ):
        stages.decode_file(model, weights["vqvae"], settings.hardware, codes, settings.level, path)
        log.info("%s -> %s", codes, path)
        written.append(str(path))
    return written
