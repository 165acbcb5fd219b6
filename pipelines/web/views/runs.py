"""Runs and their takes as plain data, from their manifests; each is read again only when it has changed.

A *take* is one sample of a run. Its parent is the take that it goes on from. Imports no torch.
"""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING, Any

from jukebox_core.errors import JukeboxError
from pipelines.runs.folder import RunFolder, runs_in
from pipelines.runs.summary import status
from pipelines.web.problems import NotFoundError

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from pathlib import Path

    from pipelines.web.marks import Marks

_Stamp = tuple[int, int]  # of a manifest: time of change in ns, size
_LYRICS = 20_000  # characters
PREVIEW = "audio/preview"


class RunLibrary:
    """The runs below one folder."""

    def __init__(self, root: Path, marks: Marks) -> None:
        self._root, self._marks = root, marks
        self._lock = threading.Lock()
        self._known: dict[str, tuple[_Stamp, dict[str, Any]]] = {}

    def folder(self, name: str) -> RunFolder:
        """Returns the run of that name, found by listing: a name is never made part of a path.

        Raises:
            NotFoundError: there is no such run.
        """
        for run in runs_in(str(self._root)):
            if run.name == name:
                return run
        raise NotFoundError(f"there is no run {name[:80]!r} in {self._root}; see /api/runs for those that there are")

    def all(self) -> list[dict[str, Any]]:
        """Returns every run, oldest first."""
        found = {run.name: self._shown(run) for run in runs_in(str(self._root))}
        with self._lock:
            for name in self._known.keys() - found.keys():
                del self._known[name]
        return sorted(found.values(), key=lambda run: (run["created"], run["name"]))

    def one(self, name: str) -> dict[str, Any]:
        """Returns one run; NotFoundError as `folder`."""
        return self._shown(self.folder(name))

    def stamps(self) -> dict[str, tuple[_Stamp | None, _Stamp | None]]:
        """Returns a stamp of each run, which differs once it, or its preview, has changed."""
        return {run.name: (_stamp(run.manifest_path), _stamp(run.path / PREVIEW)) for run in runs_in(str(self._root))}

    def _shown(self, run: RunFolder) -> dict[str, Any]:
        stamp = _stamp(run.manifest_path)
        with self._lock:
            known = self._known.get(run.name)
        if known is not None and stamp == known[0]:
            base = known[1]
        else:
            base = _base(run)
            if stamp is not None:
                with self._lock:
                    self._known[run.name] = (stamp, base)
        shown = {name: value for name, value in base.items() if not name.startswith("_")}
        if shown["status"] == "running":  # its process may have ended without a word
            shown["status"] = status(base["_process"])
        preview = shown["status"] in ("running", "stopped", "killed", "planned")
        shown["takes"] = [self._take(run, take, preview=preview) for take in shown["takes"]]
        return shown

    def _take(self, run: RunFolder, take: Mapping[str, Any], *, preview: bool) -> dict[str, Any]:
        mark = self._marks.of(run.name, take["sample"])
        shown = {**take, "title": mark.title, "note": mark.note, "star": mark.star, "hidden": mark.hidden}
        if preview:
            at = _stamp(run.path / PREVIEW / f"sample_{take['sample']}.wav")
            shown["preview"] = None if at is None else at[0]
        return shown


def _stamp(path: Path) -> _Stamp | None:
    try:
        found = path.stat()
    except OSError:
        return None
    return found.st_mtime_ns, found.st_size


def _base(run: RunFolder) -> dict[str, Any]:
    empty: dict[str, Any] = {
        "name": run.name, "status": "damaged", "model": "", "family": "", "seconds": None, "created": "",
        "finished": "", "parent": None, "takes": [], "seed": None, "stop_level": None, "levels": 0, "first_sound": None,
    }  # fmt: skip
    try:
        manifest = run.manifest()
    except JukeboxError as error:
        return {**empty, "error": str(error)}
    identity = manifest["identity"]
    hops = _levels(identity)
    return {
        **empty,
        "status": str(manifest.get("status", "planned")),
        "_process": {name: manifest[name] for name in ("status", "process", "store", "lock") if name in manifest},
        "model": identity["model"]["name"],
        "family": identity["model"].get("family", ""),
        "seconds": identity["seconds"],
        "created": manifest.get("created") or "",
        "finished": manifest.get("finished") or "",
        "parent": manifest.get("parent"),
        "seed": identity["sampling"].get("seed"),
        "stop_level": identity["sampling"].get("stop_level", 0),
        "levels": hops,
        "first_sound": manifest.get("first_sound_seconds"),
        "takes": list(_takes(manifest, identity, hops)),
    }


def _levels(identity: Mapping[str, Any]) -> int:
    """Returns the number of levels of a run's model."""
    network = identity["model"].get("network") or {}
    priors = network.get("priors") or {}
    return len(priors) or 1


def _takes(manifest: Mapping[str, Any], identity: Mapping[str, Any], levels: int) -> Iterator[dict[str, Any]]:
    parent, kept = manifest.get("parent") or {}, manifest.get("kept") or []
    songs, song = identity.get("songs") or (), identity.get("song") or {}
    aligned = {record["sample"] for record in manifest.get("alignment", [])}
    for sample in range(int(identity["sampling"].get("n_samples", 1))):
        own = {name: value for name, value in (songs[sample] if songs else {}).items() if value is not None}
        said = {**song, **own}
        audio = sorted(
            (each for each in manifest.get("audio", []) if each["sample"] == sample), key=lambda each: each["level"]
        )
        began = parent.get("begins_seconds") or []
        yield {
            "sample": sample,
            "parent": _parent(parent, sample),
            "begins": began[sample] if sample < len(began) else 0.0,
            "kept": kept[sample] if sample < len(kept) else [0] * levels,
            "artist": str(said.get("artist") or ""),
            "genre": str(said.get("genre") or ""),
            "lyrics": str(said.get("lyrics") or "")[:_LYRICS],
            "sounds": [
                {"level": each["level"], "seconds": each.get("seconds"), "sha256": each.get("sha256")} for each in audio
            ],
            "aligned": sample in aligned,
        }


def _parent(parent: Mapping[str, Any], sample: int) -> str | None:
    samples = parent.get("samples") or []
    return f"{parent['run']}/{samples[sample]}" if "run" in parent and sample < len(samples) else None
