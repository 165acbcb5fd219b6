"""Settings of `generate`, `continue` and `upsample`, as frozen records. Imports neither torch nor OmegaConf.

`conf/generate.yaml` mirrors `Settings` one to one; `pipelines.settings.compose` builds it from there. The sections
model, sampling, hardware and weights are records of the core. A record checks its own values; `Settings` also checks
them against each other, with dotted keys in its messages.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal

from jukebox_core.alignment.config import AlignmentConfig
from jukebox_core.base.checks import require
from jukebox_core.base.structuring import to_plain
from jukebox_core.errors import ConfigError
from jukebox_core.family import Family, family_of, varies
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


_DAY = 86_400  # seconds


@dataclass(frozen=True, kw_only=True, slots=True)
class PromptSettings:
    """Audio that the songs start with."""

    files: tuple[str, ...] = ()  # recordings to continue: one a sample, repeated in order if fewer; empty: none
    seconds: float | None = None  # length of the excerpt of each file; null: all of it, at most the song's length
    offset_seconds: float = 0.0  # start within each file

    def __post_init__(self) -> None:
        """Checks ranges."""
        check_above_zero(self, "seconds")
        check_not_negative(self, "offset_seconds")


@dataclass(frozen=True, kw_only=True, slots=True)
class ChooseSettings:
    """The level after which a run stops, so that a user can listen and choose how to continue."""

    after_level: int | None = None  # the last level that is sampled before the choice; null: no choice, all levels

    def __post_init__(self) -> None:
        """Checks ranges."""
        require(
            self.after_level is None or self.after_level > 0,
            f"after_level is {self.after_level}; choose after level 2 or 1, or never (null): below level 0 is nothing",
        )


@dataclass(frozen=True, kw_only=True, slots=True)
class SpliceSettings:
    """A range of an earlier run's sample, appended to the kept music."""

    run: str  # its name or folder
    sample: int = 0
    from_seconds: float = 0.0
    to_seconds: float | None = None  # null: to its end

    def __post_init__(self) -> None:
        """Checks ranges."""
        check_not_negative(self, "sample", "from_seconds")
        require(bool(self.run), "run is empty; give the name or folder of the run to take from")
        require(
            self.to_seconds is None or self.from_seconds < self.to_seconds < math.inf,
            f"to_seconds is {self.to_seconds}; it must be above from_seconds={self.from_seconds:g} and finite",
        )


@dataclass(frozen=True, kw_only=True, slots=True)
class SourceSettings:
    """The run that `continue` or `upsample` starts from, and the part of it that is kept."""

    run: str  # its folder
    command: Literal["continue", "upsample"]
    samples: tuple[int, ...] = ()  # its samples that songs start from; one: for all songs; empty: each from its own
    keep_seconds: float | None = None  # continue: length of the kept music; null keeps all of it
    splice: tuple[SpliceSettings, ...] = ()  # continue: ranges of other samples, appended to the kept music in order

    def __post_init__(self) -> None:
        """Checks ranges."""
        check_above_zero(self, "keep_seconds")
        require(
            all(sample >= 0 for sample in self.samples),
            f"samples is {list(self.samples)}; samples are counted from 0",
        )
        require(
            self.keep_seconds is None or self.command == "continue",
            f"keep_seconds is {self.keep_seconds}, but {self.command} keeps the whole run; set it to null",
        )
        require(
            not self.splice or self.command == "continue",
            f"splice has {len(self.splice)} entries, but {self.command} keeps the run as it is; use continue",
        )


