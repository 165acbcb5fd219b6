"""The flow that makes songs: fetch, encode, sample, decode, render.

The unit of work is the window. Every window of every song is planned, with its key, before the first one is sampled;
windows whose key is stored are reused, so the same command continues where it was stopped.
"""

from __future__ import annotations

import logging
from collections import Counter
from typing import TYPE_CHECKING, Any

from jukebox_core.errors import DamagedError
from jukebox_core.models.licence import acknowledgement
from jukebox_core.store.spooled import open_store
from pipelines.execution.execute import sample_plan
from pipelines.execution.outputs import RunOutputs
from pipelines.execution.previews import Previews, drop_previews
from pipelines.orchestration import artifacts
from pipelines.orchestration.flow_runs import how_of, run_flow
from pipelines.orchestration.signals import stopping_on_signals
from pipelines.orchestration.stage_calls import PLAIN
from pipelines.runs.contents import refuse_changed
from pipelines.runs.takes import note_plan
from pipelines.runs.timings import Stopwatch
from stages import stopping
from stages.resident import CodecSpec

if TYPE_CHECKING:
    from collections.abc import Callable

    from pipelines.execution.preflight import Prepared
    from pipelines.orchestration.flow_runs import How
    from pipelines.orchestration.stage_calls import Stages
    from pipelines.runs.folder import RunFolder
    from pipelines.settings.generate import Settings

log = logging.getLogger("jukebox")

REPAIRS = 3  # times that one run samples the same damaged window again before it gives up


def run_generate_flow(
    prepared: Prepared, run: RunFolder, config: dict[str, Any], *, live: bool, how: How | None = None
) -> None:
    """Makes a run's songs, recorded as a flow run of Prefect's.

    Args:
        prepared: the results of the checks before the run.
        run: the run's folder, as `pipelines.runs.folder.open_run` made it.
        config: the settings as plain data, for Prefect's pages.
        live: show bars on stderr.
        how: the stages are run; None: as a command runs them.

    Raises:
        StoppedError: a signal asked the process to stop; all that was sampled is stored.
    """
    settings = prepared.settings
    shown = {**config, "folder": str(run.path)}

    def work(stages: Stages) -> None:
        generate_songs(prepared, run, stages, live=live)

    run_flow("generate", shown, PLAIN, work, how or how_of(settings.runner), settings.storage.root)


def generate_songs(prepared: Prepared, run: RunFolder, stages: Stages, *, live: bool) -> None:
    """Makes a run's songs: resumes from the stored tokens and writes the final audio and report.

    Raises:
        StoppedError: a signal asked the process to stop; all that was sampled is stored.
    """
    with stopping_on_signals():
        _generate(prepared, run, stages, live=live)


def _generate(prepared: Prepared, run: RunFolder, stages: Stages, *, live: bool) -> None:
    settings, watch = prepared.settings, Stopwatch(run)
    with watch.time("fetch"):
        weights = stages.fetch_weights(settings.model, settings.weights, settings.roles)
        if prepared.plan is None or prepared.weights != weights:
            prepared = prepared.with_weights(weights)
    plan, contents = prepared.plan, prepared.contents
    assert plan is not None
    assert contents is not None
    refuse_changed(run.name, run.manifest(), contents)
    run.update(
        status="running",
        weights=dict(contents.weights),
        made_from=contents.made_from(),
        terms=acknowledgement(settings.model.files, settings.weights),
        filled_in=settings.filled_in,
    )
    for line in filled_in_lines(settings):
        log.info("%s", line)
    note_plan(settings, run, plan.start, plan.takes)
    codec = CodecSpec.of(settings.model, weights[settings.family.codec_role], settings.hardware)
    store = settings.storage.tokens
    previews = Previews(codec, store, settings.runner.preview_seconds, run, plan.takes, watch.began)
    outputs = RunOutputs.of(settings, run, codec, prepared.alignment, prepared.originals)

    def make() -> None:
        with watch.time("encode"):
            for prompt in plan.prompts:
                stages.encode_prompt(codec, prompt, store)
        sample_plan(prepared, stages, watch, previews, live=live)
        open_store(store).flush()
        stopping.check_held()
        outputs.write(plan.takes, stages, watch)

    repairing(make)
    drop_previews(run)
    artifacts.show_songs(run)


def filled_in_lines(settings: Settings) -> list[str]:
    """Returns a line for each field that the songs leave to the model, with their values."""
    model = settings.model
    usual = "none" if model.usual_seconds is None else f"{model.usual_seconds:g}"
    values: dict[str, dict[str, None]] = {}
    for filled in settings.filled_in:
        for name, value in filled.items():
            values.setdefault(name, {})[f"{value:g}" if isinstance(value, float) else str(value)] = None
    return [
        f"song     {name}={', '.join(found)}: usual_seconds of {model.name} is {usual}, the music ends at "
        f"{settings.seconds:g} s; song.{name} sets another"
        for name, found in values.items()
    ]


def repairing(make: Callable[[], None]) -> None:
    """Calls `make` again each time it meets damage: the store set the window aside, so that it is sampled again.

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
