"""``jukebox models``: what models there are, and fetching, verifying, finding, removing and carrying their files.

Imports no Prefect, and torch only for `memory`: each command answers at once, apart from those that move or hash
gigabytes.
"""

from __future__ import annotations

import sys
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from jukebox_core.base.text import format_bytes, format_table
from jukebox_core.errors import ConfigError, DownloadError, did_you_mean
from jukebox_core.models import catalogue
from jukebox_core.models.config import WeightsConfig  # noqa: TC001  records are built by reading annotations
from jukebox_core.models.presets import is_path, load_preset
from pipelines.licence_prompt import ask

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

HELP = """\
jukebox models COMMAND [NAMES] [OVERRIDES]

  list                  every model: size, licence, what is here, and when it was verified
  fetch NAMES           bring models here; a broken download goes on where it broke
  verify [NAMES]        hash what is here and compare; what is not as it should be is set aside
  path NAME             where a model's files are
  rm NAMES              remove models; files that another model here needs are kept. rm prepared: only what is made
                        anew when it is needed, weights as they sample (weights.prepared)
  export FOLDER NAMES   copy models to a folder, for a machine without network
  import FOLDER [NAMES] copy models from such a folder
  memory [NAMES]        which precision and how many samples side by side suit GPUs and computers of usual sizes

NAMES are models, aliases (small, best), model files (.yaml), or all.
OVERRIDES are those of the section weights, as weights.folder=/data weights.accept_licence=true
"""


_RELEASED = ("1b_lyrics", "5b", "5b_lyrics")
_MACHINES = {"cuda": (8, 16, 24, 80), "cpu": (8, 16, 32)}  # GiB: GPUs, and laptops that sample on their CPU


@dataclass(frozen=True, kw_only=True, slots=True)
class ModelsSettings:
    """What `jukebox models` is told (root conf/models.yaml)."""

    weights: WeightsConfig


def run(arguments: Sequence[str]) -> None:
    """Runs ``jukebox models`` with `arguments`.

    Raises:
        JukeboxError: what was asked for is unknown, or could not be done.
    """
    if not arguments or arguments[0] in ("-h", "--help", "help"):
        _say(HELP)
        return
    verb, *rest = arguments
    if verb not in _VERBS:
        raise ConfigError(
            f"there is no command 'models {verb}'; choose one of {', '.join(_VERBS)}{did_you_mean(verb, _VERBS)}"
        )
    overrides = [each for each in rest if "=" in each and not is_path(each.partition("=")[0])]
    names = [each for each in rest if each not in overrides]
    unknown = next((each for each in names if each.startswith("-")), None)
    if unknown is not None:
        raise ConfigError(f"models {verb} has no option {unknown}; write overrides as weights.offline=true")
    from pipelines.settings.compose import Root, compose

    _VERBS[verb](names, compose(Root("models", ModelsSettings), overrides).weights)


def _list(_names: Sequence[str], weights: WeightsConfig) -> None:
    rows: list[tuple[str, ...]] = [("MODEL", "SIZE", "HERE", "VERIFIED", "LICENCE")]
    for each in catalogue.listing(weights):
        name = f"{each.name} ({', '.join(each.aliases)})" if each.aliases else each.name
        size = ("" if each.exact else "about ") + format_bytes(each.bytes) if each.bytes else "unknown"
        here = "yes" if each.present == each.files else f"{each.present} of {each.files}" if each.present else "no"
        licence = each.licence.partition("(")[0].partition(":")[0].strip()
        rows.append((name, size, here, each.verified[:19].replace("T", " ") or "-", licence))
    for line in format_table(rows):
        _say(line)
    files, taken = catalogue.prepared(weights)
    if files:
        _say(
            f"{format_bytes(taken)} more, in {files} files, hold weights as they sample; models rm prepared frees them"
        )


def _fetch(names: Sequence[str], weights: WeightsConfig) -> None:
    for name in catalogue.resolve(_some(names, "fetch")):
        ask(load_preset(name).files, weights)
    for path in catalogue.fetch(names, weights).values():
        _say(path)


def _verify(names: Sequence[str], weights: WeightsConfig) -> None:
    faults = 0
    for each in catalogue.check(names or [catalogue.ALL], weights):
        if each.fault == catalogue.ABSENT and not names:
            continue  # nobody asked for all models to be here
        _say(f"{'ok     ' if not each.fault else 'FAULT  '}{each.path}  {each.sha256 or each.fault}")
        faults += bool(each.fault)
    if faults:
        raise DownloadError(f"{faults} files are not as they should be; fetch their models again")


def _path(names: Sequence[str], weights: WeightsConfig) -> None:
    for name in _some(names, "path"):
        for role, path in catalogue.paths(name, weights).items():
            _say(f"{role}  {path}")


def _rm(names: Sequence[str], weights: WeightsConfig) -> None:
    removed, kept = catalogue.remove(_some(names, "rm"), weights)
    for path in removed:
        _say(f"removed  {path}")
    for path in kept:
        _say(f"kept     {path}  (another model that is here needs it)")
    if not removed and not kept:
        _say(f"nothing of {', '.join(names)} is in {weights.home}")


def _export(names: Sequence[str], weights: WeightsConfig) -> None:
    folder, *models = _some(names, "export")
    for path in catalogue.export(_some(models, f"export {folder}"), Path(folder).expanduser(), weights):
        _say(path)


def _import(names: Sequence[str], weights: WeightsConfig) -> None:
    folder, *models = _some(names, "import")
    weights = replace(weights, offline=True)
    for path in catalogue.import_(Path(folder).expanduser(), weights, models or [catalogue.ALL]):
        _say(path)


def _memory(names: Sequence[str], _weights: WeightsConfig) -> None:
    from jukebox_core.runtime.precision import advise  # needs torch

    rows = [("MODEL", "DEVICE", "HARDWARE.DTYPE", "HARDWARE.BATCH_SIZE", "NEEDED")]
    for name in catalogue.resolve(names) if names else _RELEASED:
        model = load_preset(name)
        for kind, sizes in _MACHINES.items():
            for advice in (advise(model.opened, model.config, size, kind) for size in sizes):
                batch = str(advice.batch) if advice.batch else "does not fit"
                rows.append((name, advice.device, advice.dtype, batch, f"{advice.bytes / 1e9:.1f} GB"))
    for line in format_table(rows):
        _say(line)


_VERBS: dict[str, Callable[[Sequence[str], WeightsConfig], None]] = {
    "list": _list,
    "fetch": _fetch,
    "verify": _verify,
    "path": _path,
    "rm": _rm,
    "export": _export,
    "import": _import,
    "memory": _memory,
}


def _some(names: Sequence[str], verb: str) -> Sequence[str]:
    if not names:
        raise ConfigError(f"models {verb} needs a name; see: jukebox models help")
    return names


def _say(text: object) -> None:
    sys.stdout.write(f"{text}\n")
