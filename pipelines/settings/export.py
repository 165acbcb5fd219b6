"""Settings of `export` (conf/export.yaml). Imports neither torch nor OmegaConf."""

from __future__ import annotations

from dataclasses import dataclass, field

from jukebox_core.base.checks import require
from jukebox_core.errors import did_you_mean
from jukebox_core.export.config import ExportConfig
from jukebox_core.family import open_exporting
from jukebox_core.models.config import WeightsConfig  # noqa: TC001  records are built by reading annotations
from jukebox_core.models.presets import ModelSettings  # noqa: TC001  records are built by reading annotations
from pipelines.settings.common import StorageSettings


@dataclass(frozen=True, kw_only=True, slots=True)
class ExportSettings(ExportConfig):
    """All settings of `export` (root conf/export.yaml): a model's networks to graphs."""

    model: ModelSettings
    weights: WeightsConfig
    storage: StorageSettings = field(default_factory=StorageSettings)
    folder: str = "outputs/onnx/model"  # graphs and their records are written here

    def __post_init__(self) -> None:
        """Checks ranges, and that the model has the graphs."""
        ExportConfig.__post_init__(self)
        require(bool(self.folder), "folder is empty; give the folder that graphs are written to")
        known = open_exporting(self.model.family).graphs(self.model.config)
        for name in self.graphs or ():
            require(
                name in known,
                f"graphs names {name!r}; {self.model.name} has {', '.join(known)}{did_you_mean(name, known)}",
            )

    @property
    def chosen(self) -> dict[str, tuple[str, ...]]:
        """The graphs to write, and the roles of the files that each is made from."""
        known = open_exporting(self.model.family).graphs(self.model.config)
        return {name: roles for name, roles in known.items() if self.graphs is None or name in self.graphs}

    @property
    def how(self) -> ExportConfig:
        """How each graph is written."""
        return ExportConfig(format=self.format, dtype=self.dtype, opset=self.opset, inline_bytes=self.inline_bytes)
