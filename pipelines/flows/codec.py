"""The flows that use a codec by itself: audio files to codes files, and back."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

from jukebox_core.base.structuring import to_plain
from pipelines.execution.inputs import free_targets
from pipelines.orchestration.prefect_tasks import prefect_stages
from pipelines.orchestration.recorder import recorded
from stages.resident import CodecSpec
from stages.sampling.prompt import Excerpt

if TYPE_CHECKING:
    from pipelines.orchestration.stage_calls import Stages
    from pipelines.settings.codec import DecodeSettings, EncodeSettings

log = logging.getLogger("jukebox")


def encode_flow(settings: EncodeSettings) -> list[str]:
    """Returns the paths of the codes files: one for each audio file of the settings."""
    return recorded("encode", to_plain(settings), lambda: encode_files(settings, prefect_stages()))


def decode_flow(settings: DecodeSettings) -> list[str]:
    """Returns the paths of the audio files: one for each codes file of the settings."""
    return recorded("decode", to_plain(settings), lambda: decode_files(settings, prefect_stages()))


def encode_files(settings: EncodeSettings, stages: Stages) -> list[str]:
    """Writes a codes file for each audio file; returns their paths."""
    codec, written = _codec(settings, stages), []
    for audio, path in zip(settings.audio, free_targets(settings.audio, settings.folder, ".npz"), strict=True):
        excerpt = Excerpt(path=audio, seconds=settings.seconds, offset_seconds=settings.offset_seconds)
        stages.encode_file(codec, excerpt, settings.levels, path)
        log.info("%s -> %s", audio, path)
        written.append(str(path))
    return written


def decode_files(settings: DecodeSettings, stages: Stages) -> list[str]:
    """Writes an audio file for each codes file; returns their paths."""
    codec, written = _codec(settings, stages), []
    for codes, path in zip(
        settings.codes, free_targets(settings.codes, settings.folder, f".{settings.output.format}"), strict=True
    ):
        stages.decode_file(codec, codes, settings.level, path)
        log.info("%s -> %s", codes, path)
        written.append(str(path))
    return written


def _codec(settings: EncodeSettings | DecodeSettings, stages: Stages) -> CodecSpec:
    role = settings.model.opened.codec_role
    weights = stages.fetch_weights(settings.model, settings.weights, roles=(role,))
    return CodecSpec.of(settings.model, weights[role], settings.hardware)
