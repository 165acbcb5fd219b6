"""``jukebox models``: lists, fetches, verifies, removes and copies the files of models, and lists their labels.

Imports no Prefect, torch only for `memory`, and Hydra only for overrides that are not plain values: each command
answers at once, except those that transfer or hash gigabytes.
"""

from __future__ import annotations

import sys
from dataclasses import replace
from typing import TYPE_CHECKING, Annotated

import typer

from jukebox_core.base.paths import user_path
from jukebox_core.base.text import format_bytes, format_table, printable
from jukebox_core.errors import ConfigError, DownloadError
from jukebox_core.family import open_transcribing, transcribes
from jukebox_core.models import catalogue
from jukebox_core.models.labels import matching, names_of
from jukebox_core.models.presets import is_path, load_preset, option_names
from pipelines.cli.typer_app import new_app, run_app
from pipelines.cli.weights_settings import weights_settings
from pipelines.licence_prompt import ask

if TYPE_CHECKING:
    from collections.abc import Sequence

    from jukebox_core.models.config import WeightsConfig

GRAPHS = "format=onnx"
_RELEASED = ("1b_lyrics", "5b", "5b_lyrics")
_MACHINES = {"cuda": (8, 16, 24, 80), "cpu": (8, 16, 32)}  # GiB: GPUs, and laptops that sample on their CPU

app = new_app(
    "List, fetch, verify, remove and copy the files of models, and list the names that they know.\n\n"
    "NAMES are models, aliases (small, best), model files (.yaml), or all. OVERRIDES are settings of the section "
    "weights, as in weights.folder=/data weights.accept_licence=true; both may be mixed in any order.",
    subcommand_metavar="COMMAND [NAMES] [OVERRIDES]",
)


def run(arguments: Sequence[str]) -> None:
    """Runs ``jukebox models`` with `arguments`.

    Raises:
        ConfigError: the arguments do not fit.
        JukeboxError: as the command does.
    """
    run_app(app, "models", arguments or ["--help"])


def _complete_names(incomplete: str) -> list[str]:
    return [name for name in (*option_names("model"), catalogue.ALL) if name.startswith(incomplete)]


Overrides = Annotated[
    list[str] | None, typer.Argument(metavar="OVERRIDES", help="settings, as in weights.offline=true")
]
Names = Annotated[
    list[str] | None,
    typer.Argument(metavar="NAMES", help="models, with overrides mixed in", autocompletion=_complete_names),
]
FolderAndNames = Annotated[
    list[str] | None,
    typer.Argument(metavar="FOLDER NAMES", help="a folder, then models", autocompletion=_complete_names),
]


@app.command("list")
def list_models(words: Overrides = None) -> None:
    """List every model: size, licence, presence, verification."""
    names, weights = _parsed(words)
    if names:
        raise ConfigError(f"models list takes no names, but was given {names[0]!r}; it lists every model")
    rows: list[tuple[str, ...]] = [("MODEL", "SIZE", "HERE", "VERIFIED", "LICENCE")]
    for each in catalogue.listing(weights):
        name = f"{each.name} ({', '.join(each.aliases)})" if each.aliases else each.name
        size = ("" if each.exact else "about ") + format_bytes(each.bytes) if each.bytes else "unknown"
        here = "yes" if each.present == each.files else f"{each.present} of {each.files}" if each.present else "no"
        licence = each.licence.partition("(")[0].partition(":")[0].strip()
        rows.append((name, size, here, each.verified[:19].replace("T", " ") or "-", licence))
    _print(*format_table(rows))
    files, taken = catalogue.prepared(weights)
    if files:
        _print(
            f"{format_bytes(taken)} more, in {files} files, hold weights as they sample; models rm prepared frees them"
        )


@app.command()
def fetch(words: Names = None) -> None:
    """Download models; an interrupted download is resumed."""
    names, weights = _parsed(words)
    weights = replace(weights, auto_download=True)  # it is asked for
    for name in catalogue.resolve(_required(names, "fetch")):
        ask(load_preset(name).files, weights)
    _print(*catalogue.fetch(names, weights).values())


@app.command()
def verify(words: Names = None) -> None:
    """Hash the files of models; damaged ones are set aside.

    Without NAMES, the files of all models that are here.
    """
    names, weights = _parsed(words)
    faults = 0
    for each in catalogue.check(names or [catalogue.ALL], weights):
        if each.fault == catalogue.ABSENT and not names:
            continue  # not every model needs to be here
        _print(f"{'ok     ' if not each.fault else 'FAULT  '}{each.path}  {each.sha256 or each.fault}")
        faults += bool(each.fault)
    if faults:
        raise DownloadError(f"{faults} files are damaged or missing; fetch their models again")


