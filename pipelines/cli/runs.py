"""``jukebox runs``: what there is, how it hangs together, and what may go. Imports neither torch nor Prefect."""

from __future__ import annotations

import argparse
import shutil
import sys
from contextlib import nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, NoReturn

from jukebox_core.base.text import format_bytes
from jukebox_core.errors import ConfigError, RunError, did_you_mean
from pipelines.cli.run_table import Summary, full, table, tree
from pipelines.exit_status import working
from pipelines.runs.folder import RunFolder, find_run, runs_in
from pipelines.settings.common import StorageSettings

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence
    from contextlib import AbstractContextManager

    from jukebox_core.store.pins import Pin
    from pipelines.runs.garbage import Garbage

HOURS = 24.0  # what was stored less long ago is not collected

USAGE = """\
Runs: what there is, how it hangs together, and what may go.

  jukebox runs list                     every run: model, status, length, and the run it goes on from
  jukebox runs show RUN                 settings, takes, files and timings of one run
  jukebox runs tree                     runs, and below each those that go on from it
  jukebox runs resume RUN [OVERRIDES]   take a run up again, in its own folder, with its own settings
  jukebox runs rm RUN [--yes]           remove a run's folder; what other runs use of it stays
  jukebox runs gc [--dry-run] [--yes] [--older-than HOURS] [--store URI]
                                        remove tokens that no run names

RUN is a run's name or its folder. --root DIR looks for runs in DIR instead of outputs.
"""


def run(arguments: Sequence[str]) -> None:
    """Does what ``jukebox runs ARGUMENTS`` asks for.

    Raises:
        ConfigError: the arguments are wrong.
        JukeboxError: as the command does.
    """
    given = [f"--root={a.partition('=')[2]}" if a.startswith("storage.root=") else a for a in arguments]
    if not given or {"-h", "--help", "help"} & set(given):
        _say([USAGE.rstrip()])
        return
    commands: dict[str, Callable[[argparse.Namespace], None]] = {
        "list": _list,
        "show": _show,
        "tree": _tree,
        "resume": _resume,
        "rm": _remove,
        "gc": _collect,
    }
    if given[0] not in commands:
        hint = did_you_mean(given[0], commands)
        raise ConfigError(f"there is no command runs {given[0]!r}; choose one of {', '.join(commands)}{hint}")
    commands[given[0]](_parser(given[0]).parse_args(given[1:]))


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        raise ConfigError(f"{self.prog}: {message}; `jukebox runs --help` shows how it is used")


def _parser(command: str) -> _Parser:
    parser = _Parser(prog=f"runs {command}", add_help=False, allow_abbrev=False)
    parser.add_argument("--root", default=StorageSettings().root)
    if command in ("show", "resume", "rm"):
        parser.add_argument("run", metavar="RUN")
    if command == "resume":
        parser.add_argument("overrides", metavar="OVERRIDES", nargs="*")
    if command in ("rm", "gc"):
        parser.add_argument("--yes", action="store_true")
    if command == "gc":
        parser.add_argument("--dry-run", action="store_true")
        parser.add_argument("--older-than", metavar="HOURS", type=float, default=HOURS)
        parser.add_argument("--store", metavar="URI")
    return parser


def _say(lines: Iterable[str]) -> None:
    for line in lines:
        print(line)  # noqa: T201 - the command's answer


def _summaries(root: str) -> list[Summary]:
    return [Summary.of(each) for each in runs_in(root)]


def _list(given: argparse.Namespace) -> None:
    found = _summaries(given.root)
    _say(table(found) if found else [f"{given.root} holds no runs"])


def _tree(given: argparse.Namespace) -> None:
    found = _summaries(given.root)
    _say(tree(found) if found else [f"{given.root} holds no runs"])


def _show(given: argparse.Namespace) -> None:
    _say(full(find_run(given.run, given.root)))


def _resume(given: argparse.Namespace) -> None:
    from pipelines.runs.settings_of_run import resume_root
    from pipelines.settings.compose import compose

    settings = compose(resume_root(given.run, given.root, given.overrides), given.overrides)
    from pipelines import commands as work

    work.generate(settings)


def _remove(given: argparse.Namespace) -> None:
    try:
        run = find_run(given.run, given.root)
    except RunError:
        if not _forget_lost(given.run, given.root, yes=given.yes):
            raise
        return
    with _idle(run):
        _remove_folder(run, given)


def _idle(run: RunFolder) -> AbstractContextManager[object]:
    """Returns the run's lock, so that nobody begins to work on it meanwhile; taking it fails if somebody does."""
    from jukebox_core.store.run_lock import RunLock

    manifest = run.manifest() if run.manifest_path.exists() else {}
    if "lock" in manifest:
        return RunLock(manifest["store"], manifest["lock"])
    if Summary.of(run).status == "running":
        raise RunError(f"run {run.name} is running; stop its process first ({manifest.get('process')})")
    return nullcontext()


