"""The flow that takes features of recordings: fetch, then groups of recordings, each of which is finished by itself."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from prefect import flow

from pipelines.execution import features
from pipelines.orchestration.prefect_tasks import prefect_stages
from pipelines.orchestration.signals import stopping_on_signals

if TYPE_CHECKING:
    from pipelines.execution.features import PreparedFeatures
    from pipelines.orchestration.stage_calls import Stages


def run_features_flow(prepared: PreparedFeatures, config: dict[str, Any]) -> None:
    """Takes the features of a run as a flow run of Prefect's; `config`: the settings as plain data, for its pages."""

    @flow(name="features", persist_result=False, validate_parameters=False)
    def take_features(config: dict[str, Any], folder: str) -> str:  # noqa: ARG001  # shown on Prefect's pages
        extract_recordings(prepared, prefect_stages())
        return folder

    take_features(config, str(prepared.settings.path))


def extract_recordings(prepared: PreparedFeatures, stages: Stages) -> None:
    """Takes the features of all recordings that are not finished; errors as `pipelines.execution.features.run`."""
    with stopping_on_signals():
        features.run(prepared, stages)
