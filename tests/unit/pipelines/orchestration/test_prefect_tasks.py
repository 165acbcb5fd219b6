"""Stages as plain functions and as Prefect tasks: the same names; only deployments retry transient errors."""

from __future__ import annotations

import subprocess
import sys

import pytest

from jukebox_core.errors import ConfigError, DamagedError, DownloadError, StoreError
from pipelines.orchestration import stage_calls
from pipelines.orchestration.stage_calls import PLAIN, Stages
from pipelines.orchestration.training_calls import PLAIN as TRAINING
from pipelines.orchestration.training_calls import TrainingStages
from stages import fetch
from stages.sampling import shard

pytestmark = pytest.mark.slow  # Prefect takes seconds to import


def test_plain_stages_are_the_functions_themselves() -> None:
    assert PLAIN.fetch_weights is fetch.fetch_checked_weights
    assert TRAINING.fetch_weights is fetch.fetch_checked_weights
    assert PLAIN.sample_unit is shard.sample_unit


def test_plain_stages_import_no_prefect() -> None:
    code = "import sys, pipelines.orchestration.training_calls; sys.exit('prefect' in sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True)


@pytest.mark.parametrize("plain", [PLAIN, TRAINING], ids=["sampling", "training"])
def test_every_stage_becomes_a_task_of_the_same_function(plain: Stages) -> None:
    from prefect import Task

    from pipelines.orchestration.prefect_tasks import as_prefect_tasks

    tasks = as_prefect_tasks(plain)
    assert isinstance(tasks, type(plain))
    for name in plain.names():
        made = getattr(tasks, name)
        assert isinstance(made, Task)
        assert made.fn is getattr(plain, name)
        assert not made.persist_result
        assert not isinstance(getattr(plain, name), Task), "the plain stages stay plain"
    shown = [getattr(tasks, name).name for name in plain.names()]
    assert len(set(shown)) == len(shown)


def test_training_has_the_stages_of_sampling_too() -> None:
    assert set(Stages.names()) < set(TrainingStages.names())


def test_options_are_of_stages_that_exist() -> None:
    from pipelines.orchestration import prefect_tasks

    assert set(TrainingStages.names()) >= prefect_tasks._RETRIED
    assert set(stage_calls._SHOWN) <= set(TrainingStages.names())
    tasks = prefect_tasks.as_prefect_tasks(PLAIN)
    assert tasks is prefect_tasks.as_prefect_tasks(PLAIN), "made once"
    assert tasks.sample_unit.name == "sample window"  # type: ignore[attr-defined]
    assert [name for name in tasks.names() if getattr(tasks, name).tags] == []  # each would cost a request per window
    retried = {name for name in tasks.names() if getattr(tasks, name).retries}
    assert retried == {"fetch_vocabularies", "fetch_weights", "encode_prompt", "decode_track", "write_song_codes"}


@pytest.mark.parametrize(
    ("error", "transient"),
    [
        (DownloadError("no answer"), True),
        (StoreError("no answer"), True),
        (DamagedError("flipped bit", "key"), False),
        (ConfigError("wrong"), False),
        (OSError("disk"), False),
    ],
)
def test_only_a_deployment_retries_and_only_transient_errors(
    monkeypatch: pytest.MonkeyPatch, error: Exception, transient: bool
) -> None:
    from prefect.states import Failed

    from pipelines.orchestration import prefect_tasks

    def retries(deployment: str | None) -> bool:
        monkeypatch.setattr(prefect_tasks, "deployment", type("Deployment", (), {"id": deployment}))
        return prefect_tasks._is_transient(None, None, Failed(data=error))  # type: ignore[arg-type]

    assert retries("some-id") is transient
    assert retries(None) is False
