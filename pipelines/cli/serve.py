"""``jukebox serve``: its options and overrides, checked before anything is started."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from pipelines.cli.typer_app import new_app, run_app
from pipelines.serving.credentials import refuse_credentials
from pipelines.serving.serve import Role, Serving, serve
from pipelines.settings.compose import GENERATE, compose

if TYPE_CHECKING:
    from collections.abc import Sequence

app = new_app("")


def run(arguments: Sequence[str]) -> None:
    """Runs ``jukebox serve`` with `arguments` until a signal stops it.

    Raises:
        ConfigError: as `parse`.
        RunError: as `pipelines.serving.serve.serve`.
    """
    serving = parse(arguments)
    if serving is not None:
        serve(serving)


def parse(arguments: Sequence[str]) -> Serving | None:
    """Returns the settings that `arguments` make; None if they ask for help, which is printed.

    Raises:
        ConfigError: an option or an override does not fit.
    """
    parsed: Serving | None = run_app(app, "serve", arguments)
    return parsed


@app.command(name="serve")
def _settings(
    overrides: Annotated[
        list[str] | None,
        typer.Argument(metavar="OVERRIDES", help="settings of every run, unless a request has its own"),
    ] = None,
    *,
    name: Annotated[str, typer.Option(help="of the deployment: jukebox/NAME")] = "songs",
    cron: Annotated[
        str | None, typer.Option(help="when to make songs, as in '0 3 * * *'; without it only on demand")
    ] = None,
    timezone: Annotated[str, typer.Option(help="of the cron expression")] = "UTC",
    host: Annotated[str, typer.Option(help="address of the server that is started")] = "127.0.0.1",
    port: Annotated[int, typer.Option(help="port of the server that is started")] = 4200,
    role: Annotated[
        Role,
        typer.Option(
            help="server: the deployment, with workers elsewhere; worker: one more worker of a running server"
        ),
    ] = "both",
    limit: Annotated[int, typer.Option(help="runs at a time, of all workers together; at least 1")] = 1,
) -> Serving:
    """Make songs on demand and by schedule: a deployment, a worker, and a server if none is running.

    On SIGTERM unfinished songs are stored and put back in the queue; the next start continues them.
    """
    given = tuple(overrides or ())
    refuse_credentials(given)
    return Serving(
        name=name,
        cron=cron,
        timezone=timezone,
        host=host,
        port=port,
        role=role,
        limit=limit,
        overrides=given,
        storage_root=compose(GENERATE, given).storage.root,
    )
