"""A worker finds the weights on its own machine, and refuses others than the run was planned with."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from jukebox_core.errors import CheckpointError
from jukebox_core.families.jukebox.sampling.config import SamplingConfig
from jukebox_core.models.config import WeightsConfig
from jukebox_core.models.presets import load_preset
from jukebox_core.runtime.config import HardwareConfig
from jukebox_core.sampling.windows import FlushPolicy
from stages.fetch import fetch_weights
from stages.sampling.sample import SamplingJob
from stages.sampling.shard import WorkerContext, local_weights
from tests.helpers.models.own_model import write_own_model


@pytest.fixture
def job_and_place(tmp_path: Path) -> tuple[SamplingJob, WorkerContext]:
    model = load_preset(write_own_model(tmp_path / "model"))
    planned = fetch_weights(model, WeightsConfig(folder=str(tmp_path / "planner")))
    job = SamplingJob(
        family="jukebox",
        config=model.config,
        weights={f"level_{level}": planned[f"level_{level}"] for level in range(3)},
        sampling=SamplingConfig(),
        hardware=HardwareConfig(device="cpu", dtype="float32"),
        store=str(tmp_path / "store"),
        policy=FlushPolicy(),
    )
    own = WeightsConfig(folder=str(tmp_path / "worker"))
    return job, WorkerContext(model=model, weights=own, devices=(), remote=True, resident_networks=1)


def elsewhere(job: SamplingJob, **changes: object) -> SamplingJob:
    """The job as it comes to a machine that lacks the planner's files."""
    gone = {role: replace(handle, uri="/gone", **changes) for role, handle in job.weights.items()}
    return replace(job, weights=gone)


def test_the_planners_file_is_used_where_it_is(job_and_place: tuple[SamplingJob, WorkerContext]) -> None:
    job, place = job_and_place
    assert local_weights(job, place, "level_1") is job.weights["level_1"]


def test_a_machine_without_the_planners_file_has_its_own(job_and_place: tuple[SamplingJob, WorkerContext]) -> None:
    job, place = job_and_place
    found = local_weights(elsewhere(job), place, "level_1")
    assert found.sha256 == job.weights["level_1"].sha256
    assert Path(found.uri).is_file()


def test_other_weights_are_refused(job_and_place: tuple[SamplingJob, WorkerContext]) -> None:
    job, place = job_and_place
    with pytest.raises(CheckpointError, match="not the file that the run was planned with"):
        local_weights(elsewhere(job, identity="0" * 64), place, "level_1")
