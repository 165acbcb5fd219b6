"""Settings of `features` (conf/features.yaml). Imports neither torch nor OmegaConf."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from jukebox_core.base.checks import require
from jukebox_core.base.hashing import digest
from jukebox_core.base.paths import user_path
from jukebox_core.errors import ConfigError
from jukebox_core.family import family_of
from jukebox_core.features.config import FeatureConfig  # noqa: TC001  records are built by reading annotations
from jukebox_core.features.plan import plan_features
from jukebox_core.models.config import WeightsConfig  # noqa: TC001  records are built by reading annotations
from jukebox_core.models.presets import ModelSettings  # noqa: TC001  records are built by reading annotations
from jukebox_core.models.stored import to_stored
from jukebox_core.runtime.config import HardwareConfig  # noqa: TC001  records are built by reading annotations
from pipelines.settings.common import RunnerSettings, StorageSettings, check_above_zero, check_not_negative

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from jukebox_core.features.plan import FeaturePlan


@dataclass(frozen=True, kw_only=True, slots=True)
class FeaturesSettings:
    """All settings of `features` (root conf/features.yaml): recordings to arrays of codes and activations."""

    model: ModelSettings
    features: FeatureConfig
    song: Any = None  # the family's `song_type`: conditioning of recordings whose table says nothing else
    hardware: HardwareConfig
    weights: WeightsConfig
    storage: StorageSettings = field(default_factory=StorageSettings)
    runner: RunnerSettings = field(default_factory=RunnerSettings)
    audio: tuple[str, ...]  # files, folders, patterns and tables
    seconds: float | None = None  # length of the excerpt of each recording; null: all of it
    offset_seconds: float = 0.0  # start within each recording
    use_labels: bool = False  # condition the network on columns of tables, such as artist; they are kept in any case
    group: int = 8  # recordings that one task computes
    folder: str | None = None  # null: below storage.root, named after the settings

    @classmethod
    def section_types(cls, data: Mapping[str, Any]) -> dict[str, Any]:
        """Returns the type of `song`, which the model's family decides."""
        return {"song": family_of(data.get("model")).song_type}

    def __post_init__(self) -> None:
        """Checks ranges, and that the recipe fits the model."""
        if self.song is None:
            object.__setattr__(self, "song", self.model.opened.song_type())
        require(bool(self.audio), "audio is empty; name at least one file or folder, as in audio=[songs/]")
        check_above_zero(self, "seconds", "group")
        check_not_negative(self, "offset_seconds")
        require(self.folder != "", "folder is empty; give the folder that arrays are written to, or null")
        try:
            _ = self.plan
        except ConfigError as error:
            raise ConfigError(f"features.{error}") from None

    @property
    def plan(self) -> FeaturePlan:
        """How the recipe is computed with the model."""
        return plan_features(self.model, self.features)

    @property
    def path(self) -> Path:
        """The folder that is written to: the same settings have the same, so that a repeated command resumes."""
        if self.folder is not None:
            return user_path(self.folder)
        everything = to_stored(self)
        kept = ("model", "features", "song", "audio", "seconds", "offset_seconds", "use_labels")
        identity = {name: everything[name] for name in kept} | {"dtype": self.hardware.dtype}
        name = f"{self.model.name}-{self.features.name}-{digest(identity)[:8]}"
        return user_path(self.storage.root) / "features" / name
