"""Settings of `transcribe` and `evaluate` (conf/transcribe.yaml, conf/evaluate.yaml). No torch, no OmegaConf."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal

from jukebox_core.base.checks import require
from jukebox_core.family import family_of, open_transcribing
from jukebox_core.models.config import WeightsConfig  # noqa: TC001  records are built by reading annotations
from jukebox_core.models.presets import ModelSettings  # noqa: TC001  records are built by reading annotations
from jukebox_core.runtime.config import HardwareConfig  # noqa: TC001  records are built by reading annotations
from pipelines.settings.common import RunnerSettings, StorageSettings

if TYPE_CHECKING:
    from collections.abc import Mapping

_DTYPES = ("auto", "float32", "bfloat16", "int8")


@dataclass(frozen=True, kw_only=True, slots=True)
class TranscribeSettings:
    """All settings of `transcribe` (root conf/transcribe.yaml): recordings to notes."""

    model: ModelSettings
    hardware: HardwareConfig
    weights: WeightsConfig
    storage: StorageSettings = field(default_factory=StorageSettings)
    runner: RunnerSettings = field(default_factory=RunnerSettings)
    audio: tuple[str, ...]  # files, folders of files, and runs by name or folder
    folder: str = "outputs/transcripts"  # files of notes are written here
    midi: bool = True  # write a MIDI file beside the JSON file
    csv: bool = False  # write a CSV file beside the JSON file
    lines: bool = False  # write each note as a line of JSON when it is found, while a long recording is read
    report: bool = False  # write a page with a piano roll over the spectrogram, and the notes as sound
    soundfont: str | None = None  # an .sf2 file for the notes of the page, played by FluidSynth; null: own instruments
    transcription: Any  # the family's `transcription_type`

    @classmethod
    def section_types(cls, data: Mapping[str, Any]) -> dict[str, Any]:
        """Returns the type of the section that the model's family decides; without a model nothing is decided."""
        if "model" not in data:
            return {}
        return {"transcription": open_transcribing(family_of(data.get("model")).name).transcription_type}

    def __post_init__(self) -> None:
        """Checks ranges."""
        require(bool(self.audio), "audio is empty; name at least one file or folder, as in audio=[song.wav]")
        require(bool(self.folder), "folder is empty; give the folder that notes are written to")
        require(
            self.report or self.soundfont is None,
            f"soundfont is {self.soundfont}, but report is false, and only the page has sound; set report=true",
        )
        require(
            self.hardware.dtype in _DTYPES,
            f"hardware.dtype is {self.hardware.dtype!r}; transcription computes in one of {', '.join(_DTYPES)}",
        )
        open_transcribing(self.model.family).check_transcription(self.model.config, self.transcription)


@dataclass(frozen=True, kw_only=True, slots=True)
class EvaluateSettings:
    """All settings of `evaluate` (root conf/evaluate.yaml): notes, scored or described."""

    estimate: str  # notes: a MIDI file, a JSON file of `transcribe`, a folder of these, or a run that was transcribed
    reference: str | None = None  # the right notes, likewise; null: statistics of the estimate instead of scores
    granularity: Literal["flat", "midi_class", "full"] = "full"  # programs that count as equal: all, of a class, none
    storage: StorageSettings = field(default_factory=StorageSettings)
    folder: str = "outputs/transcripts"  # where the transcripts of runs are
    json: bool = False  # print JSON instead of a table

    def __post_init__(self) -> None:
        """Checks that the paths are named."""
        for name in ("reference", "estimate", "folder"):
            require(getattr(self, name) != "", f"{name} is empty; give a MIDI file, a JSON file of notes, or a folder")
