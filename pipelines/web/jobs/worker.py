"""The process that runs jobs, one after the other: it stays, and its models stay loaded.

It reads orders, a line of JSON each, from stdin, and writes reports, a line each, to a pipe:

    {"do": ID, "arguments": [...], "packed": the composed command, or null}   {"stop": ID}   {"warm": [...]}
    {"ready": PID}   {"began": ID}   {"progress": ID, ...}   {"log": LINE}   {"ended": ID, "status": ..., "error": ...}

It ends when stdin does: a job is stopped then, as by SIGTERM, and its tokens are stored.

    python -m pipelines.web.jobs.worker DESCRIPTOR LOG
"""

from __future__ import annotations

import json
import logging
import os
import signal
import sys
import threading
from contextlib import suppress
from pathlib import Path
from queue import SimpleQueue
from typing import Any

from jukebox_core.base.waiting import share_cores
from jukebox_core.errors import JukeboxError
from pipelines.exit_status import INTERRUPTED, exit_status
from pipelines.orchestration.server_process import BoundedLog
from pipelines.orchestration.signals import stopping_on_signals

log = logging.getLogger("jukebox")

REPORT_SECONDS = 0.25  # between two reports of progress
HELD_SHARE = 0.25  # of the free memory that networks of all levels may take; then all of them stay loaded
END_SECONDS = 30.0  # that a job has to store what it made, after the process was asked to end


def main() -> None:
    """Runs jobs until stdin ends."""
    descriptor, path = sys.argv[1:]
    sys.stdout = sys.stderr = BoundedLog(Path(path))
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # a terminal's Ctrl-C is for the parent, which ends this process
    signal.signal(signal.SIGTERM, signal.SIG_IGN)  # outside a job
    share_cores()
    worker = Worker(os.fdopen(int(descriptor), "w", encoding="utf-8", buffering=1))
    threading.Thread(target=worker.read_orders, name="orders", daemon=True).start()
    worker.warm_up()
    worker.work()


class Worker:
    """The worker; the main thread works, another one reads orders, a third one reports progress."""

    def __init__(self, reports: Any) -> None:
        self._reports, self._orders = reports, SimpleQueue[dict[str, Any] | None]()
        self._lock = threading.Lock()
        self._current: str | None = None  # the job that may be stopped
        self._unwanted: set[str] = set()  # jobs that are to stop, perhaps before they have begun

    def report(self, **content: Any) -> None:
        """Writes one report; a parent that has ended is ignored."""
        with self._lock, suppress(OSError, ValueError):
            self._reports.write(json.dumps(content) + "\n")

    def read_orders(self) -> None:
        """Reads orders until stdin ends, then stops the job and ends the process."""
        with suppress(ValueError):  # the last line, where the parent was killed while it wrote
            for line in sys.stdin:
                order = json.loads(line)
                if "stop" in order:
                    self._stop(order["stop"])
                else:
                    self._orders.put(order)
        self._orders.put(None)
        self._stop(self._current)
        timer = threading.Timer(END_SECONDS, os._exit, (1,))
        timer.daemon = True
        timer.start()

    def warm_up(self) -> None:
        """Imports what every job needs, which takes seconds, and says that the worker is ready."""
        import pipelines.flows.generate  # noqa: F401
        import stages.sampling.sample
        import stages.sound.decode  # noqa: F401

        handler = _Forwarder(self)
        handler.setFormatter(logging.Formatter("%(message)s"))
        log.addHandler(handler)
        threading.Thread(target=self._report_progress, name="progress", daemon=True).start()
        self.report(ready=os.getpid())

    def work(self) -> None:
        """Does orders until there are no more."""
        while (order := self._orders.get()) is not None:
            if "warm" in order:
                _load_models(order["warm"])
                continue
            status, error = self._do(order["do"], order["arguments"], order.get("packed"))
            self.report(ended=order["do"], status=status, error=error)

    def _do(self, identifier: str, arguments: list[str], packed: str | None = None) -> tuple[str, str]:
        """Runs a job; returns its status, and the message of its error."""
        from pipelines.web.jobs.commands import composed, unpacked

        try:
            with stopping_on_signals():
                self._current = identifier
                self.report(began=identifier)
                try:
                    if identifier in self._unwanted:  # asked for since, or before this thread took the order
                        raise KeyboardInterrupt
                    command = composed(arguments) if packed is None else unpacked(packed)
                    if command.makes_run:
                        _hold_networks(command.run_settings())
                    command.work()
                finally:
                    self._current = None
        except (JukeboxError, KeyboardInterrupt) as error:
            if exit_status(error) == INTERRUPTED:
                return "stopped", ""
            return "failed", str(error)
        except Exception as error:
            log.exception("job %s", identifier)
            return "failed", f"{type(error).__name__}: {error}; see worker.log"
        finally:
            self._unwanted.discard(identifier)
        return "finished", ""

    def _stop(self, identifier: str | None) -> None:
        """Stops a job as SIGTERM stops a command: the one that runs, or one that is about to."""
        if identifier is None:
            return
        self._unwanted.add(identifier)  # before the look, as `_do` sets the job before it looks here
        if identifier == self._current:
            os.kill(os.getpid(), signal.SIGTERM)

    def _report_progress(self) -> None:
        from stages.progress import meter

        before: object = None
        while True:
            threading.Event().wait(REPORT_SECONDS)
            now, current = meter(), self._current
            if current is None or not now.tokens:
                continue
            levels = {
                level: {"done": now.tokens.get(level, 0), "left": now.left.get(level, 0), "rate": now.rate(level)}
                for level in sorted(now.left, reverse=True)
            }
            if (current, levels) != before:
                before = (current, levels)
                self.report(progress=current, levels=levels)