@app.command()
def path(words: Names = None) -> None:
    """Print where the files of models are."""
    names, weights = _parsed(words)
    for name in _required(names, "path"):
        _print(*(f"{role}  {file}" for role, file in catalogue.paths(name, weights).items()))


@app.command()
def rm(words: Names = None) -> None:
    """Remove models; files that another model here needs are kept.

    `rm prepared` removes only derived copies, weights in the form they are sampled with, which are made again when
    needed (weights.prepared).
    """
    names, weights = _parsed(words)
    removed, kept = catalogue.remove(_required(names, "rm"), weights)
    _print(*(f"removed  {file}" for file in removed))
    _print(*(f"kept     {file}  (another model that is here needs it)" for file in kept))
    if not removed and not kept:
        _print(f"nothing of {', '.join(names)} is in {weights.home}")


@app.command()
def export(words: FolderAndNames = None) -> None:
    """Copy models to a folder, for a machine without network.

    With format=onnx, write their networks as graphs, each model in a folder of its own; other OVERRIDES are those of
    `jukebox export`, as in dtype=int8.
    """
    if GRAPHS in (words or ()):
        _export_graphs(words or [])
        return
    names, weights = _parsed(words)
    folder, *models = _required(names, "export")
    _print(*catalogue.export(_required(models, f"export {folder}"), user_path(folder), weights))


def _export_graphs(words: Sequence[str]) -> None:
    overrides = [each for each in words if "=" in each and not is_path(each.partition("=")[0])]
    folder, *models = _required([each for each in words if each not in overrides], "export")
    from pipelines import commands  # needs Hydra
    from pipelines.settings.compose import EXPORT, compose
    from pipelines.settings.overrides import quoted

    chosen = catalogue.resolve(_required(models, f"export {folder}"))
    made = [
        compose(EXPORT, [f"model={name}", f"folder={quoted(str(user_path(folder) / name))}", *overrides])
        for name in chosen
    ]
    for settings in made:  # all are checked before any is exported
        commands.export(settings)


@app.command("import")
def import_models(words: FolderAndNames = None) -> None:
    """Copy models from such a folder, by default all in it."""
    names, weights = _parsed(words)
    folder, *models = _required(names, "import")
    weights = replace(weights, offline=True)
    _print(*catalogue.import_(user_path(folder), weights, models or [catalogue.ALL]))


@app.command()
def labels(words: Names = None) -> None:
    """Print the artists and genres that a model knows.

    MODEL [WORD]: those that contain the word.
    """
    names, weights = _parsed(words)
    model, *wanted = _required(names, "labels")
    found = names_of(load_preset(catalogue.resolve([model])[0]), weights)
    for word in wanted:
        kept = set(matching([name for listed in found.values() for name in listed], word))
        found = {kind: [name for name in listed if name in kept] for kind, listed in found.items()}
    for kind, listed in found.items():
        _print(*(f"{kind.removesuffix('s'):<6}  {name}" for name in listed))


@app.command()
def memory(words: Names = None) -> None:
    """Print the precision and batch size chosen on usual machines."""
    names, _ = _parsed(words)
    from jukebox_core.runtime.precision import advise, advise_transcription  # needs torch

    tables: dict[str, list[tuple[str, ...]]] = {}
    for name in catalogue.resolve(names) if names else _RELEASED:
        model = load_preset(name)
        section = "transcription" if transcribes(model.opened) else "hardware"
        head = ("MODEL", "DEVICE", "HARDWARE.DTYPE", f"{section.upper()}.BATCH_SIZE", "NEEDED")
        rows = tables.setdefault(section, [head])
        for kind, sizes in _MACHINES.items():
            for size in sizes:
                if section == "transcription":
                    advice = advise_transcription(open_transcribing(model.family), model.config, size, kind)
                else:
                    advice = advise(model.opened, model.config, size, kind)
                batch = str(advice.batch) if advice.batch else "does not fit"
                rows.append((name, advice.device, advice.dtype, batch, _rounded(advice.bytes)))
    _print(*(line for rows in tables.values() for line in format_table(rows)))


def _rounded(size: int) -> str:
    return f"{size / 1e9:.1f} GB" if size >= 1e8 else f"{size / 1e6:.0f} MB"


def _parsed(words: Sequence[str] | None) -> tuple[list[str], WeightsConfig]:
    """Returns the names among `words`, and the settings that the overrides among them make."""
    given = list(words or ())
    overrides = [each for each in given if "=" in each and not is_path(each.partition("=")[0])]
    return [each for each in given if each not in overrides], weights_settings(overrides)


def _required(names: Sequence[str], verb: str) -> Sequence[str]:
    if not names:
        raise ConfigError(f"models {verb} needs a name; `jukebox models {verb.partition(' ')[0]} --help` shows how")
    return names


def _print(*lines: object) -> None:
    for line in lines:
        sys.stdout.write(printable(str(line)) + "\n")
