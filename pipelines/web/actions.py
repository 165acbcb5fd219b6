"""Each thing that people can ask for, as the command that does it: the words after ``jukebox``. Imports no torch."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from jukebox_core.base.paths import user_path
from jukebox_core.composer.builtin import BUILTIN_TUNE
from jukebox_core.errors import ConfigError
from jukebox_core.models.presets import load_preset
from pipelines.web.overrides import check_allowed, check_model, written
from pipelines.web.views.sounds import sound_path

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from pipelines.runs.folder import RunFolder
    from pipelines.web import requests
    from pipelines.web.settings import WebSettings
    from pipelines.web.views.runs import RunLibrary
    from pipelines.web.views.uploads import Uploads

SOON = {"output.report": False, "runner.preview_seconds": 2.0, "runner.preview_partial": True}
"""Of every run: its pictures are drawn when somebody looks at them, and it is heard as it grows."""


class Actions:
    """Commands for requests about the runs and uploads of one storage folder."""

    def __init__(self, settings: WebSettings, runs: RunLibrary, uploads: Uploads) -> None:
        """Makes commands that begin with the overrides of the server's settings."""
        self._base, self._runs, self._uploads = settings.overrides, runs, uploads
        self._root, self._storage_root = settings.root, settings.storage_root

    def new_song(self, request: requests.NewSong) -> list[str]:
        """Returns the command for a new song.

        Raises:
            ConfigError: a setting is not one of requests, or no model has that name.
            NotFoundError: the prompt is none.
        """
        prompt, top = request.prompt, load_preset(check_model(request.model)).config.top
        settings = {
            "model": request.model,
            "seconds": request.seconds,
            "song.total_seconds": request.total_seconds,
            "sampling.n_samples": request.number if request.number > 1 else None,
            "align": request.align or None,
            **self._words(request),
        }
        group = ["sampling=top_only"] if request.sketch else []
        if prompt is not None:
            file = BUILTIN_TUNE if prompt.id == "tune" else self._in_shell(self._uploads.path(prompt.id))
            settings |= {"prompt.files": [file], "prompt.seconds": prompt.seconds}
            settings["prompt.offset_seconds"] = prompt.offset_seconds or None
        return ["generate", *self._base, *group, *written({**settings, **SOON}), *_more(request, top)]

    def continue_(self, name: str, request: requests.Continue) -> list[str]:
        """Returns the command that goes on from a run; errors as `new_song`."""
        settings = {
            "seconds": request.seconds,
            "source.samples": None if request.sample is None else [request.sample],
            "source.keep_seconds": request.keep_seconds,
            "sampling.n_samples": self._number(request),
            "sampling.stop_level": self._stop_level(name, request.sketch),
            **self._words(request),
        }
        return self._from_run("continue", name, settings, _more(request, self._top(name)))

    def splice(self, name: str, request: requests.Splice) -> list[str]:
        """Returns the command that goes on from a run with ranges of other takes; errors as `new_song`."""
        pieces = [
            {
                "run": self._runs.folder(piece.run).name,
                "sample": piece.sample,
                "from_seconds": piece.from_seconds,
                "to_seconds": piece.to_seconds,
            }
            for piece in request.pieces
        ]
        return [*self.continue_(name, request), *written({"source.splice": pieces})]

    def choose(self, name: str, request: requests.Choose) -> list[str]:
        """Returns the command that spreads one take over several songs; errors as `new_song`."""
        settings = {
            "seconds": request.seconds,
            "source.samples": [request.sample],
            "sampling.n_samples": request.number,
            **self._words(request),
        }
        return self._from_run("continue", name, settings, _more(request, self._top(name)))

    def upsample(self, name: str, request: requests.Upsample) -> list[str]:
        """Returns the command that samples the lower levels of takes; errors as `new_song`."""
        settings = {
            "source.samples": request.samples or None,
            "sampling.n_samples": len(request.samples) or None,
            "sampling.stop_level": request.stop_level or None,
            "sampling.seed": request.seed,
            "align": request.align or None,
        }
        return self._from_run("upsample", name, settings, [])

    def resume(self, name: str) -> list[str]:
        """Returns the command that resumes a run in its folder."""
        return ["runs", "resume", self._runs.folder(name).name, *self._base]

    def align(self, name: str) -> list[str]:
        """Returns the command that brings the words of a run in time with its music."""
        return ["align", self._runs.folder(name).name, *self._base]

    def vary(self, name: str, request: requests.Vary) -> list[str]:
        """Returns the command that varies a take; errors as `new_song`."""
        check_allowed(request.settings)
        settings = {
            "model": check_model(request.model),
            "audio": [self._sound(name, request.sample)],
            "sampling.n_samples": request.number if request.number > 1 else None,
            "sampling.seed": request.seed,
            "seconds": request.seconds,
            "offset_seconds": request.offset_seconds or None,
        }
        return ["vamp", *self._base, *written({**settings, **SOON}), *written(request.settings)]

    def transcribe(self, name: str, request: requests.Transcribe, folder: Path) -> list[str]:
        """Returns the command that writes the notes of a take into `folder`; errors as `new_song`."""
        settings = {"model": check_model(request.model), "audio": [self._sound(name, request.sample)]}
        settings["folder"] = self._in_shell(folder)
        return ["transcribe", *self._base, *written(settings)]

    def fetch(self, model: str, request: requests.Fetch) -> list[str]:
        """Returns the command that fetches a model; errors as `new_song`."""
        accepted = ["weights.accept_licence=true"] if request.accept_licence else []
        weights = [override for override in self._base if override.startswith("weights.")]
        return ["models", "fetch", check_model(model), *weights, *accepted]

    def _from_run(self, command: str, name: str, settings: Mapping[str, Any], more: list[str]) -> list[str]:
        run = self._runs.folder(name)
        return [command, run.name, *self._base, *written({**settings, **SOON}), *more]

    def _words(self, request: requests.Words) -> dict[str, Any]:
        """Returns the settings of a song's words and of its top level."""
        return {
            "song.artist": request.artist or None,
            "song.genre": request.genre or None,
            "song.lyrics": request.lyrics,
            "sampling.seed": request.seed,
        }

    def _number(self, request: requests.Continue) -> int | None:
        if request.sample is None and request.number is not None:
            raise ConfigError("number is given, but no sample; name the sample that all songs begin with")
        return 1 if request.sample is not None and request.number is None else request.number

    def _stop_level(self, name: str, sketch: bool | None) -> int | None:
        if sketch is None:
            return None
        return self._top(name) if sketch else 0

    def _top(self, name: str) -> int:
        """Returns the top level of a run's model."""
        return int(self._runs.one(name)["levels"]) - 1

    def _sound(self, name: str, sample: int) -> str:
        run: RunFolder = self._runs.folder(name)
        return self._in_shell(sound_path(run, sample, None))

    def _in_shell(self, path: Path) -> str:
        """Returns a path below the storage folder as a shell has it where the server was started.

        A command has the storage folder as its user wrote it; files in it are written the same way.
        """
        return str(user_path(self._storage_root) / path.relative_to(self._root))


def _more(request: requests.Words, top: int) -> list[str]:
    """Returns overrides for the temperature of the top level and for further settings."""
    check_allowed(request.settings)
    return list(written({f"sampling.level_{top}.temperature": request.temperature, **request.settings}))
