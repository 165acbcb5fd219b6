"""The flow that takes features of recordings: fetch, then groups of recordings, each of which is finished by itself."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from pipelines.execution import features
from pipelines.orchestration.flow_runs import how_of, run_flow
from pipelines.orchestration.signals import stopping_on_signals
from pipelines.orchestration.stage_calls import PLAIN

if TYPE_CHECKING:
    from pipelines.execution.features import PreparedFeatures
    from pipelines.orchestration.stage_calls import Stages


def run_features_flow(prepared: PreparedFeatures, config: dict[str, Any]) -> None:
    """Takes the features of a run, recorded as a flow run of Prefect's.

    Args:
        prepared: the results of the checks before the run.
        config: the settings as plain data, for Prefect's pages.
    """
    settings = prepared.settings
    shown = {**config, "folder": str(settings.path)}

    def work(stages: Stages) -> None:
        extract_recordings(prepared, stages)

    run_flow("features", shown, PLAIN, work, how_of(settings.runner), settings.storage.root)


def extract_recordings(prepared: PreparedFeatures, stages: Stages) -> None:
    """Takes the features of all recordings that are not finished; errors as `pipelines.execution.features.run`."""
    with stopping_on_signals():
        features.run(prepared, stages)
