"""The flow that deployments run: a request comes in, songs come out; a choice in between suspends it.

Deployments name it ``pipelines.serving.deploy.generate`` (prefect.yaml, ``jukebox serve``). It does what the command
line does, so a run that was interrupted goes on from its stored tokens, whoever starts it again.
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
from pipelines import commands as work
from pipelines.console import tell_failures_once
from pipelines.orchestration import artifacts, reconcile, signals
from pipelines.runs import choice
from pipelines.settings.compose import GENERATE, compose
from pipelines.settings.generate import Settings
from stages.stopping import StoppedError

if TYPE_CHECKING:
    from prefect.client.schemas.objects import FlowRun

    from pipelines.runs.folder import RunFolder

log = logging.getLogger("jukebox")

GIVE_BACK_SECONDS = 2  # a stopped run waits so long for a worker: not the one that is just leaving


def _override_pattern() -> str:
    """Returns what an override looks like: a setting or a group that exists, and a value.

    A server knows no more than a parameter's JSON schema; this much of the settings fits into it. Values are checked
    when the run starts.
    """
    names = []
    for name, kind in field_types(Settings).items():
        record = None if get_origin(kind) is tuple else record_in(kind)
        inner = "|".join(re.escape(field.name) for field in fields(record)) if record else r"\d+"
        names.append(rf"{name}(\.({inner})(\.[^=]*)?)?")
    known = "|".join([*names, "experiment", r"hydra\.searchpath"])
    return rf"^(?=~|[^=]*=)(~|\+{{0,2}})({known})(@[^=]*)?(=[\s\S]*)?$"


Override = Annotated[str, WithJsonSchema({"type": "string", "pattern": _override_pattern()})]


class GenerateRequest(BaseModel):
    """What to make, in the words of the command line."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    overrides: list[Override] = Field(
        default=[],
        description="settings as on the command line, one an entry: experiment=demo, seconds=30, song.genre=jazz",
    )
    new_seed: bool = Field(
        default=False,
        description="give each run a seed of its own, so that every night makes new songs; "
        "without it the same request is made once and then found",
    )

    @field_validator("overrides")
    @classmethod
    def _must_compose(cls, overrides: list[str]) -> list[str]:
        try:
            compose(GENERATE, overrides)
        except ConfigError as error:
            raise PydanticCustomError("settings", "{message}", {"message": str(error)}) from None
        return overrides

    def settings(self, run: FlowRun) -> Settings:
        """Returns the settings of one flow run: the same ones each time that run is taken up."""
        settings = compose(GENERATE, self.overrides)
        if not self.new_seed:
            return settings
        return replace(settings, sampling=replace(settings.sampling, seed=run.id.int % 2**31))


class ChoiceInput(RunInput):
    """What a suspended run waits for. The bounds are set for each run."""

    model_config = ConfigDict(extra="forbid")

    sample: int | None = None
    keep_seconds: float | None = None


@flow(name="jukebox", persist_result=False)
def generate(request: GenerateRequest) -> str:
    """Makes songs, and suspends itself for each choice that ``choose.after_level`` asks for; returns the run's folder.

    SIGTERM and SIGINT store the tokens and put the run back in the queue: the next worker goes on with it.
    """
    run = _this_run()
    signals.listen()  # to the process's end: a worker that is stopped too asks a second time
    tell_failures_once()
    try:
        return _songs(request.settings(run), run)
    except StoppedError as stopped:
        signals.hush()
        raise _given_back(run) from stopped
    except JukeboxError as error:
        log.error("%s", error)  # noqa: TRY400 - the message says all; Prefect's page shows it with the run's lines
        raise
    except Exception:
        log.exception("the run failed")
        raise


def _songs(settings: Settings, run: FlowRun) -> str:
    """Makes songs, choice after choice; returns the last run's folder."""
    asked = 0
    with get_client(sync_client=True) as client:
        reconcile.claim(client, run)
    while True:
        made = work.make(choice.first_part(settings), in_flow=True)
        if choice.first_part(settings) == settings:
            return str(made.path)
        asked += 1
        settings = choice.after(settings, made, _choice(run, settings, made, asked))


def _choice(run: FlowRun, settings: Settings, made: RunFolder, number: int) -> choice.Choice:
    """Returns what somebody chose; suspends the run, and so does not return, where nobody did yet."""
    last = settings.sampling.n_samples - 1
    bounded = create_model(
        "Choice",
        __base__=ChoiceInput,
        sample=(int | None, Field(None, ge=0, le=last, description=f"go on with this sample, 0 to {last}; none: all")),
        keep_seconds=(
            float | None,
            Field(
                None,
                gt=0,
                lt=settings.seconds,
                description="cut there and sample on from there, then choose again; none: go on to the lower levels",
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
        artifacts.ask(f"{artifacts.songs_markdown(made)}\n\n{how}\n")
    given = suspend_flow_run(wait_for_input=bounded.with_initial_data(description=how), key=key)
    return choice.Choice(sample=given.sample, keep_seconds=given.keep_seconds)


def _this_run() -> FlowRun:
    context = FlowRunContext.get()
    assert context is not None, "this is called by Prefect only"
    assert context.flow_run is not None, "this is called by Prefect only"
    return context.flow_run


def _given_back(run: FlowRun) -> Pause:
    """Puts a stopped run back in the queue, unless somebody cancelled it; returns what leaves the flow."""
    with get_client(sync_client=True) as client:
        state = client.read_flow_run(run.id).state
        if state is not None and not state.is_cancelling():
            soon = datetime.now(UTC) + timedelta(seconds=GIVE_BACK_SECONDS)
            state = AwaitingRetry(scheduled_time=soon, message="stopped as asked; goes on from its stored tokens")
            client.set_flow_run_state(run.id, state, force=True)
    return Pause(state=state)
