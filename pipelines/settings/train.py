"""Everything `train` is told, as one tree of frozen records. Imports neither torch nor OmegaConf.

`conf/train.yaml` mirrors `TrainSettings` one to one.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from jukebox_core.composer.config import AlbumConfig  # noqa: TC001  records are built by reading annotations
from jukebox_core.datasets.config import CheckConfig
from jukebox_core.errors import ConfigError, did_you_mean
from jukebox_core.families.jukebox.training.config import NewNames, TrainingConfig
from jukebox_core.models.config import WeightsConfig  # noqa: TC001
from jukebox_core.models.presets import ModelSettings  # noqa: TC001
from jukebox_core.models.resolve import seed_of
from pipelines.settings.common import StorageSettings


@dataclass(frozen=True, kw_only=True, slots=True)
class DataSettings:
    """The music that a model learns from."""

    audio: str | None = None  # folder of audio files, with metadata.csv or metadata.jsonl
    metadata: str | None = None  # that file, where it lies elsewhere
    codes: str | None = None  # folder that `jukebox dataset` made; null: made from the audio, beside the model
    checks: CheckConfig = field(default_factory=CheckConfig)  # what recordings must be like
    validation: float = 0.05  # share of the songs that is held out

    def __post_init__(self) -> None:
        """Checks ranges."""
        if not 0 <= self.validation < 1:
            raise ConfigError(f"validation is {self.validation}; it is the share of songs held out: from 0 to below 1")


@dataclass(frozen=True, kw_only=True, slots=True)
class TrainSettings:
    """Everything `train` is told (root conf/train.yaml)."""

    model: ModelSettings
    training: TrainingConfig
    weights: WeightsConfig
    storage: StorageSettings = field(default_factory=StorageSettings)
    data: DataSettings
    album: AlbumConfig | None = None  # music that the composer makes first; null: what data names is there
    parts: tuple[str, ...] = ("vqvae", "level_2", "level_1", "level_0")  # what is trained, in this order
    start: Literal["new", "model"] = "new"  # new: from random weights; model: from the model's own
    labels: NewNames = field(default_factory=NewNames)  # artists and genres that the model learns in addition
    name: str  # of the model that is made
    licence: str = "its maker's; nothing was said of others' use"  # of its weights, in a line
    folder: str  # receives the model; what is there already is gone on from
    checkpoints: str | None = None  # what a killed training goes on from: any address; null: <folder>/training

    def __post_init__(self) -> None:
        """Checks the settings against each other; every message names the dotted keys."""
        roles = self.model.opened.roles(self.model.config)
        for part in self.parts:
            if part not in roles:
                raise ConfigError(
                    f"parts names {part!r}, but {self.model.name} consists of {', '.join(roles)}; "
                    f"take it out of parts{did_you_mean(part, roles)}"
                )
        if not self.parts or len(set(self.parts)) != len(self.parts):
            raise ConfigError(f"parts is {list(self.parts)}; name at least one part, and each once")
        if "vqvae" in self.parts[1:]:
            raise ConfigError(f"parts is {list(self.parts)}; the VQ-VAE comes first: priors learn its codes")
        if self.audio is None and ("vqvae" in self.parts or self.data.codes is None):
            raise ConfigError("data.audio is null; name the folder of music to learn from, as in data.audio=/my/music")
        if self.data.codes is not None and "vqvae" in self.parts:
            raise ConfigError(
                f"data.codes is {self.data.codes!r}, but the VQ-VAE is trained too and its codes are not known yet; "
                "set data.codes to null, or leave vqvae out of parts"
            )
        if self.checkpoints is not None and "://" in self.checkpoints and self.training.devices.strategy == "fsdp":
            raise ConfigError(
                f"checkpoints is {self.checkpoints!r}, but with training.devices.strategy=fsdp they are written to a "
                "disk that all processes see; name a folder there, or null"
            )
        if self.start == "model" and not self.model.trained:
            raise ConfigError(
                f"start is 'model', but {self.model.name} is untrained; set start=new, or choose a trained model"
            )

    @property
    def audio(self) -> str | None:
        """The folder of music."""
        return self.album.folder if self.album is not None else self.data.audio

    @property
    def codes(self) -> str:
        """The folder of codes that priors learn from."""
        return str(Path(self.data.codes or f"{self.folder}/codes").expanduser())

    @property
    def given(self) -> tuple[str, ...]:
        """The parts whose weights the model brings, because something is done with them."""
        return tuple(role for role in self.model.files.weights if self._is_used(role))

    def _is_used(self, role: str) -> bool:
        if role in self.parts:
            return self.start == "model"
        if role == "vqvae" or seed_of(self.model.files) is not None:
            return True  # encodes the songs; is copied into the new folder
        return bool(self.labels.artists or self.labels.genres)  # is given more rows
