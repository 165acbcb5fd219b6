"""The flow that makes a folder of codes from a folder of recordings."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from prefect import flow

from jukebox_core.base.paths import user_path
from jukebox_core.base.structuring import build
from pipelines.exit_status import working
from pipelines.orchestration.prefect_tasks import prefect_stages
from pipelines.settings.dataset import DatasetSettings
from stages.resident import CodecSpec

if TYPE_CHECKING:
    from pathlib import Path

    from pipelines.orchestration.stage_calls import Stages


@flow(name="dataset", persist_result=False, validate_parameters=False)
def dataset_flow(config: dict[str, Any]) -> str:
    """Returns the folder of codes that `config` describes, or the path of the report if nothing is to be encoded."""
    return str(make_dataset(build(DatasetSettings, config), prefect_stages()))


def make_dataset(settings: DatasetSettings, stages: Stages) -> Path:
    """Checks recordings and their labels, and encodes them; returns the folder of codes, or the report's path."""
    folder = user_path(settings.folder)
    songs = stages.find_songs(settings.audio, settings.metadata)
    if settings.check_labels:
        vocabularies = stages.fetch_vocabularies(settings.model, settings.weights)
        stages.check_labels(settings.model, vocabularies, songs)
    with working():
        if not settings.encode:
            return stages.check_songs(settings.checks, songs, settings.model.config.sample_rate, folder)
        role = settings.model.opened.codec_role
        weights = stages.fetch_weights(settings.model, settings.weights, roles=(role,))
        codec = CodecSpec.of(settings.model, weights[role], settings.hardware)
        return stages.encode_songs(codec, settings.checks, songs, folder)
