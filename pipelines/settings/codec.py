"""Settings of `encode` and `decode` (conf/encode.yaml, conf/decode.yaml). Imports neither torch nor OmegaConf."""

from __future__ import annotations

from dataclasses import dataclass, field

from jukebox_core.base.checks import require
from jukebox_core.models.config import WeightsConfig  # noqa: TC001  records are built by reading annotations
from jukebox_core.models.presets import ModelSettings  # noqa: TC001  records are built by reading annotations
from jukebox_core.runtime.config import HardwareConfig  # noqa: TC001  records are built by reading annotations
from pipelines.settings.common import OutputSettings, StorageSettings, check_above_zero, check_not_negative


@dataclass(frozen=True, kw_only=True, slots=True)
class EncodeSettings:
    """All settings of `encode` (root conf/encode.yaml): audio files to codes."""

    model: ModelSettings
    hardware: HardwareConfig
    weights: WeightsConfig
    storage: StorageSettings = field(default_factory=StorageSettings)
    audio: tuple[str, ...]  # files to encode, one codes file each
    seconds: float | None = None  # length of the excerpt of each file; null: all of it
    offset_seconds: float = 0.0  # start within each file
    levels: tuple[int, ...] = (0, 1, 2)  # those wanted, 0 the finest
    folder: str = "outputs/codes"  # codes files are written here

    def __post_init__(self) -> None:
        """Checks ranges."""
        require(bool(self.audio), "audio is empty; name at least one file, as in audio=[song.wav]")
        check_above_zero(self, "seconds")
        check_not_negative(self, "offset_seconds")
        known = range(self.model.config.top + 1)
        require(
            bool(self.levels) and len(set(self.levels)) == len(self.levels) and all(v in known for v in self.levels),
            f"levels is {list(self.levels)}; name each of {', '.join(map(str, known))} at most once, and at least one",
        )
        require(bool(self.folder), "folder is empty; give the folder that codes are written to")

    @property
    def how(self) -> dict[str, object]:
        """The settings that decide the content of a codes file, besides the model."""
        return {"seconds": self.seconds, "offset_seconds": self.offset_seconds, "levels": list(self.levels)}


@dataclass(frozen=True, kw_only=True, slots=True)
class DecodeSettings:
    """All settings of `decode` (root conf/decode.yaml): codes to audio."""

    model: ModelSettings
    hardware: HardwareConfig
    weights: WeightsConfig
    storage: StorageSettings = field(default_factory=StorageSettings)
    output: OutputSettings = field(default_factory=OutputSettings)
    codes: tuple[str, ...]  # codes files written by encode, one audio file each
    level: int = 0  # the level whose codes are decoded
    folder: str = "outputs/audio"  # audio files are written here

    def __post_init__(self) -> None:
        """Checks ranges."""
        require(bool(self.codes), "codes is empty; name at least one file, as in codes=[outputs/codes/song.npz]")
        known = range(self.model.config.top + 1)
        require(self.level in known, f"level is {self.level}; choose one of {', '.join(map(str, known))}")
        require(bool(self.folder), "folder is empty; give the folder that audio is written to")

    @property
    def how(self) -> dict[str, object]:
        """The settings that decide the content of an audio file, besides the model."""
        return {"level": self.level, "format": self.output.format}