@dataclass(frozen=True, kw_only=True, slots=True)
class Settings:
    """All settings of `generate`, `continue` and `upsample` (root conf/generate.yaml); a `RunRequest` of the family.

    The model's family decides which records `sampling`, `song` and the entries of `songs` are.
    """

    run: RunSettings
    model: ModelSettings
    sampling: Any  # the family's `sampling_type`
    hardware: HardwareConfig
    seconds: float  # length of the music, prompt included; rounded down to whole top-level tokens
    song: Any = None  # the family's `song_type`
    songs: tuple[Any, ...] = ()  # what differs from `song` in each sample, as in [{genre: waltz}, {genre: march}]
    prompt: PromptSettings = PromptSettings()
    storage: StorageSettings = field(default_factory=StorageSettings)
    weights: WeightsConfig
    output: OutputSettings = field(default_factory=OutputSettings)
    runner: RunnerSettings = field(default_factory=RunnerSettings)
    choose: ChooseSettings = ChooseSettings()
    align: bool = False  # bring the words in time with the music, as `alignment` says
    alignment: AlignmentConfig = field(default_factory=AlignmentConfig)
    source: SourceSettings | None = None  # set by continue and upsample

    @classmethod
    def section_types(cls, data: Mapping[str, Any]) -> dict[str, Any]:
        """Returns the types of the sections that the model's family decides."""
        family = family_of(data.get("model"))
        return {
            "sampling": family.sampling_type,
            "song": family.song_type,
            "songs": tuple[family.song_overrides_type, ...],  # type: ignore[name-defined]
        }

    def __post_init__(self) -> None:
        """Checks the settings against each other; every message names the dotted keys."""
        if varies(self.family):
            require(
                bool(self.prompt.files) and self.source is None,
                f"models of the family {self.model.family} vary recordings, and make no music from nothing; use "
                "`jukebox vamp audio=[song.wav]`, or choose another model, as model=mini",
            )
        if self.song is None:
            object.__setattr__(self, "song", self.family.song_type())
        require(not self.seconds > _DAY, f"seconds is {self.seconds:g}; a song lasts at most a day, {_DAY:,} s")
        _ = self.length
        start = self.prompt.seconds
        require(
            start is None or start < self.seconds,
            f"prompt.seconds is {start}, which leaves nothing to sample of seconds={self.seconds}; "
            "make the prompt shorter or the song longer",
        )
        require(
            self.choose.after_level is None or self.choose.after_level <= self.config.top,
            f"choose.after_level is {self.choose.after_level}, but {self.model.name} has no level above "
            f"{self.config.top}; choose one of its levels, or null",
        )
        dtype, dtypes = self.hardware.dtype, self.family.dtypes
        require(
            dtype in ("auto", *dtypes),
            f"hardware.dtype is {dtype!r}; models of the family {self.model.family} sample in {', '.join(dtypes)}",
        )
        self._check_songs()

    @property
    def family(self) -> Family:
        """The model's family."""
        return self.model.opened

    @property
    def config(self) -> Any:
        """The model's hyperparameters, the family's `ModelConfig`."""
        return self.model.config

    @property
    def dtype(self) -> str:
        """Precision of the weights."""
        return self.hardware.dtype

    @property
    def levels(self) -> range:
        """The levels that are sampled, finest first."""
        return range(self.sampling.stop_level, self.config.top + 1)

    @property
    def roles(self) -> tuple[str, ...]:
        """The roles of the weights that the run uses: the codec, and the network of each sampled level."""
        return (self.family.codec_role, *dict.fromkeys(self.family.role_of(level) for level in self.levels))

    @property
    def length(self) -> int:
        """Length of the music in audio samples: whole top-level tokens, so that every level ends together."""
        return self.family.length(self)

    def song_of(self, sample: int) -> Any:
        """Returns the conditioning of the song of one sample, with values for what the settings leave to the model."""
        return self._completed(sample, self.model.usual_seconds)

    @property
    def filled_in(self) -> list[dict[str, Any]]:
        """The fields of each song that the settings leave to the model: names and values."""
        pairs = [
            (to_plain(self._asked(sample)), to_plain(self.song_of(sample))) for sample in range(self.sampling.n_samples)
        ]
        return [{name: value for name, value in full.items() if value != asked[name]} for asked, full in pairs]

    @property
    def uses_usual_length(self) -> bool:
        """Whether the model's usual length changes the conditioning of a song."""
        usual = self.model.usual_seconds
        return usual is not None and any(
            self._completed(sample, usual) != self._completed(sample, None) for sample in range(len(self.songs) or 1)
        )

    def _asked(self, sample: int) -> Any:
        return self.songs[sample].apply(self.song) if self.songs else self.song

    def _completed(self, sample: int, usual_seconds: float | None) -> Any:
        return self.family.complete_song(self.config, self._asked(sample), self.seconds, usual_seconds)

    def _check_songs(self) -> None:
        samples = self.sampling.n_samples
        require(
            len(self.songs) in (0, samples),
            f"songs has {len(self.songs)} entries but sampling.n_samples is {samples}; "
            "give one for each sample, or none to use `song` for all",
        )
        for sample in range(len(self.songs) or 1):
            where = f"songs.{sample}" if self.songs else "song"
            try:
                self.family.check_song(self.config, self.song_of(sample), self.seconds)
            except ConfigError as error:
                raise ConfigError(f"{where}.{error}") from None
