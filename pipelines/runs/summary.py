"""Runs in a few values: status, model, length, origin. Imports neither torch nor Prefect."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime
from typing import TYPE_CHECKING, Any

from jukebox_core.base.processes import is_dead, is_here
from jukebox_core.errors import ConfigError, DamagedRunError, RunError

if TYPE_CHECKING:
    from collections.abc import Mapping

    from pipelines.runs.folder import RunFolder


@dataclass(frozen=True, slots=True)
class Summary:
    """One run as a row of the table; empty or None if its manifest lacks the value."""

    run: RunFolder
    status: str
    model: str = ""
    seconds: float | None = None
    samples: int | None = None
    levels: str = ""
    created: str = ""  # ISO time
    parent: Mapping[str, Any] = field(default_factory=dict)
    sound: str = ""  # the folder of its finished sound

    @classmethod
    def of(cls, run: RunFolder) -> Summary:
        """Returns a run's summary; status ``damaged`` if its manifest cannot be used, ``newer`` if it is too new."""
        try:
            manifest = run.manifest()
            identity = manifest["identity"]
            levels = range(len(run.model_config().hops))
            return cls(
                run=run,
                status=status(manifest),
                model=identity["model"]["name"],
                seconds=identity["seconds"],
                samples=identity["sampling"]["n_samples"],
                levels=" ".join(
                    str(level) for level in reversed(levels) if level >= identity["sampling"]["stop_level"]
                ),
                created=datetime.fromisoformat(manifest["created"]).isoformat() if manifest.get("created") else "",
                parent=manifest.get("parent") or {},
                sound=_sound(run, manifest),
            )
        except (ConfigError, DamagedRunError):
            return cls(run, "damaged")
        except RunError:
            return cls(run, "newer" if run.manifest_path.exists() else "damaged")


def _sound(run: RunFolder, manifest: Mapping[str, Any]) -> str:
    """Returns the folder of the finest sound of a finished run, below the working directory if it is there."""
    if manifest.get("status") != "finished" or not manifest.get("audio"):
        return ""
    finest = min(manifest["audio"], key=lambda record: record.get("level", 0))
    return str((run.path / finest["path"]).parent)


def status(manifest: Mapping[str, Any]) -> str:
    """Returns the status of a run: planned, running, stopped, finished, or killed if the process that ran it is gone.

    A process of another machine cannot be inspected, but it holds the run's lock for as long as it lives.
    """
    recorded, process = str(manifest.get("status", "planned")), manifest.get("process")
    if recorded != "running":
        return recorded
    if process is None or is_dead(str(process)):
        return "killed"
    if not is_here(str(process)) and "lock" in manifest:
        from jukebox_core.store.run_lock import is_held

        return "killed" if is_held(manifest["store"], manifest["lock"]) is False else recorded
    return recorded


def origin_of(parent: Mapping[str, Any], *, named: bool = True) -> str:
    """Returns in words which part of other runs a run keeps; `named` includes the name of its parent."""
    keep, samples, begins = parent.get("keep_seconds"), parent.get("samples", []), parent.get("begins_seconds", [])
    words = "all" if parent.get("splice") or not begins else f"{max(begins):.4g} s"
    words = f"keeps {words if keep is None else f'{keep:g} s'}" + (f" of {parent['run']}" if named else "")
    words += "" if list(range(len(samples))) == samples else f", samples {','.join(map(str, samples))}"
    for piece in parent.get("splice", []):
        end = "end" if piece["to_seconds"] is None else f"{piece['to_seconds']:g} s"
        words += f" + {piece['run']} sample {piece['sample']} {piece['from_seconds']:g}-{end}"
    return words
