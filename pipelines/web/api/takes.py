"""``/api/runs/RUN/takes/SAMPLE``: sound, wave, picture, words and notes of one take, and what people note about it."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Any, Literal

from fastapi import APIRouter
from fastapi.responses import FileResponse

from jukebox_core.base.hashing import digest
from jukebox_core.base.records import is_regular
from pipelines.execution.alignment import timed_texts
from pipelines.web import requests
from pipelines.web.problems import NotFoundError
from pipelines.web.site import Site
from pipelines.web.views.sounds import FORMATS, POINTS, converted, mixed, peaks, sound_path, spectrogram

NOTES = {"mid": "audio/midi", "json": "application/json"}


def router(site: Site) -> APIRouter:
    """Returns the routes."""
    routes = APIRouter(prefix="/runs/{run}", tags=["takes"])
    _sounds(routes, site)
    _more(routes, site)
    return routes


def _sounds(routes: APIRouter, site: Site) -> None:
    @routes.get("/takes/{sample}/audio")
    def audio(
        run: str,
        sample: requests.Sample,
        level: requests.Level | None = None,
        format: Literal["wav", "flac", "mp3"] | None = None,  # noqa: A002 - the name in the address
        download: bool = False,
    ) -> FileResponse:
        """The sound, with byte ranges: the finest there is, or that of a level; while it is sampled, what there is."""
        path = sound_path(site.runs.folder(run), sample, level)
        kind = format or path.suffix.removeprefix(".")
        path = converted(path, kind, site.cache, _name(path))
        name = f"{run}-{sample}.{kind}" if download else None
        return FileResponse(path, media_type=FORMATS[kind], filename=name)

    @routes.get("/takes/{sample}/peaks")
    def wave(
        run: str, sample: requests.Sample, level: requests.Level | None = None, points: int = POINTS
    ) -> dict[str, Any]:
        """The wave: the loudest sample of each part."""
        return peaks(sound_path(site.runs.folder(run), sample, level), points)

    @routes.get("/takes/{sample}/spectrogram")
    def picture(run: str, sample: requests.Sample, level: requests.Level | None = None) -> FileResponse:
        """The spectrogram, PNG."""
        folder = site.runs.folder(run)
        path = sound_path(folder, sample, level)
        return FileResponse(spectrogram(folder, path, site.cache, _name(path)), media_type="image/png")

    @routes.get("/mix")
    def mix(run: str, samples: str = "0,1,2") -> FileResponse:
        """Two or three takes of a run, made of one sketch, as one stereo sound."""
        chosen = [int(each) for each in samples.split(",")[:3] if each.isdecimal() and len(each) < 6]
        folder = site.runs.folder(run)
        paths = [sound_path(folder, sample, None) for sample in chosen]
        name = digest([_name(path) for path in paths])
        return FileResponse(mixed(paths, site.cache, name), media_type="audio/wav", filename=f"{run}-mix.wav")


def _more(routes: APIRouter, site: Site) -> None:
    @routes.get("/takes/{sample}/alignment")
    def words(run: str, sample: requests.Sample) -> dict[str, Any]:
        """The words with their times in seconds."""
        folder = site.runs.folder(run)
        found = timed_texts(folder.path, folder.known_manifest()).get(sample)
        if found is None:
            raise NotFoundError(f"the words of sample {sample} of run {run} are not aligned; align the run first")
        return {"text": found.text, "words": [asdict(word) for word in found.words]}

    @routes.get("/takes/{sample}/notes")
    def notes(run: str, sample: requests.Sample, format: Literal["mid", "json"] = "mid") -> FileResponse:  # noqa: A002
        """The notes, once they are transcribed: a MIDI file, or JSON."""
        folder = site.notes / site.runs.folder(run).name / str(sample)
        found = sorted(path for path in folder.glob(f"*.{format}") if is_regular(path)) if folder.is_dir() else []
        if not found:
            raise NotFoundError(f"sample {sample} of run {run} is not transcribed; transcribe it first")
        return FileResponse(found[0], media_type=NOTES[format], filename=f"{run}-{sample}.{format}")

    @routes.patch("/takes/{sample}")
    def mark(run: str, sample: requests.Sample, request: requests.MarkChange) -> dict[str, Any]:
        """Notes something about a take: a title, a note, a star, or that it is hidden."""
        name = site.runs.folder(run).name
        changed = {key: value for key, value in request.model_dump().items() if value is not None}
        found = asdict(site.marks.change(name, sample, **changed))
        site.hub.publish("marks", {"run": name, "sample": sample, **found})
        return found


def _name(path: Path) -> str:
    """Returns a name for what is made of a file as it is now."""
    status = path.stat()
    return digest([str(path), status.st_mtime_ns, status.st_size])
