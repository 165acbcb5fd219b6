"""Settings of `dataset`, as a frozen record. Imports neither torch nor OmegaConf."""

from __future__ import annotations

from dataclasses import dataclass

from jukebox_core.datasets.config import CheckConfig  # noqa: TC001  records are built by reading annotations
from jukebox_core.errors import ConfigError
from jukebox_core.models.config import WeightsConfig  # noqa: TC001  records are built by reading annotations
from jukebox_core.models.presets import ModelSettings  # noqa: TC001  records are built by reading annotations
from jukebox_core.runtime.config import HardwareConfig  # noqa: TC001  records are built by reading annotations
from pipelines.settings.common import StorageSettings  # noqa: TC001  records are built by reading annotations


@dataclass(frozen=True, kw_only=True, slots=True)
class DatasetSettings:
    """All settings of `dataset` (root conf/dataset.yaml): recordings to check and encode."""

    model: ModelSettings
    hardware: HardwareConfig
    weights: WeightsConfig
    storage: StorageSettings
    audio: str  # the folder of recordings, and of their metadata
    metadata: str | None = None  # the file of metadata; null: metadata.csv or metadata.jsonl in that folder
    checks: CheckConfig
    check_labels: bool = True  # whether the model must have the labels of every song
    encode: bool = True  # false: check only
    folder: str = "outputs/dataset"  # codes, their index and the report are written here

    def __post_init__(self) -> None:
        """Checks that both folders are named."""
        for name in ("audio", "folder"):
            if not getattr(self, name):
                raise ConfigError(f"{name} is empty; name a folder")
