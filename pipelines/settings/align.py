"""Settings of `align` (conf/align.yaml). Imports neither torch nor OmegaConf."""

from __future__ import annotations

from dataclasses import dataclass, field

from jukebox_core.alignment.config import AlignmentConfig
from jukebox_core.base.checks import require
from jukebox_core.models.config import WeightsConfig  # noqa: TC001  records are built by reading annotations
from jukebox_core.runtime.config import HardwareConfig  # noqa: TC001  records are built by reading annotations
from pipelines.settings.common import StorageSettings


@dataclass(frozen=True, kw_only=True, slots=True)
class AlignSettings(AlignmentConfig):
    """All settings of `align` (root conf/align.yaml): the words of a run in time with its music."""

    hardware: HardwareConfig
    weights: WeightsConfig
    storage: StorageSettings = field(default_factory=StorageSettings)
    run: str  # name or folder of a run with lyrics
    folder: str | None = None  # files are written here; null: align in the run's folder

    def __post_init__(self) -> None:
        """Checks ranges."""
        AlignmentConfig.__post_init__(self)
        require(bool(self.run), "run is empty; give the name or folder of a run")
        require(self.folder != "", "folder is empty; give the folder that files are written to, or null")

    @property
    def alignment(self) -> AlignmentConfig:
        """How the words are aligned, and what is written."""
        return AlignmentConfig(
            layer=self.layer,
            head=self.head,
            hop=self.hop,
            merge=self.merge,
            formats=self.formats,
            matrix=self.matrix,
            upstream=self.upstream,
        )
