"""Settings of `align` (conf/align.yaml). Imports neither torch nor OmegaConf."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

from jukebox_core.base.checks import require
from jukebox_core.models.config import WeightsConfig  # noqa: TC001  records are built by reading annotations
from jukebox_core.runtime.config import HardwareConfig  # noqa: TC001  records are built by reading annotations
from pipelines.settings.common import StorageSettings, check_not_negative

TextFormat = Literal["json", "lrc", "srt", "vtt", "TextGrid"]


@dataclass(frozen=True, kw_only=True, slots=True)
class AlignSettings:
    """All settings of `align` (root conf/align.yaml): the words of a run in time with its music."""

    hardware: HardwareConfig
    weights: WeightsConfig
    storage: StorageSettings = field(default_factory=StorageSettings)
    run: str  # name or folder of a run with lyrics
    layer: int | None = None  # whose attention is read, counted from 0; null: as the model's settings say
    head: int | None = None  # of that layer
    hop: float = 0.125  # start of a window after the one before, as a share of the context
    merge: Literal["mean", "first"] = "mean"  # of windows that overlap; first is upstream's
    formats: tuple[TextFormat, ...] = ("json", "lrc", "srt", "vtt", "TextGrid")
    matrix: bool = False  # also write the weights
    folder: str | None = None  # files are written here; null: align in the run's folder

    def __post_init__(self) -> None:
        """Checks ranges."""
        check_not_negative(self, "layer", "head")
        require(0 < self.hop <= 1, f"hop is {self.hop}; it must be above 0 and at most 1, a share of the context")
        require(bool(self.formats) or self.matrix, "formats is empty and matrix is false; ask for at least one of them")
        require(bool(self.run), "run is empty; give the name or folder of a run")
        require(self.folder != "", "folder is empty; give the folder that files are written to, or null")
