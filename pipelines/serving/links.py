"""The server of run folders that links in Prefect's pages open: audio, pictures and reports, and nothing else.

Its address contains a secret, so that only those who may read the pages can read the files: a browser sends no password
of Prefect's pages with a link or a picture. Byte ranges are answered, so that a browser can seek in a long song.
"""

from __future__ import annotations

import secrets
import threading
from contextlib import contextmanager
from typing import TYPE_CHECKING

from starlette.applications import Starlette
from starlette.routing import Mount
from starlette.staticfiles import StaticFiles
from uvicorn import Config, Server

from jukebox_core.base.paths import user_path
from pipelines.orchestration import own_server
from pipelines.orchestration.guard import Guard

if TYPE_CHECKING:
    import os
    from collections.abc import Iterator
    from pathlib import Path

    from starlette.responses import Response
    from starlette.staticfiles import PathLike
    from starlette.types import ASGIApp, Scope

    from pipelines.serving.serve import Serving

_HEADERS = {
    "Referrer-Policy": "no-referrer",  # the address is secret
    "X-Content-Type-Options": "nosniff",
    "Cross-Origin-Resource-Policy": "same-site",  # Prefect's pages are at another port
}


@contextmanager
def run_file_server(serving: Serving) -> Iterator[str]:
    """Serves the run folders by HTTP, at the host of `serving` and a free port; yields the address, with its secret.

    Raises:
        RunError: the address cannot be used.
    """
    root, host = user_path(serving.storage_root).absolute(), serving.host
    listening, secret = own_server.listen(host, 0), secrets.token_urlsafe(24)
    server = Server(Config(_application(root, host, secret), log_config=None, lifespan="off", access_log=False))
    thread = threading.Thread(target=server.run, kwargs={"sockets": [listening]}, name="links", daemon=True)
    thread.start()
    try:
        yield f"{own_server.address_of(listening, host).removesuffix('/api')}/{secret}"
    finally:
        server.should_exit = server.force_exit = True
        thread.join(5)
        listening.close()


def _application(root: Path, host: str, secret: str) -> ASGIApp:
    """Returns the application: GET and HEAD of files of runs below ``/<secret>/``, status 404 for all else."""
    return Guard(Starlette(routes=[Mount(f"/{secret}", _RunFiles(directory=root, check_dir=False))]), host)


class _RunFiles(StaticFiles):
    """The files of runs: no hidden folders (stores, databases), and none outside, to which a link may point."""

    def lookup_path(self, path: str) -> tuple[str, os.stat_result | None]:
        if any(part.startswith(".") for part in path.split("/")):
            return "", None
        return super().lookup_path(path)

    def file_response(
        self, full_path: PathLike, stat_result: os.stat_result, scope: Scope, status_code: int = 200
    ) -> Response:
        response = super().file_response(full_path, stat_result, scope, status_code)
        response.headers.update(_HEADERS)
        return response
