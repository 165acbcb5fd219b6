"""The flow that makes songs: fetch, label, encode, sample, decode, render.

The unit of work is the window. Every window of every song is planned, with its key, before the first one is sampled;
windows whose key is stored are reused, so the same command continues where it was stopped.
"""

from __future__ import annotations

import logging
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING, Any

from prefect import flow

from jukebox_core.base.structuring import build
from jukebox_core.errors import DamagedError
from jukebox_core.models.licence import acknowledgement
from jukebox_core.store.spooled import open_store
from pipelines.execution.execute import sample_plan
from pipelines.execution.outputs import write_outputs
from pipelines.execution.planning import needed_weights, plan_run, song_requests
from pipelines.execution.previews import Previews, drop_previews
from pipelines.orchestration import artifacts, tasks
from pipelines.orchestration.signals import stopping_on_signals
from pipelines.runs.folder import RunFolder
from pipelines.runs.takes import note_plan
from pipelines.runs.timings import Stopwatch
from pipelines.settings.generate import Settings
from stages import stopping

if TYPE_CHECKING:
    from collections.abc import Callable

log = logging.getLogger("jukebox")

REPAIRS = 3  # times that one run samples the same damaged window again before it gives up


@flow(name="generate", persist_result=False, validate_parameters=False)
def generate_flow(config: dict[str, Any], folder: str, live: bool = False) -> str:
    """Makes the songs that `config` describes, in the run folder `folder`; returns the folder.

    Args:
        config: the settings, resolved, as plain data.
        folder: the run's folder, as `pipelines.runs.folder.open_run` made it.
        live: show bars on stderr.

    Raises:
        StoppedError: a signal asked the process to stop; all that was sampled is stored.
    """
    with stopping_on_signals():
        make_songs(build(Settings, config), RunFolder(Path(folder)), live=live)
    return folder


def make_songs(settings: Settings, run: RunFolder, *, live: bool) -> None:
    """Makes a run's songs, from whatever is there already to the finished audio and report."""
    model, watch = settings.model, Stopwatch(run)
    with watch.time("fetch"):
        vocabularies = tasks.fetch_vocabularies(model.files, settings.weights)
        labels = tasks.label_songs(model.config, vocabularies, song_requests(settings))
        weights = tasks.fetch_weights(model.config, model.files, settings.weights, needed_weights(settings))
    plan = plan_run(settings, labels, weights)
    run.update(
        status="running",
        weights={role: handle.identity for role, handle in weights.items()},
        terms=acknowledgement(model.files, settings.weights),
    )
    note_plan(settings, run, plan.start, plan.takes)
    previews = Previews(settings, run, plan.takes, weights["vqvae"], watch.began)

    def make() -> None:
        with watch.time("encode"):
            for prompt in plan.prompts:
                tasks.encode_prompt(model.config, weights["vqvae"], settings.hardware, prompt, settings.storage.tokens)
        sample_plan(settings, plan, weights, watch, previews, live=live)
        open_store(settings.storage.tokens).flush()
        stopping.check_held()
        write_outputs(settings, run, plan.takes, weights, watch)

    repairing(make)
    drop_previews(run)
    artifacts.show_songs(run)


def repairing(make: Callable[[], None]) -> None:
    """Calls `make` again each time it meets damage: the store set the window aside, so that it is sampled anew.

    Raises:
        DamagedError: one window is damaged again and again.
    """
    met: Counter[str] = Counter()
    while True:
        try:
            make()
        except DamagedError as error:
            met[error.name] += 1
            if met[error.name] > REPAIRS:
                raise
            log.warning("%s: sampling that window again", error)
        else:
            return
