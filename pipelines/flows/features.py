"""The flow that takes features of recordings: fetch, then groups of recordings, each of which is finished by itself."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from pipelines.execution import features
from pipelines.orchestration.prefect_tasks import prefect_stages
from pipelines.orchestration.recorder import recorded
from pipelines.orchestration.signals import stopping_on_signals

if TYPE_CHECKING:
    from pipelines.execution.features import PreparedFeatures
    from pipelines.orchestration.stage_calls import Stages


def run_features_flow(prepared: PreparedFeatures, config: dict[str, Any]) -> None:
    """Takes the features of a run, recorded as a flow run of Prefect's.

    Args:
        prepared: the results of the checks before the run.
        config: the settings as plain data, for Prefect's pages.
    """
    shown = {**config, "folder": str(prepared.settings.path)}
    recorded("features", shown, lambda: extract_recordings(prepared, prefect_stages()))


def extract_recordings(prepared: PreparedFeatures, stages: Stages) -> None:
    """Takes the features of all recordings that are not finished; errors as `pipelines.execution.features.run`."""
    with stopping_on_signals():
        features.run(prepared, stages)
