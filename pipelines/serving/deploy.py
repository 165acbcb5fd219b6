"""The flow that deployments run: it makes the songs of a request, and is suspended for each choice in between.

Deployments name it ``pipelines.serving.deploy.generate`` (prefect.yaml, ``jukebox serve``). It does the same as
the command line, so an interrupted run continues from its stored tokens, on any worker.
"""

from __future__ import annotations

import json
import logging
import os
import re
from dataclasses import fields, replace
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Annotated, get_origin

from prefect import flow
from prefect.client.orchestration import get_client
from prefect.context import FlowRunContext
from prefect.exceptions import Pause
from prefect.flow_runs import suspend_flow_run
from prefect.input import RunInput
from prefect.states import AwaitingRetry
from pydantic import BaseModel, ConfigDict, Field, WithJsonSchema, create_model, field_validator
from pydantic_core import PydanticCustomError

from jukebox_core.base.structuring import field_types, record_in
from jukebox_core.errors import ConfigError, JukeboxError
from jukebox_core.family import family_names
from pipelines import commands as work
from pipelines.console import hide_prefect_errors
from pipelines.orchestration import artifacts, reconcile, recorder, signals
from pipelines.runs import choice
from pipelines.serving.credentials import CREDENTIALS, refuse_credentials
from pipelines.settings.compose import GENERATE, compose
from pipelines.settings.generate import Settings
from stages.stopping import StoppedError

if TYPE_CHECKING:
    from prefect.client.schemas.objects import FlowRun

    from pipelines.runs.folder import RunFolder

log = logging.getLogger("jukebox")

DRAIN_SECONDS = 10.0  # that a finished run waits at most until its artifacts are published
REQUEUE_SECONDS = 2  # until a stopped run is offered to workers: not to the one that is ending now


def _override_pattern() -> str:
    """Returns a regular expression of overrides: an existing setting or group, and any value without credentials.

    A Prefect server validates parameters by their JSON schema only, and a pattern is all that fits into it. Values are
    validated when the run starts.
    """
    inner: dict[str, set[str]] = {}
    for family in family_names():  # some sections hold what the model's family decides
        try:
            kinds = field_types(Settings, {"model": {"family": family}})
        except ConfigError:  # a family that makes no songs
            continue
        for name, kind in kinds.items():
            record = None if get_origin(kind) is tuple else record_in(kind)
            known = {re.escape(field.name) for field in fields(record)} if record else {r"\d+"}
            inner.setdefault(name, set()).update(known)
    names = [rf"{name}(\.({'|'.join(sorted(known))})(\.[^=]*)?)?" for name, known in inner.items()]
    roots = "|".join([*names, "experiment", r"hydra\.searchpath"])
    return rf"^(?!{CREDENTIALS})(?=~|[^=]*=)(~|\+{{0,2}})({roots})(@[^=]*)?(=[\s\S]*)?$"


Override = Annotated[str, WithJsonSchema({"type": "string", "pattern": _override_pattern()})]


class GenerateRequest(BaseModel):
    """The songs to make, as overrides of the command line."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    overrides: list[Override] = Field(
        default=[],
        description="settings as on the command line, one per entry: experiment=demo, seconds=30, song.genre=jazz",
    )
    new_seed: bool = Field(
        default=False,
        description="give each run its own seed, so that a schedule makes new songs each time; "
        "without it the second run of the same request finds the songs of the first",
    )

    @field_validator("overrides")
    @classmethod
    def _must_compose(cls, overrides: list[str]) -> list[str]:
        try:
            refuse_credentials(overrides)
            compose(GENERATE, overrides)
        except ConfigError as error:
            raise PydanticCustomError("settings", "{message}", {"message": str(error)}) from None
        return overrides

    def settings(self, run: FlowRun) -> Settings:
        """Returns the settings of one flow run; the same ones each time that run is resumed."""
        settings = compose(GENERATE, self.overrides)
        if not self.new_seed:
            return settings
        return replace(settings, sampling=replace(settings.sampling, seed=run.id.int % 2**31))


class ChoiceInput(RunInput):
    """The input that a suspended run waits for. Its bounds are set for each run."""

    model_config = ConfigDict(extra="forbid")

    sample: int | None = None
    keep_seconds: float | None = None


@flow(name="jukebox", persist_result=False)
def generate(request: GenerateRequest) -> str:
    """Makes songs, and suspends itself for each choice that ``choose.after_level`` asks for; returns the run's folder.

    SIGTERM and SIGINT store the tokens and put the run back in the queue: the next worker resumes it.
    """
    run = _this_run()
    signals.install_handlers()  # until the process ends: a worker that is stopped too sends a second signal
    hide_prefect_errors()
    try:
        return _songs(request.settings(run), run)
    except StoppedError as stopped:
        signals.ignore_further_signals()
        raise _requeued(run) from stopped
    except JukeboxError as error:
        log.error("%s", error)  # noqa: TRY400 - the message is complete; Prefect's page shows it in the log of the run
        raise
    except Exception:
        log.exception("the run failed")
        raise


def _songs(settings: Settings, run: FlowRun) -> str:
    """Makes songs, choice after choice; returns the last run's folder."""
    choices = 0
    with get_client(sync_client=True) as client:
        reconcile.claim(client, run)
    while True:
        made = work.make(choice.first_part(settings), how="in_flow")
        if choice.first_part(settings) == settings:
            recorder.drain(DRAIN_SECONDS)
            return str(made.path)
        choices += 1
        settings = choice.after(settings, made, _choice(run, settings, made, choices))


def _choice(run: FlowRun, settings: Settings, made: RunFolder, number: int) -> choice.Choice:
    """Returns the choice that was made; if none was made yet, suspends the flow run instead of returning."""
    last = settings.sampling.n_samples - 1
    bounded = create_model(
        "Choice",
        __base__=ChoiceInput,
        sample=(
            int | None,
            Field(None, ge=0, le=last, description=f"continue with this sample, 0 to {last}; none: all"),
        ),
        keep_seconds=(
            float | None,
            Field(
                None,
                gt=0,
                lt=settings.seconds,
                description="cut there and sample again from there, choose again; none: continue with the lower levels",
            ),
        ),
    )
    example = {"sample": last, "keep_seconds": None}
    address = f"{os.environ.get('PREFECT_API_URL', '')}/flow_runs/{run.id}/resume"
    how = (
        f"Listen to run {made.name}, then choose: press Resume on this page, or send "
        f"`{json.dumps({'run_input': example})}` to `POST {address}`"
    )
    key = f"choice-{number}"
    if key not in (run.empirical_policy.pause_keys or ()):
        artifacts.show_question(f"{artifacts.songs_markdown(made)}\n\n{how}\n")
    given = suspend_flow_run(wait_for_input=bounded.with_initial_data(description=how), key=key)
    return choice.Choice(sample=given.sample, keep_seconds=given.keep_seconds)


def _this_run() -> FlowRun:
    context = FlowRunContext.get()
    assert context is not None, "only Prefect calls this flow"
    assert context.flow_run is not None, "only Prefect calls this flow"
    return context.flow_run


def _requeued(run: FlowRun) -> Pause:
    """Puts a stopped run back in the queue, unless it was cancelled; returns the exception that ends the flow run."""
    with get_client(sync_client=True) as client:
        state = client.read_flow_run(run.id).state
        if state is not None and not state.is_cancelling():
            soon = datetime.now(UTC) + timedelta(seconds=REQUEUE_SECONDS)
            state = AwaitingRetry(scheduled_time=soon, message="stopped on request; continues from its stored tokens")
            client.set_flow_run_state(run.id, state, force=True)
    return Pause(state=state)
