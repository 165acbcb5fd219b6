"""``jukebox runs``: lists, shows, resumes, renames and removes runs, and collects garbage. No torch, no Prefect."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from jukebox_core.base.paths import user_path
from jukebox_core.base.text import format_bytes, printable
from jukebox_core.errors import ConfigError, RunError
from pipelines.cli.feature_table import feature_details, features_in
from pipelines.cli.run_table import details, table, tree
from pipelines.cli.typer_app import new_app, run_app
from pipelines.exit_status import working
from pipelines.runs.folder import RunFolder, find_run, runs_in
from pipelines.runs.removal import Contained, check_removable, drop_pin, idle, remove_folder, remove_leftovers
from pipelines.runs.summary import Summary
from pipelines.settings.common import StorageSettings

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from jukebox_core.store.pins import Pin
    from pipelines.runs.garbage import Garbage

HOURS = 24.0  # younger objects are not collected
ROOT = StorageSettings().root
_FEW = 5  # files that are listed by name

app = new_app("List, show, resume, rename and remove runs, and collect garbage.")


def run(arguments: Sequence[str]) -> None:
    """Runs ``jukebox runs`` with `arguments`; ``storage.root=DIR`` is the same as ``--root DIR``.

    Raises:
        ConfigError: the arguments do not fit.
        JukeboxError: as the command does.
    """
    given = [f"--root={a.partition('=')[2]}" if a.startswith("storage.root=") else a for a in arguments]
    run_app(app, "runs", given or ["--help"])


def _complete_runs(context: typer.Context, incomplete: str) -> list[str]:
    found = runs_in(context.params.get("root") or ROOT)
    return [each.name for each in found if each.name.startswith(incomplete)]


Root = Annotated[str, typer.Option("--root", metavar="DIR", help="folder of the runs")]
RunName = Annotated[
    str,
    typer.Argument(metavar="RUN", help="name or folder of a run", autocompletion=_complete_runs, show_default=False),
]
Yes = Annotated[bool, typer.Option("--yes", help="do not ask")]


@app.command("list")
def list_runs(root: Root = ROOT) -> None:
    """List runs, with model, status and length, and features."""
    found, features = _summaries(root), features_in(root)
    _print([*(table(found) if found else [f"{root} holds no runs"]), *features])


@app.command()
def show(run: RunName, root: Root = ROOT) -> None:
    """Show one run in full, or one folder of features."""
    _print(feature_details(run, root) or details(find_run(run, root)))


@app.command("tree")
def show_tree(root: Root = ROOT) -> None:
    """List runs, and below each those that continue it."""
    found = _summaries(root)
    _print(tree(found) if found else [f"{root} holds no runs"])


@app.command()
def resume(
    run: RunName,
    overrides: Annotated[list[str] | None, typer.Argument(metavar="OVERRIDES", help="settings to change")] = None,
    root: Root = ROOT,
) -> None:
    """Run again from the stored tokens, in the same folder."""
    from pipelines.runs.settings_of_run import resume_root
    from pipelines.settings.compose import compose

    given = overrides or []
    settings = compose(resume_root(run, root, given), given)
    from pipelines import commands

    commands.generate(settings, resume=True)


@app.command("rename")
def rename_run(
    run: RunName,
    name: Annotated[str, typer.Argument(metavar="NAME", help="the new name", show_default=False)],
    root: Root = ROOT,
) -> None:
    """Give a run another name; runs that continue it follow."""
    from pipelines.runs.renaming import check_renamable, rename

    found = find_run(run, root)
    target = check_renamable(found, name)
    with idle(found):
        rename(found, target, root)
        if target.manifest().get("report"):
            from pipelines.execution.outputs import retitle_report

            retitle_report(target)
    _print([f"run {found.name} is now {target.name}, in {target.path}"])


@app.command("rm")
def remove_run(run: RunName, root: Root = ROOT, yes: Yes = False) -> None:
    """Remove a run's folder; tokens that other runs use stay."""
    try:
        found = find_run(run, root)
    except RunError:
        if not _drop_lost(run, root, yes=yes):
            raise
        return
    check_removable(found)
    with idle(found):
        _remove_folder(found, root, yes=yes)
    remove_leftovers(root)