def _remove_folder(run: RunFolder, given: argparse.Namespace) -> None:
    files = [path for path in run.path.rglob("*") if path.is_file()]
    size = sum(path.stat().st_size for path in files)
    branches = [each.run.name for each in _summaries(given.root) if each.parent.get("run") == run.name]
    stay = f"; {', '.join(branches)} began with it and stay whole" if branches else ""
    if not _agreed(
        f"remove run {run.name}: {len(files)} files, {format_bytes(size)}, in {run.path}{stay}?", yes=given.yes
    ):
        return
    _forget(run)
    doomed = run.path.with_name(f".removed-{run.name}")  # no half-removed folder is ever taken for a run
    run.path.replace(doomed)
    shutil.rmtree(doomed)
    _say([f"removed {run.path}; its tokens stay until `jukebox runs gc`"])


def _forget(run: RunFolder) -> None:
    """Tells the run's token store that the run needs no window any more."""
    from jukebox_core.store.pins import Pin, Pins

    manifest = run.manifest() if run.manifest_path.exists() else {}
    if "store" in manifest:
        Pins(manifest["store"]).drop([Pin(run.name, run.place, frozenset())])


def _forget_lost(name: str, root: str, *, yes: bool) -> bool:
    """Lets go of what a store still keeps for a run of this machine whose folder is gone; whether there is one."""
    from jukebox_core.store.pins import Pins
    from pipelines.runs.garbage import stores_of

    lost = {store: [pin for pin in _lost(Pins(store).all()) if pin.run == name] for store in stores_of(root)}
    count = len({key for pins in lost.values() for pin in pins for key in pin.keys})
    if not any(lost.values()):
        return False
    if _agreed(f"the folder of run {name} is gone; let go of the {count} windows that are kept for it?", yes=yes):
        for store, pins in lost.items():
            Pins(store).drop(pins)
        _say([f"run {name} is forgotten; `jukebox runs gc` removes what no other run names"])
    return True


def _lost(pins: Iterable[Pin]) -> list[Pin]:
    """Returns the pins of runs whose folder was on this machine and is gone."""
    here = RunFolder(Path("/")).place.removesuffix("/")
    return [pin for pin in pins if pin.place.startswith(here) and not Path(pin.place.removeprefix(here)).is_dir()]


def _collect(given: argparse.Namespace) -> None:
    from jukebox_core.store.pins import Pins
    from pipelines.runs.garbage import find_garbage, remove, stores_of

    if given.older_than < 0:
        raise ConfigError(f"--older-than is {given.older_than}; give hours, 0 or more")
    scratch = Path(given.root).expanduser() / ".scratch"
    for store in [given.store] if given.store else stores_of(given.root):
        garbage = find_garbage(given.root, store, given.older_than, scratch)
        _say(_told(garbage, given.older_than))
        for pin in _lost(Pins(store).all()):
            gone = f"{len(pin.keys)} windows are kept for run {pin.run}, whose folder is gone"
            _say([f"  {gone}: jukebox runs rm {pin.run}"])
        if not garbage.bytes or given.dry_run:
            continue
        if _agreed(f"remove {format_bytes(garbage.bytes)} from {store}?", yes=given.yes):
            with working():
                windows, size = remove(garbage, given.root)
            _say([f"removed {windows} windows, {format_bytes(size)} in all"])


def _told(garbage: Garbage, hours: float) -> list[str]:
    parts = (
        (len(garbage.windows), "windows that no run names", garbage.windows),
        (len(garbage.partials), "unfinished windows that no run names", garbage.partials),
        (len(garbage.damaged), "damaged objects that were set aside", garbage.damaged),
        (len(garbage.snapshots), "files of snapshots that no run names", garbage.snapshots),
    )
    lines = [f"{garbage.store}: {garbage.named} windows are named by runs"]
    lines += [f"  {count} {what}, {format_bytes(sum(part.values()))}" for count, what, part in parts if count]
    if garbage.fresh:
        lines.append(f"  {garbage.fresh} windows that no run names stay: they are newer than {hours:g} hours")
    return lines if garbage.bytes else [*lines, "  nothing to remove"]


def _agreed(question: str, *, yes: bool) -> bool:
    if yes:
        return True
    if not sys.stdin.isatty():
        raise ConfigError(f"{question} Nobody is there to answer; add --yes")
    return input(f"{question} [y/N] ").strip().lower() in ("y", "yes")