class _Forwarder(logging.Handler):
    """Reports the lines of the program's log."""

    def __init__(self, worker: Worker) -> None:
        super().__init__(logging.INFO)
        self._worker = worker

    def emit(self, record: logging.LogRecord) -> None:
        """Reports one line."""
        self._worker.report(log=self.format(record)[:1000], job=self._worker._current)


def _load_models(arguments: list[str]) -> None:
    """Loads the networks that a command begins with, so that the first song need not wait for them."""
    from pipelines.web.jobs.commands import composed
    from stages.fetch import fetch_checked_weights
    from stages.resident import CodecSpec, NetworkSpec

    try:
        settings = composed(arguments).run_settings()
        _hold_networks(settings)
        model, family, hardware = settings.model, settings.family, settings.hardware
        weights, role = fetch_checked_weights(model, settings.weights, settings.roles), family.role_of(model.config.top)
        library = settings.weights.prepared_home
        CodecSpec.of(model, weights[family.codec_role], hardware).open().decode_reach(model.config.top)
        NetworkSpec(
            family=family.name,
            config=model.config,
            role=role,
            weights={each: weights[each] for each in family.files_of(role)},
            hardware=hardware,
            library=None if library is None else str(library),
        ).open()
    except (JukeboxError, OSError) as error:  # the first song says so, to who asked for it
        log.warning("%s is not loaded yet: %s", arguments[1:], error)


def _hold_networks(settings: Any) -> None:
    """Lets the networks of all levels stay loaded where they are small for this machine."""
    from dataclasses import replace

    from jukebox_core.runtime.device import free_memory, resolve_device
    from pipelines.settings.hardware import sampling_memory
    from stages import resident

    whole = replace(sampling_memory(settings), levels=range(settings.config.top + 1), together=True)
    needed = whole.bytes(settings.hardware.dtype, settings.sampling.n_samples)
    free = free_memory(resolve_device(settings.hardware.device))
    resident.keep_at_least(settings.config.top + 1 if needed < HELD_SHARE * free else 1)


if __name__ == "__main__":
    main()
