"""A model's files: fetched from the sources it names, or made from a seed where it is untrained. Imports no torch."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from jukebox_core.tokens.keys import digest
from jukebox_core.weights.config import FileSpec
from jukebox_core.weights.fetch import digest as file_digest
from jukebox_core.weights.fetch import fetch_file

if TYPE_CHECKING:
    from collections.abc import Iterable

    from jukebox_core.families.jukebox.config import JukeboxConfig
    from jukebox_core.weights.config import ModelFiles, WeightsConfig
    from jukebox_core.weights.fetch import Progress

ROLES = ("vqvae", "level_0", "level_1", "level_2")
_SEED = "seed:"
_SEEDED_RECIPE = 1  # raised whenever initialisation changes, so that an older file is not taken for the new one


@dataclass(frozen=True, slots=True)
class Obtained:
    """A file that is here and verified."""

    path: Path
    sha256: str


def obtain_vocabularies(
    files: ModelFiles, weights: WeightsConfig, *, progress: Progress | None = None
) -> dict[str, Obtained]:
    """Returns the model's vocabulary files by role, fetching those that are not here yet.

    Raises:
        DownloadError: no source delivers one of them.
    """
    sources = (*weights.mirrors, *files.vocabulary_sources)
    return {role: _fetched(spec, sources, weights, progress) for role, spec in files.vocabularies.items()}


def obtain_weights(
    config: JukeboxConfig,
    files: ModelFiles,
    weights: WeightsConfig,
    *,
    roles: Iterable[str] = ROLES,
    progress: Progress | None = None,
) -> dict[str, Obtained]:
    """Returns the model's weight files by role, fetching or making those that are not here yet.

    Raises:
        DownloadError: no source delivers one of them.
    """
    seed = next((source for source in files.weight_sources if source.startswith(_SEED)), None)
    if seed is not None:
        return {role: _seeded(config, role, seed, weights) for role in roles}
    sources = (*weights.mirrors, *files.weight_sources)
    return {role: _fetched(files.weights[role], sources, weights, progress) for role in roles}


def _fetched(spec: FileSpec, sources: tuple[str, ...], weights: WeightsConfig, progress: Progress | None) -> Obtained:
    folder = Path(weights.folder).expanduser()
    path = fetch_file(spec, sources, folder, offline=weights.offline, progress=progress)
    return Obtained(path, file_digest(spec, folder))


def level_of(role: str) -> int:
    """Returns the level whose prior fills `role`, as in ``level_2``."""
    return int(role.removeprefix("level_"))


def _seeded(config: JukeboxConfig, role: str, seed: str, weights: WeightsConfig) -> Obtained:
    folder, number = Path(weights.folder).expanduser(), int(seed.removeprefix(_SEED))
    sizes = {
        "recipe": _SEEDED_RECIPE,
        "vqvae": asdict(config.vqvae),
        "prior": None if role == "vqvae" else asdict(config.priors[level_of(role)]),
    }
    name = f"{config.name}/seed-{number}-{digest(sizes)[:12]}/{role}.safetensors"
    if not (folder / name).exists():
        from jukebox_core.families.jukebox.initialise import write_seeded  # needs torch, the rest here does not

        write_seeded(config, role, number, folder / name)
    return Obtained(folder / name, file_digest(FileSpec(path=name), folder))
