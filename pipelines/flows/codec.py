"""The flows that use a codec by itself: audio files to codes files, and back."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

from jukebox_core.audio.tags import song_tags
from jukebox_core.models.stored import to_stored
from pipelines.execution.targets import targets
from pipelines.orchestration.flow_runs import run_flow
from pipelines.orchestration.stage_calls import PLAIN
from stages.resident import CodecSpec
from stages.sampling.prompt import Excerpt

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from pipelines.execution.targets import Target
    from pipelines.orchestration.stage_calls import Stages
    from pipelines.settings.codec import DecodeSettings, EncodeSettings

log = logging.getLogger("jukebox")


def encode_flow(settings: EncodeSettings) -> list[str]:
    """Returns the paths of the codes files: one for each audio file of the settings."""
    return _run("encode", settings, lambda stages: encode_files(settings, stages))


def decode_flow(settings: DecodeSettings) -> list[str]:
    """Returns the paths of the audio files: one for each codes file of the settings."""
    return _run("decode", settings, lambda stages: decode_files(settings, stages))


def _run(name: str, settings: EncodeSettings | DecodeSettings, work: Callable[[Stages], list[str]]) -> list[str]:
    return run_flow(name, to_stored(settings), PLAIN, work, "recorded", settings.storage.root)


def encode_files(settings: EncodeSettings, stages: Stages) -> list[str]:
    """Writes a codes file for each audio file, if it does not exist yet; returns their paths."""
    codec = _codec(settings, stages)

    def encode(target: Target) -> None:
        excerpt = Excerpt(path=target.source, seconds=settings.seconds, offset_seconds=settings.offset_seconds)
        stages.encode_file(codec, excerpt, settings.levels, target.path)

    return _write(targets(settings.audio, settings.folder, ".npz"), settings, codec, encode)


def decode_files(settings: DecodeSettings, stages: Stages) -> list[str]:
    """Writes an audio file for each codes file, if it does not exist yet; returns their paths."""
    codec, model = _codec(settings, stages), settings.model

    def decode(target: Target) -> None:
        tags = song_tags({}, title=target.path.stem, model=model.name, licence=model.files.licence)
        stages.decode_file(codec, target.source, settings.level, target.path, tags)

    return _write(targets(settings.codes, settings.folder, f".{settings.output.format}"), settings, codec, decode)


def _write(
    files: Sequence[Target],
    settings: EncodeSettings | DecodeSettings,
    codec: CodecSpec,
    write: Callable[[Target], None],
) -> list[str]:
    how, weights = settings.how, codec.weights.identity
    for target in files:
        if target.is_made(how, weights):
            log.info("%s exists already", target.path)
            continue
        with target.recorded(how, weights):
            write(target)
        log.info("%s -> %s", target.source, target.path)
    return [str(target.path) for target in files]


def _codec(settings: EncodeSettings | DecodeSettings, stages: Stages) -> CodecSpec:
    role = settings.model.opened.codec_role
    weights = stages.fetch_weights(settings.model, settings.weights, roles=(role,))
    return CodecSpec.of(settings.model, weights[role], settings.hardware)
