"""The flow that makes a folder of codes out of a folder of recordings."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from prefect import flow

from jukebox_core.base.structuring import build
from pipelines.exit_status import working
from pipelines.orchestration import tasks
from pipelines.settings.dataset import DatasetSettings


@flow(name="dataset", persist_result=False, validate_parameters=False)
def dataset_flow(config: dict[str, Any]) -> str:
    """Looks at recordings and their labels, and encodes them; returns the folder of codes, or the report's path."""
    settings = build(DatasetSettings, config)
    model, folder = settings.model.config, Path(settings.folder).expanduser()
    songs = tasks.find_songs(settings.audio, settings.metadata)
    if settings.check_labels:
        vocabularies = tasks.fetch_vocabularies(settings.model.files, settings.weights)
        tasks.check_labels(model, vocabularies, songs)
    with working():
        if not settings.encode:
            return str(tasks.check_songs(settings.checks, songs, model.network.vqvae.sample_rate, folder))
        weights = tasks.fetch_weights(model, settings.model.files, settings.weights, roles=("vqvae",))
        return str(tasks.encode_songs(model, weights["vqvae"], settings.hardware, settings.checks, songs, folder))
