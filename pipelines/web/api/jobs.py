"""``/api/jobs``: the queue, in its order."""

from __future__ import annotations

from typing import Any

from fastapi import APIRouter

from pipelines.web import requests
from pipelines.web.jobs.job import Job
from pipelines.web.problems import NotFoundError
from pipelines.web.site import Site


def router(site: Site) -> APIRouter:
    """Returns the routes."""
    routes = APIRouter(prefix="/jobs", tags=["jobs"])

    def found(identifier: str) -> Job:
        job = site.queue.get(identifier)
        if job is None:
            raise NotFoundError(f"there is no job {identifier[:40]!r}; see /api/jobs for those that there are")
        return job

    @routes.get("")
    def jobs() -> dict[str, Any]:
        """Every job: what runs, what waits, what is over; and the process that samples."""
        worker = {"ready": site.supervisor.is_ready, "pid": site.supervisor.pid}
        return {"jobs": [site.job_shown(job) for job in site.queue.all()], "worker": worker}

    @routes.get("/{identifier}")
    def job(identifier: str) -> dict[str, Any]:
        """One job."""
        return site.job_shown(found(identifier))

    @routes.get("/{identifier}/log")
    def log(identifier: str) -> dict[str, Any]:
        """The last lines of the log of the job that runs, or ran last."""
        found(identifier)
        return {"lines": list(site.supervisor.lines)}

    @routes.post("/{identifier}/stop")
    def stop(identifier: str) -> dict[str, Any]:
        """Stops a job; what it sampled is stored."""
        return site.job_shown(site.supervisor.stop(found(identifier).id))

    @routes.post("/{identifier}/resume")
    def resume(identifier: str) -> dict[str, Any]:
        """Puts a job that stopped or failed into the queue again."""
        job = site.queue.resume(found(identifier).id)
        site.supervisor.wake()
        return site.job_shown(job)

    @routes.post("/{identifier}/place")
    def place(identifier: str, _: requests.Where) -> dict[str, Any]:
        """Puts a job that waits first."""
        return site.job_shown(site.queue.first(found(identifier).id))

    return routes
