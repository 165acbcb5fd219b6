"""``jukebox web``: serves the pages and the API until a signal stops it, and keeps the process that samples."""

from __future__ import annotations

import signal
import sys
import threading
from typing import TYPE_CHECKING

from pipelines.exit_status import working
from pipelines.orchestration import own_server

if TYPE_CHECKING:
    from types import FrameType

    from pipelines.web.settings import WebSettings

GRACE_SECONDS = 1  # that answers have to end
MOST_REQUESTS = 400  # at a time, clients that listen included


def serve(settings: WebSettings) -> None:
    """Serves until a signal; jobs that are not over wait for the next start.

    Raises:
        ConfigError: the storage folder cannot be made.
        RunError: another `jukebox web` serves it, or the address cannot be used.
    """
    from uvicorn import Config, Server

    from pipelines.web.application import application
    from pipelines.web.site import Site

    site = Site(settings)
    with own_server.listen(settings.host, settings.port) as listening, working():
        site.start()
        config = Config(
            application(site),
            log_config=None,
            access_log=False,
            server_header=False,
            lifespan="off",
            proxy_headers=False,
            limit_concurrency=MOST_REQUESTS,
            timeout_graceful_shutdown=GRACE_SECONDS,
        )
        server, stopped = Server(config), threading.Event()
        _print_address(settings, own_server.address_of(listening, settings.host).removesuffix("/api"), site.token)

        def stop(_number: int, _frame: FrameType | None) -> None:
            stopped.set()

        before = {number: signal.signal(number, stop) for number in (signal.SIGTERM, signal.SIGINT)}
        thread = threading.Thread(target=server.run, kwargs={"sockets": [listening]}, name="web", daemon=True)
        thread.start()
        try:
            stopped.wait()
        finally:
            print("jukebox: stopping; what was sampled is stored", file=sys.stderr, flush=True)  # noqa: T201
            site.hub.close()
            server.should_exit = True
            thread.join(GRACE_SECONDS + 5)
            site.close()
            for number, handler in before.items():
                signal.signal(number, handler)


def _print_address(settings: WebSettings, address: str, token: str) -> None:
    path = f"/enter?token={token}" if settings.asks_for_token else "/"
    print(f"jukebox: open {address}{path}", file=sys.stderr, flush=True)  # noqa: T201 - for the user
    if settings.asks_for_token:
        line = "the address has the token that lets in; across a network use a tunnel (ssh -L) or TLS in front"
        print(f"jukebox: {line}", file=sys.stderr, flush=True)  # noqa: T201
