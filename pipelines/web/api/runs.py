"""``/api/runs`` and ``/api/songs``: runs, and everything that makes one.

Each request that makes something takes ``?check=true``, which only checks it: the answer has the command, the run's
name and an estimate of the memory.
"""

from __future__ import annotations

import zipfile
from pathlib import Path
from typing import Any

from fastapi import APIRouter, BackgroundTasks
from fastapi.responses import FileResponse

from jukebox_core.base.atomic import locked_temporary
from pipelines.runs.removal import Contained
from pipelines.web import requests
from pipelines.web.problems import NotFoundError
from pipelines.web.site import Site


def router(site: Site) -> APIRouter:
    """Returns the routes."""
    routes = APIRouter(tags=["runs"])
    _read(routes, site)
    _make(routes, site)
    return routes


def _read(routes: APIRouter, site: Site) -> None:
    @routes.get("/runs")
    def runs() -> dict[str, Any]:
        """Every run with its takes, oldest first."""
        return {"runs": site.runs.all()}

    @routes.get("/runs/{run}")
    def one(run: str) -> dict[str, Any]:
        """One run with its takes."""
        return site.runs.one(run)

    @routes.get("/runs/{run}/zip")
    def whole(run: str, background: BackgroundTasks) -> FileResponse:
        """The whole run: every file that it made."""
        path = _zipped(site, run)
        background.add_task(path.unlink, missing_ok=True)
        return FileResponse(path, media_type="application/zip", filename=f"{run}.zip")

    @routes.delete("/runs/{run}", status_code=204)
    def remove(run: str) -> None:
        """Removes a run's folder; takes that go on from it stay complete."""
        site.remove(run)


def _make(routes: APIRouter, site: Site) -> None:
    actions = site.actions

    @routes.post("/songs")
    def new_song(request: requests.NewSong, check: bool = False) -> dict[str, Any]:
        """Makes a new song."""
        return site.submit(actions.new_song(request), "new song", check=check)

    @routes.post("/runs/{run}/continue")
    def go_on(run: str, request: requests.Continue, check: bool = False) -> dict[str, Any]:
        """Goes on from a run: longer, from an earlier moment, or with other words."""
        return site.submit(actions.continue_(run, request), f"go on from {run}", check=check)

    @routes.post("/runs/{run}/splice")
    def splice(run: str, request: requests.Splice, check: bool = False) -> dict[str, Any]:
        """Goes on from a run with ranges of other takes."""
        return site.submit(actions.splice(run, request), f"splice into {run}", check=check)

    @routes.post("/runs/{run}/choose")
    def choose(run: str, request: requests.Choose, check: bool = False) -> dict[str, Any]:
        """Spreads one take over several songs that go on from it."""
        return site.submit(actions.choose(run, request), f"choose from {run}", check=check)

    @routes.post("/runs/{run}/upsample")
    def upsample(run: str, request: requests.Upsample, check: bool = False) -> dict[str, Any]:
        """Samples the lower levels."""
        return site.submit(actions.upsample(run, request), f"upsample {run}", check=check)

    @routes.post("/runs/{run}/resume")
    def resume(run: str, check: bool = False) -> dict[str, Any]:
        """Resumes a run that was stopped."""
        return site.submit(actions.resume(run), f"resume {run}", check=check)

    @routes.post("/runs/{run}/stop")
    def stop(run: str) -> dict[str, Any]:
        """Stops the job that makes a run; what it sampled is stored."""
        job = site.queue.of_run(site.runs.folder(run).name)
        if job is None:
            raise NotFoundError(f"no job makes run {run}; one of a shell is stopped there, by Ctrl-C")
        return site.job_shown(site.supervisor.stop(job.id))

    @routes.post("/runs/{run}/align")
    def align(run: str, check: bool = False) -> dict[str, Any]:
        """Brings the words in time with the music."""
        return site.submit(actions.align(run), f"words of {run}", check=check)

    @routes.post("/runs/{run}/vary")
    def vary(run: str, request: requests.Vary, check: bool = False) -> dict[str, Any]:
        """Varies a take."""
        return site.submit(actions.vary(run, request), f"vary {run}", check=check)

    @routes.post("/runs/{run}/transcribe")
    def transcribe(run: str, request: requests.Transcribe, check: bool = False) -> dict[str, Any]:
        """Writes the notes of a take."""
        folder = site.notes / site.runs.folder(run).name / str(request.sample)
        return site.submit(actions.transcribe(run, request, folder), f"notes of {run}", check=check)


def _zipped(site: Site, name: str) -> Path:
    """Returns a new file with all that a run made, sound as it is and the rest compressed."""
    run = site.runs.folder(name)
    site.cache.mkdir(parents=True, exist_ok=True)
    with locked_temporary(site.cache, f"{run.name}.zip") as (draft, file):
        with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as packed:
            for path in Contained.of(run.path).own:
                inside = path.relative_to(run.path).as_posix()
                packed.write(path, f"{run.name}/{inside}", zipfile.ZIP_STORED if "audio/" in inside else None)
        target = draft.with_suffix(".zip")
        draft.rename(target)
    return target
