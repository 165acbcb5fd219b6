"""``jukebox web``: its options and overrides, checked before anything is started."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from pipelines.cli.typer_app import new_app, run_app
from pipelines.serving.credentials import refuse_credentials
from pipelines.settings.compose import GENERATE, compose
from pipelines.web.serve import serve
from pipelines.web.settings import PORT, WebSettings

if TYPE_CHECKING:
    from collections.abc import Sequence

app = new_app("")


def run(arguments: Sequence[str]) -> None:
    """Runs ``jukebox web`` with `arguments` until a signal stops it.

    Raises:
        ConfigError: as `parse`.
        RunError: as `pipelines.web.serve.serve`.
    """
    settings = parse(arguments)
    if settings is not None:
        serve(settings)


def parse(arguments: Sequence[str]) -> WebSettings | None:
    """Returns the settings that `arguments` make; None if they ask for help, which is printed.

    Raises:
        ConfigError: an option or an override does not fit.
    """
    parsed: WebSettings | None = run_app(app, "web", arguments)
    return parsed


@app.command(name="web")
def _settings(
    overrides: Annotated[
        list[str] | None,
        typer.Argument(metavar="OVERRIDES", help="settings of every command, as in storage.root=songs hardware=cuda"),
    ] = None,
    *,
    host: Annotated[str, typer.Option(help="address to listen at; beyond this machine a token is asked for")] = (
        "127.0.0.1"
    ),
    port: Annotated[int, typer.Option(help="port to listen at; 0: any free one")] = PORT,
    token: Annotated[bool, typer.Option("--token", help="ask for the token on this machine too")] = False,
) -> WebSettings:
    """Make songs on a page: listen, choose, go on with other words, cut, finish.

    Runs are those of the command line, in the same folder; every action shows its command.
    """
    given = tuple(overrides or ())
    refuse_credentials(given)
    root = compose(GENERATE, given).storage.root
    return WebSettings(host=host, port=port, token=token, overrides=given, storage_root=root)
