"""Everything that the routes of one server share: runs, queue, worker, events. Imports no torch."""

from __future__ import annotations

import threading
from contextlib import suppress
from typing import TYPE_CHECKING, Any

from jukebox_core.base.atomic import sweep
from jukebox_core.base.locks import FileLock
from jukebox_core.base.paths import output_folder
from jukebox_core.errors import ConfigError, JukeboxError, RunError
from pipelines.runs.removal import Contained, check_removable, drop_pin, idle, remove_folder
from pipelines.web.access import own_token
from pipelines.web.actions import Actions
from pipelines.web.hub import Hub
from pipelines.web.jobs.commands import Recent, packed
from pipelines.web.jobs.job import Job, command_line
from pipelines.web.jobs.queue import JobQueue
from pipelines.web.jobs.supervisor import Supervisor
from pipelines.web.marks import Marks
from pipelines.web.views.runs import RunLibrary
from pipelines.web.views.uploads import Uploads

if TYPE_CHECKING:
    from collections.abc import Sequence

    from pipelines.web.settings import WebSettings

FIRST_SONG = ("model=mini", "sampling=top_only")  # its models need no network, and little memory
PAUSE_SECONDS = 0.03  # at least, between two looks at the runs
WATCH_SECONDS = 0.5  # at most, as a shell changes runs too


class Site:
    """The state of one server, in its storage folder."""

    def __init__(self, settings: WebSettings) -> None:
        """Opens the storage folder.

        Raises:
            ConfigError: it cannot be made.
            RunError: another `jukebox web` serves it.
        """
        self.settings, folder = settings, settings.folder
        output_folder(settings.storage_root)
        try:
            folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        except OSError as error:
            raise ConfigError(f"cannot make {folder} ({error.strerror}); choose another storage.root") from None
        self._lock = FileLock(folder / "lock")
        if not self._lock.acquire():
            raise RunError(f"another `jukebox web` serves {settings.root}; use its page, or another storage.root")
        sweep(folder)
        self.token = own_token(folder)
        self.hub, self.marks = Hub(), Marks(folder)
        self.runs = RunLibrary(settings.root, self.marks)
        self.uploads, self.cache = Uploads(folder / "prompts"), folder / "cache"
        self.notes = folder / "notes"
        self.queue = JobQueue(folder, lambda job: self.hub.publish("job", job.shown()))
        self._first_song = ("generate", *settings.overrides, *FIRST_SONG)
        self.supervisor = Supervisor(self.queue, folder, self._heard, self._first_song)
        self._recent = Recent()
        self.actions = Actions(settings, self.runs, self.uploads)
        self._closing, self._look = threading.Event(), threading.Event()
        self._watcher = threading.Thread(target=self._watch, name="watcher", daemon=True)

    def start(self) -> None:
        """Starts the worker, and the thread that looks for runs of the shell."""
        self.supervisor.start()
        threading.Thread(target=self._prepare, name="prepare", daemon=True).start()
        self._watcher.start()

    def close(self) -> None:
        """Ends the worker in order; the job that runs waits for the next start."""
        self._closing.set()
        self._look.set()
        self.hub.close()
        self.supervisor.close()
        self._lock.release()

    def submit(self, arguments: Sequence[str], title: str, *, check: bool = False) -> dict[str, Any]:
        """Checks a command as the command line does, and puts it into the queue.

        Args:
            arguments: the words after ``jukebox``.
            title: of the job.
            check: only check.

        Returns:
            The command, the run that it makes, an estimate of its memory, whether nothing is left to do, and the job.

        Raises:
            JukeboxError: a check refuses the command.
        """
        command = self._recent.composed(arguments)
        found: dict[str, Any] = {"command": command_line(arguments), "run": None, "memory_bytes": None, "job": None}
        found["finished"] = False
        if command.makes_run:
            found |= _prepared(command.run_settings(), resume=command.command == "resume")
        if check or found["finished"]:
            return found
        job = self.queue.add(Job.new(arguments, run=found["run"], title=title, memory_bytes=found["memory_bytes"]))
        if command.command == "generate":
            self.supervisor.know(job, packed(command))
        self.supervisor.wake()
        return found | {"job": job.shown()}

    def remove(self, name: str) -> None:
        """Removes a run's folder, as `jukebox runs rm` does; the takes that go on from it stay complete.

        Raises:
            RunError: it is being made, or is no run.
        """
        run = self.runs.folder(name)
        check_removable(run)
        if self.queue.of_run(name) is not None:
            raise RunError(f"run {name} is in the queue or running; stop it first")
        with idle(run):
            drop_pin(run)
            remove_folder(run, Contained.of(run.path))
        self.marks.forget(name)
        self.hub.publish("runs", {"changed": [], "removed": [name]})

    def job_shown(self, job: Job) -> dict[str, Any]:
        """Returns a job as the API has it, with its progress."""
        levels = self.supervisor.progress.get(job.id, {})
        left = sum(each["left"] / each["rate"] for each in levels.values() if each["rate"] > 0)
        known = bool(levels) and all(each["rate"] > 0 or not each["left"] for each in levels.values())
        return job.shown() | {"levels": levels, "seconds_left": round(left, 1) if known else None}

    def _prepare(self) -> None:
        """Does what the first song and the first page would wait for: imports, files of settings, manifests."""
        with suppress(JukeboxError, OSError):
            self.runs.all()
            self._recent.composed(self._first_song)
            from pipelines.execution import preflight  # noqa: F401

    def _heard(self, report: dict[str, Any]) -> None:
        if "progress" in report:
            job = self.queue.get(report["progress"])
            if job is not None:
                self.hub.publish("progress", self.job_shown(job))
        else:
            self.hub.publish("log", {"job": report.get("job"), "line": report["log"]})
            self._look.set()  # it may say that something can be heard

    def _watch(self) -> None:
        """Reports to browsers which runs have changed, by the page or by a shell."""
        before = self.runs.stamps()
        while not self._closing.wait(PAUSE_SECONDS):
            self._look.wait(WATCH_SECONDS)
            self._look.clear()
            now = self.runs.stamps()
            changed = [name for name, stamp in now.items() if before.get(name, ...) != stamp]
            removed = [name for name in before if name not in now]
            before = now
            if changed or removed:
                with suppress(JukeboxError, OSError):
                    self.hub.publish("runs", {"changed": changed[:100], "removed": removed[:100]})


def _prepared(settings: Any, *, resume: bool) -> dict[str, Any]:
    """Returns what the checks before a run find: its name, whether it is finished, and an estimate of its memory."""
    from pipelines.execution import preflight
    from pipelines.runs import choice
    from pipelines.runs.folder import run_path
    from pipelines.settings.hardware import sampling_memory

    prepared = preflight.prepare(choice.first_part(settings), resume=resume)
    made = prepared.settings
    return {
        "run": run_path(made).name,
        "memory_bytes": sampling_memory(made).bytes(made.hardware.dtype, made.sampling.n_samples),
        "finished": preflight.finished(prepared) is not None,
    }
