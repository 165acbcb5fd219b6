"""A golden model as users have one: files on a web server, a model file, and the command line in an empty folder."""

from __future__ import annotations

import hashlib
import os
import subprocess
import sys
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
import yaml

from jukebox_core import Jukebox, Song, load_model
from jukebox_core.base.structuring import to_plain
from jukebox_core.composer.builtin import BUILTIN_TUNE
from jukebox_core.runtime.config import HardwareConfig
from tests.helpers.models import zoo
from tests.helpers.paths import SHARED
from tests.helpers.servers.servers import Site, serving

if TYPE_CHECKING:
    from collections.abc import Iterator

    from jukebox_core.families.jukebox.config import JukeboxConfig

COMMAND = Path(sys.executable).with_name("jukebox")
MODELS, DATA = "jukebox/models", "jukebox/data"  # the released files lie below such folders
LICENCE = "made up for a test"
LYRICS = "row row row your boat, gently down the stream! merrily, merrily: life is but a dream. " * 2


def clip() -> str:
    """The prompt: a piece of music if the file exists, else the built-in tune."""
    file = SHARED / "audio/bach.mp3"
    return str(file) if file.is_file() else BUILTIN_TUNE


def song(config: JukeboxConfig) -> Song:
    """The song of all tests: labels, and lyrics if the model has any."""
    words = LYRICS if config.priors[config.top].lyrics else ""
    return Song(artist="Alan Jackson", genre="Country", lyrics=words)


def vocabularies(config: JukeboxConfig) -> dict[str, bytes]:
    """The vocabulary files that a model needs, by role: the released ones, or short ones that are made up."""
    kinds = {prior.labels.vocabulary for prior in config.priors if prior.labels}
    names = {f"{noun}s_{kind}": f"{kind}_{noun}_ids.txt" for kind in kinds for noun in ("artist", "genre")}
    if all((SHARED / "vocab" / name).is_file() for name in names.values()):
        return {role: (SHARED / "vocab" / name).read_bytes() for role, name in names.items()}
    known = {"artists_v2": "alan_jackson", "artists_v3": "alan jackson", "genres_v2": "country", "genres_v3": "country"}
    return {role: f"unknown;0\nsomething else;1\n{known[role]};2\n".encode() for role in names}


def served_files(
    weights: dict[str, Path], names: dict[str, bytes]
) -> tuple[dict[str, str], dict[str, str], dict[str, bytes]]:
    """Paths of weights and of vocabularies by role, and the served contents by path on the server."""
    paths = {role: f"{path.parent.name}/{path.name}" for role, path in weights.items()}
    lists = {role: f"ids/{role[-2:]}_{role[:-4]}_ids.txt" for role in names}
    served = {f"{MODELS}/{paths[role]}": path.read_bytes() for role, path in weights.items()}
    return paths, lists, served | {f"{DATA}/{lists[role]}": text for role, text in names.items()}


def model_text(config: JukeboxConfig, url: str, paths: dict[str, str], lists: dict[str, str]) -> str:
    """The model's own file; that neither size nor digest of a file was published is the usual case."""

    def spec(path: str) -> dict[str, object]:
        return {"path": path, "bytes": None, "about_bytes": None, "sha256": None}

    priors = {f"level_{prior.level}": to_plain(prior) for prior in config.priors}
    files = {
        "weight_sources": [f"{url}/{MODELS}"],
        "vocabulary_sources": [f"{url}/{DATA}"],
        "weights": {role: spec(path) for role, path in paths.items()},
        "vocabularies": {role: spec(path) for role, path in lists.items()},
        "licence": LICENCE,
        "terms": "made up",
    }
    network = {"vqvae": to_plain(config.vqvae), "priors": priors}
    model = {"name": config.name, "family": "jukebox", "network": network, "files": files, "trained": True}
    return yaml.safe_dump(model, sort_keys=False)


@dataclass
class Workspace:
    """A folder, the model's hyperparameters and digests, and the servers that its commands use."""

    config: JukeboxConfig
    site: Site
    folder: Path
    prefect: str  # address of a Prefect server
    sha256: dict[str, str]  # of the weight files served, by role
    said: dict[str, str] = field(default_factory=dict)  # stderr of runs, by name

    @property
    def model(self) -> Path:
        return self.folder / "model.yaml"

    @property
    def weights(self) -> Path:
        return self.folder / "weights"

    @property
    def work(self) -> Path:
        return self.folder / "work"

    @property
    def outputs(self) -> Path:
        return self.work / "outputs"

    @property
    def song_overrides(self) -> tuple[str, ...]:
        """The song, as overrides."""
        labels = song(self.config)
        return tuple(f"song.{name}='{getattr(labels, name)}'" for name in ("artist", "genre", "lyrics"))

    @property
    def windows(self) -> dict[Path, tuple[int, int]]:
        """The stored windows: size and time of each file, which change if it is written again."""
        found = (path for path in (self.outputs / ".store/windows").rglob("*") if path.is_file())
        return {path: (path.stat().st_size, path.stat().st_mtime_ns) for path in found}

    def jukebox(self, *arguments: str, alone: bool = False) -> subprocess.CompletedProcess[str]:
        """Runs a command to its end, in the folder of work, and returns it; it must succeed.

        `alone`: it starts a Prefect server of its own, as without any configuration of Prefect.
        """
        keep = {name: value for name, value in os.environ.items() if not name.startswith(("PREFECT_", "JUKEBOX_"))}
        own = {"HOME": str(self.folder), "JUKEBOX_WEIGHTS": str(self.weights), "NO_PROXY": "127.0.0.1"}
        own["JUKEBOX_ACCEPT_LICENCE"] = "1"
        api = {} if alone else {"PREFECT_API_URL": self.prefect}
        self.work.mkdir(exist_ok=True)
        done = subprocess.run(
            [COMMAND, *arguments, "hardware.device=cpu", "hardware.threads=1"],
            cwd=self.work,
            env=keep | own | api,
            capture_output=True,
            text=True,
            timeout=300,
            check=False,
        )
        assert done.returncode == 0, f"{arguments}\n{done.stdout}\n{done.stderr}"
        return done

    def python(self) -> Jukebox:
        """The same model in Python, from the files that the commands fetched."""
        return load_model(
            self.model, hardware=HardwareConfig(device="cpu", threads=1), folder=self.weights, offline=True
        )

    def run(self, name: str, *arguments: str, alone: bool = False) -> Path:
        """Runs a command that makes a run of that name, and returns its folder."""
        done = self.jukebox(*arguments, f"run.name={name}", alone=alone)
        self.said[name] = done.stderr
        return self.outputs / name


@contextmanager
def open_workspace(golden: Path, kind: str, folder: Path, prefect: str) -> Iterator[Workspace]:
    """A workspace with a model of `kind`; its files can be fetched while the block runs."""
    if not COMMAND.is_file():
        pytest.skip(f"{COMMAND} is absent: the project is not installed")
    config, weights = zoo.config(golden, kind), zoo.files(golden, kind)
    paths, lists, served = served_files(weights, vocabularies(config))
    sha256 = {role: hashlib.sha256(served[f"{MODELS}/{path}"]).hexdigest() for role, path in paths.items()}
    with serving(served) as site:
        found = Workspace(config, site, folder, prefect, sha256)
        found.model.write_text(model_text(config, site.url, paths, lists))
        yield found
