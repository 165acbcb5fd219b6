"""The flow that makes a folder of codes from a folder of recordings."""

from __future__ import annotations

from typing import TYPE_CHECKING

from jukebox_core.base.paths import user_path
from jukebox_core.datasets.source import check_codes_folder, source_of
from jukebox_core.models.stored import to_stored
from pipelines.exit_status import working
from pipelines.orchestration.flow_runs import run_flow
from pipelines.orchestration.stage_calls import PLAIN
from stages.resident import CodecSpec

if TYPE_CHECKING:
    from pathlib import Path

    from pipelines.orchestration.stage_calls import Stages
    from pipelines.settings.dataset import DatasetSettings


def dataset_flow(settings: DatasetSettings) -> Path:
    """Returns the folder of codes that the settings describe, or the path of the report if nothing is to be encoded."""

    def work(stages: Stages) -> Path:
        return make_dataset(settings, stages)

    return run_flow("dataset", to_stored(settings), PLAIN, work, "recorded", settings.storage.root)


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
        check_codes_folder(folder, source_of(songs, weights[role].identity), songs)
        codec = CodecSpec.of(settings.model, weights[role], settings.hardware)
        return stages.encode_songs(codec, settings.checks, songs, folder)