@app.command("gc")
def collect_garbage(
    root: Root = ROOT,
    yes: Yes = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="only show what would be removed")] = False,
    older_than: Annotated[float, typer.Option(metavar="HOURS", help="keep younger objects")] = HOURS,
    store: Annotated[str | None, typer.Option(metavar="URI", help="a token store; default: those of the runs")] = None,
) -> None:
    """Remove tokens that no run names."""
    from jukebox_core.store.pins import Pins
    from pipelines.runs.garbage import find_garbage, remove, stores_of, sweep_leavings

    if older_than < 0:
        raise ConfigError(f"--older-than is {older_than}; give hours, 0 or more")
    if not dry_run and (removed := remove_leftovers(root)):
        _print([f"removed {removed} folders that killed processes had left in {root}"])
    scratch = user_path(root) / ".scratch"
    for uri in [store] if store else stores_of(root):
        garbage = find_garbage(root, uri, older_than, scratch)
        _print(_described(garbage, older_than))
        for pin in _lost(Pins(uri).readable()[0]):
            kept = f"{len(pin.keys)} windows are kept for run {pin.run}, whose folder is gone"
            _print([f"  {kept}: jukebox runs rm {pin.run}"])
        if not garbage.bytes or dry_run:
            continue
        if _confirmed(f"remove {format_bytes(garbage.bytes)} from {uri}?", yes=yes):
            with working():
                windows, size = remove(garbage, root)
            _print([f"removed {windows} windows, {format_bytes(size)} in all"])
    count, _ = sweep_leavings(root, remove=not dry_run)
    if count:
        _print([f"{'found' if dry_run else 'removed'} {count} files half written by killed processes"])


def _print(lines: Iterable[str]) -> None:
    for line in lines:
        print(printable(line))  # noqa: T201 - the command's answer


def _summaries(root: str) -> list[Summary]:
    return [Summary.of(each) for each in runs_in(root)]


def _remove_folder(run: RunFolder, root: str, *, yes: bool) -> None:
    contained = Contained.of(run.path)
    branches = [each.run.name for each in _summaries(root) if each.parent.get("run") == run.name]
    stay = f"; {', '.join(branches)} began with it and stay complete" if branches else ""
    if contained.others:
        names = ", ".join(path.relative_to(run.path).as_posix() for path in contained.others[:_FEW])
        stay += f"; {len(contained.others)} files that it did not make stay ({names})"
    size = format_bytes(contained.bytes)
    if not _confirmed(f"remove run {run.name}: {len(contained.own)} files, {size}, in {run.path}{stay}?", yes=yes):
        return
    drop_pin(run)
    remove_folder(run, contained)
    kept = f" but for {len(contained.others)} files that it did not make" if contained.others else ""
    _print([f"removed {run.path}{kept}; its tokens stay until `jukebox runs gc`"])


def _drop_lost(name: str, root: str, *, yes: bool) -> bool:
    """Removes the pins of a run of this machine whose folder is gone; returns whether there were any."""
    from jukebox_core.store.pins import Pins
    from pipelines.runs.garbage import stores_of

    lost = {store: [pin for pin in _lost(Pins(store).readable()[0]) if pin.run == name] for store in stores_of(root)}
    count = len({key for pins in lost.values() for pin in pins for key in pin.keys})
    if not any(lost.values()):
        return False
    if _confirmed(f"the folder of run {name} is gone; release the {count} windows that are kept for it?", yes=yes):
        for store, pins in lost.items():
            Pins(store).drop(pins)
        _print([f"run {name} is forgotten; `jukebox runs gc` removes the windows that no other run names"])
    return True


def _lost(pins: Iterable[Pin]) -> list[Pin]:
    """Returns the pins of runs whose folder was on this machine and is gone."""
    here = RunFolder(Path("/")).place.removesuffix("/")
    return [pin for pin in pins if pin.place.startswith(here) and not Path(pin.place.removeprefix(here)).is_dir()]


def _described(garbage: Garbage, hours: float) -> list[str]:
    parts = (
        (len(garbage.windows), "windows that no run names", garbage.windows),
        (len(garbage.partials), "unfinished windows that no run names", garbage.partials),
        (len(garbage.damaged), "damaged objects that were set aside", garbage.damaged),
        (len(garbage.snapshots), "files of snapshots that no run names", garbage.snapshots),
    )
    lines = [f"{garbage.store}: {garbage.named} windows are named by runs"]
    lines += [f"  no window is removed: {why}" for why in garbage.unknown]
    lines += [f"  {count} {name}, {format_bytes(sum(part.values()))}" for count, name, part in parts if count]
    if garbage.fresh:
        lines.append(f"  {garbage.fresh} windows that no run names stay: they are newer than {hours:g} hours")
    return lines if garbage.bytes else [*lines, "  nothing to remove"]


def _confirmed(question: str, *, yes: bool) -> bool:
    if yes:
        return True
    if not sys.stdin.isatty():
        raise ConfigError(f"{question} stdin is not a terminal, so this cannot be asked; add --yes")
    return input(f"{question} [y/N] ").strip().lower() in ("y", "yes")
