"""Settings of `vamp` and `inpaint` (conf/vamp.yaml, conf/inpaint.yaml). Imports neither torch nor OmegaConf."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from jukebox_core.base.checks import require
from jukebox_core.family import family_of, open_varying
from jukebox_core.models.config import WeightsConfig  # noqa: TC001  records are built by reading annotations
from jukebox_core.models.presets import ModelSettings  # noqa: TC001  records are built by reading annotations
from jukebox_core.runtime.config import HardwareConfig  # noqa: TC001  records are built by reading annotations
from pipelines.settings.common import (
    OutputSettings,
    RunnerSettings,
    RunSettings,
    StorageSettings,
    check_above_zero,
    check_not_negative,
)

if TYPE_CHECKING:
    from collections.abc import Mapping

    from jukebox_core.protocols import VaryingFamily


@dataclass(frozen=True, kw_only=True, slots=True)
class _Recordings:
    """What both commands have."""

    run: RunSettings
    model: ModelSettings
    sampling: Any  # the family's `sampling_type`; `n_samples` counts variations of each recording
    hardware: HardwareConfig
    weights: WeightsConfig
    storage: StorageSettings = field(default_factory=StorageSettings)
    output: OutputSettings = field(default_factory=OutputSettings)
    runner: RunnerSettings = field(default_factory=RunnerSettings)
    audio: tuple[str, ...]  # files, folders of files, and runs by name or folder

    @property
    def family(self) -> VaryingFamily:
        """The model's family."""
        return open_varying(self.model.family)

    def check_recordings(self) -> None:
        """Checks that recordings are named."""
        require(
            bool(self.audio) and all(self.audio), "audio is empty; name a file, a folder or a run: audio=[song.wav]"
        )
        _ = self.family


@dataclass(frozen=True, kw_only=True, slots=True)
class VampSettings(_Recordings):
    """All settings of `vamp`: recordings to variations."""

    mask: Any  # the family's `mask_type`
    seconds: float | None = None  # length of the excerpt of each recording; null: to its end
    offset_seconds: float = 0.0  # start within each recording

    @classmethod
    def section_types(cls, data: Mapping[str, Any]) -> dict[str, Any]:
        """Returns the types of the sections that the model's family decides; without a model nothing is decided."""
        if "model" not in data:
            return {}
        family = open_varying(family_of(data["model"]).name)
        return {"sampling": family.sampling_type, "mask": family.mask_type}

    def __post_init__(self) -> None:
        """Checks ranges."""
        self.check_recordings()
        check_above_zero(self, "seconds")
        check_not_negative(self, "offset_seconds")


@dataclass(frozen=True, kw_only=True, slots=True)
class InpaintSettings(_Recordings):
    """All settings of `inpaint`: a part of a recording is made again."""

    start: float  # seconds: where the part that is made again begins ...
    stop: float  # ... and where it ends

    @classmethod
    def section_types(cls, data: Mapping[str, Any]) -> dict[str, Any]:
        """Returns the type of the section that the model's family decides; without a model nothing is decided."""
        return {"sampling": open_varying(family_of(data["model"]).name).sampling_type} if "model" in data else {}

    def __post_init__(self) -> None:
        """Checks that the times rise."""
        self.check_recordings()
        check_not_negative(self, "start", "stop")
        _ = self.family.hole(self.start, self.stop)

    @property
    def as_vamp(self) -> VampSettings:
        """The same as settings of `vamp`."""
        return VampSettings(
            run=self.run,
            model=self.model,
            sampling=self.sampling,
            hardware=self.hardware,
            weights=self.weights,
            storage=self.storage,
            output=self.output,
            runner=self.runner,
            audio=self.audio,
            mask=self.family.hole(self.start, self.stop),
        )
