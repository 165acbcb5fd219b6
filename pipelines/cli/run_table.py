"""Runs as text: a table, a tree, and the details of one run. Imports neither torch nor Prefect."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime
from typing import TYPE_CHECKING, Any

from jukebox_core.base.processes import is_dead, is_here
from jukebox_core.base.text import format_table
from jukebox_core.errors import ConfigError, DamagedRunError, RunError

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from pipelines.runs.folder import RunFolder

_LYRICS = 60  # characters of lyrics that are shown


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


def table(summaries: Sequence[Summary]) -> list[str]:
    """Returns the lines of a table, oldest run first."""
    head = ("RUN", "MODEL", "STATUS", "SECONDS", "SAMPLES", "LEVELS", "CREATED", "FROM", "SOUND")
    rows = [
        (
            each.run.name,
            each.model,
            each.status,
            "" if each.seconds is None else f"{each.seconds:g}",
            "" if each.samples is None else str(each.samples),
            each.levels,
            _local(each.created),
            str(each.parent.get("run", "")),
            each.sound,
        )
        for each in sorted(summaries, key=lambda each: (each.created, each.run.name))
    ]
    return format_table([head, *rows])


def tree(summaries: Sequence[Summary]) -> list[str]:
    """Returns the lines of a tree: below each run, indented, those that continue it."""
    by_name = {each.run.name: each for each in summaries}
    below: dict[str, list[Summary]] = {}
    for each in sorted(summaries, key=lambda each: (each.created, each.run.name)):
        parent = each.parent.get("run", "")
        below.setdefault(parent if parent in by_name and parent != each.run.name else "", []).append(each)

    def lines(name: str, indent: str) -> Iterator[str]:
        children = below.pop(name, [])
        for each in children:
            last = each is children[-1]
            stem = ("└─ " if last else "├─ ") if name else ""
            yield f"{indent}{stem}{_leaf(each, known=bool(name))}"
            yield from lines(each.run.name, indent + (("   " if last else "│  ") if name else ""))

    found = list(lines("", ""))
    while below:  # names that were used again, so that runs continue each other
        found += lines(next(iter(below)), "")
    return found


def _leaf(each: Summary, *, known: bool) -> str:
    length = [] if each.seconds is None else [f"{each.seconds:g} s", f"{each.samples} samples"]
    origin = [] if not each.parent else [origin_of(each.parent, named=not known)]
    return "  ".join([each.run.name, each.status, *length, *origin])


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


def details(run: RunFolder) -> list[str]:
    """Returns the lines on one run: settings, takes, files and timings.

    Raises:
        RunError: its manifest cannot be read.
    """
    manifest = run.manifest()
    identity, summary = manifest.get("identity", {}), Summary.of(run)
    lines = [
        f"run {run.name} in {run.path}",
        f"  {summary.status}, created {_local(summary.created) or 'at an unknown time'}"
        + (f", finished {_local(manifest['finished'])}" if manifest.get("finished") else "")
        + (
            f", stopped by {manifest['stopped_by']}" if summary.status == "stopped" and "stopped_by" in manifest else ""
        ),
    ]
    if manifest.get("parent"):
        lines.append(f"  {manifest['parent']['command']}: {origin_of(manifest['parent'])}")
    lines += ["", "settings", *_indented(_settings(identity))]
    if manifest.get("takes"):
        lines += ["", "takes", *_indented(_takes(run, manifest))]
    files = [*manifest.get("audio", []), *manifest.get("codes", [])]
    page = [f"  {run.path / 'report.html'}"] if (run.path / "report.html").is_file() else []
    if files or page:
        lines += ["", "files", *(f"  {run.path / record['path']}" for record in files), *page]
    if manifest.get("timings"):
        lines += ["", "timings of the last invocation", *_indented(_timings(manifest["timings"]))]
    return lines


def _settings(identity: Mapping[str, Any]) -> list[tuple[str, str]]:
    model, sampling = identity.get("model", {}), identity.get("sampling", {})
    rows = [
        ("model", str(model.get("name"))),
        ("seconds", f"{identity.get('seconds')}"),
        ("dtype", f"{identity.get('dtype')}"),
    ]
    rows += [
        (f"sampling.{name}", f"{sampling[name]}") for name in ("seed", "n_samples", "stop_level") if name in sampling
    ]
    parts = {name: value for name, value in sampling.items() if isinstance(value, dict)}
    rows += [(f"sampling.{name}", ", ".join(f"{k} {v}" for k, v in value.items())) for name, value in parts.items()]
    songs = [
        ("song", identity.get("song", {})),
        *((f"songs.{n}", song) for n, song in enumerate(identity.get("songs", []))),
    ]
    for where, song in songs:
        rows += [(f"{where}.{name}", _short(value)) for name, value in song.items() if value not in (None, "", 0.0)]
    rows += [("prompt", path) for path in identity.get("prompt", {}).get("files", [])]
    return rows


def _short(value: object) -> str:
    text = " ".join(str(value).split())
    return text if len(text) <= _LYRICS else f"{text[: _LYRICS - 3]}..."


def _takes(run: RunFolder, manifest: Mapping[str, Any]) -> list[tuple[str, ...]]:
    takes, config = run.takes(), run.model_config()
    if any(len(take) != len(config.hops) for take in takes):
        raise DamagedRunError(f"{run.manifest_path} is damaged: its takes have other levels than its model")
    kept = manifest.get("kept") or [[0] * len(take) for take in takes]
    rows: list[tuple[str, ...]] = [("SAMPLE", "LEVEL", "SECONDS", "TOKENS", "KEPT", "WINDOWS")]
    for sample, (take, kept_tokens) in enumerate(zip(takes, kept, strict=True)):
        for level in reversed(range(len(take))):
            seconds = config.seconds(level, len(take[level]))
            counts = (len(take[level]), kept_tokens[level], len({span.key for span in take[level]}))
            rows.append((str(sample), str(level), f"{seconds:.2f}", *map(str, counts)))
    return rows


def _timings(timings: Sequence[Mapping[str, Any]]) -> list[tuple[str, ...]]:
    rows: list[tuple[str, ...]] = [("STAGE", "LEVEL", "SECONDS", "TOKENS", "WINDOWS", "REUSED")]
    names = ("stage", "level", "seconds", "tokens", "windows", "reused")
    return rows + [tuple(str(timing.get(name, "")) for name in names) for timing in timings]


def _indented(rows: Sequence[tuple[str, ...]]) -> list[str]:
    return [f"  {line}" for line in format_table(rows)]


def _local(time: str) -> str:
    return "" if not time else datetime.fromisoformat(time).astimezone().strftime("%Y-%m-%d %H:%M")
