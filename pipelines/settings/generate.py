"""Everything a command is told, as one tree of frozen records. Imports neither torch nor OmegaConf.

`conf/generate.yaml` mirrors `Settings` one to one, `conf/encode.yaml` mirrors `EncodeSettings` and `conf/decode.yaml`
`DecodeSettings`; `pipelines.settings.compose` turns the one into the other. Records that the core has already (model,
sampling, hardware, weights) are used as they are. A record checks its own values; `Settings` also checks them against
each other, and names the dotted keys concerned.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, fields, replace
from typing import Literal

from jukebox_core.errors import ConfigError
from jukebox_core.families.jukebox.conditioning.lengths import SongTimes, music_length, song_times
from jukebox_core.families.jukebox.conditioning.vocabulary import UNKNOWN
from jukebox_core.models.config import WeightsConfig  # noqa: TC001  records are built by reading annotations
from jukebox_core.models.presets import ModelSettings  # noqa: TC001  records are built by reading annotations
from jukebox_core.runtime.config import HardwareConfig
from jukebox_core.sampling.config import SamplingConfig  # noqa: TC001  records are built by reading annotations
from jukebox_core.store.config import SpoolConfig

AudioFormat = Literal["wav", "flac", "mp3"]
_SPOOL = SpoolConfig()


def _require(condition: bool, message: str) -> None:
    if not condition:
        raise ConfigError(message)


def _not_negative(owner: object, *names: str) -> None:
    for name in names:
        value = getattr(owner, name)
        _require(value is None or 0 <= value < math.inf, f"{name} is {value}; it cannot be negative or infinite")


def _above_zero(owner: object, *names: str) -> None:
    for name in names:
        value = getattr(owner, name)
        _require(value is None or 0 < value < math.inf, f"{name} is {value}; it must be above 0 and finite")


@dataclass(frozen=True, kw_only=True, slots=True)
class RunSettings:
    """What the run is called."""

    name: str | None = None  # the run's folder below storage.root; null names it after its settings
    wait: bool = False  # where another process works on this run, wait until it ends; else leave

    def __post_init__(self) -> None:
        """Checks that the name is one folder's name."""
        name = self.name
        _require(
            name is None or (name not in ("", ".", "..") and not set(name) & set("/\\\0") and not name.startswith(".")),
            f"name is {name!r}; it must be a plain folder name, without slashes and not starting with a dot",
        )


@dataclass(frozen=True, kw_only=True, slots=True)
class SongSettings:
    """What the model is told about a song."""

    artist: str = "unknown"
    genre: str = "unknown"
    lyrics: str = ""
    lyrics_file: str | None = None  # a text file with the lyrics, instead of `lyrics`
    total_seconds: float | None = None  # the whole song's length; null: what is made, or the model's minimum if longer
    offset_seconds: float = 0.0  # where in that song the music begins

    def __post_init__(self) -> None:
        """Checks that lyrics come from one place; lengths are checked where the music's own is known."""
        _require(
            not (self.lyrics and self.lyrics_file),
            f"lyrics and lyrics_file={self.lyrics_file} are both set; give one of them",
        )

    @property
    def has_lyrics(self) -> bool:
        """Whether the song is given words."""
        return bool(self.lyrics.strip()) or self.lyrics_file is not None


@dataclass(frozen=True, kw_only=True, slots=True)
class SongOverride:
    """What one sample's song has different from `song`; null leaves a field as it is there."""

    artist: str | None = None
    genre: str | None = None
    lyrics: str | None = None
    lyrics_file: str | None = None
    total_seconds: float | None = None
    offset_seconds: float | None = None

    def apply(self, song: SongSettings) -> SongSettings:
        """Returns `song` with the fields given here replaced; words given either way replace words given either way."""
        given = {f.name: getattr(self, f.name) for f in fields(self) if getattr(self, f.name) is not None}
        if "lyrics" in given or "lyrics_file" in given:
            given = {"lyrics": "", "lyrics_file": None} | given
        return replace(song, **given)


@dataclass(frozen=True, kw_only=True, slots=True)
class PromptSettings:
    """Sound that the songs begin with."""

    files: tuple[str, ...] = ()  # one a sample, repeated in order if fewer; none: the songs begin from nothing
    seconds: float | None = None  # how much of each file; null: all of it, as far as it is shorter than the song
    offset_seconds: float = 0.0  # where in each file to begin

    def __post_init__(self) -> None:
        """Checks ranges."""
        _above_zero(self, "seconds")
        _not_negative(self, "offset_seconds")


@dataclass(frozen=True, kw_only=True, slots=True)
class StorageSettings:
    """Where runs and tokens are kept, and how often unfinished windows are stored."""

    root: str = "outputs"  # run folders
    tokens: str = "outputs/.store"  # the token store: a folder, or s3://bucket/prefix
    flush_tokens: int = 512  # store a window being sampled after so many new tokens ...
    flush_seconds: float = 10.0  # ... or so many seconds, whichever comes first
    scratch: str | None = "outputs/.scratch"  # local folder for snapshots of caches, which shorten a resume; or null
    snapshot_share: float = 0.005  # of the sampling time that writing these may take
    spool: SpoolConfig = _SPOOL  # where tokens wait while a bucket is away

    def __post_init__(self) -> None:
        """Checks ranges."""
        _above_zero(self, "flush_tokens", "flush_seconds", "snapshot_share")
        _require(self.snapshot_share < 1, f"snapshot_share is {self.snapshot_share}; it must be below 1")
        for name in ("root", "tokens"):
            _require(bool(getattr(self, name)), f"{name} is empty; give a folder")


@dataclass(frozen=True, kw_only=True, slots=True)
class OutputSettings:
    """What a finished run leaves besides its tokens."""

    format: AudioFormat = "wav"
    report: bool = True  # write report.html


@dataclass(frozen=True, kw_only=True, slots=True)
class RunnerSettings:
    """Who samples, and in which order. Nothing here can change a token."""

    kind: Literal["threads", "dask", "ray"] = "threads"  # what workers are: threads of this process, or processes
    workers: int = 1  # shards of songs sampled at a time
    shards: int | None = None  # groups that the songs are cut into; null: one a worker
    schedule: Literal["by_level", "wavefront"] = "by_level"  # one model in memory at a time, or sound soon
    devices: tuple[str, ...] = ()  # one for each worker of a machine, as in [cuda:0, cuda:1]; none: hardware.device
    address: str | None = None  # a Dask or Ray cluster that runs already; null starts workers on this machine
    preview_seconds: float | None = 10.0  # refresh audio/preview so often at most while sampling goes on; null: never

    def __post_init__(self) -> None:
        """Checks ranges, and that devices suffice."""
        _above_zero(self, "workers", "shards")
        _not_negative(self, "preview_seconds")
        _require(len(set(self.devices)) == len(self.devices), f"devices is {list(self.devices)}; name each device once")
        _require(
            not self.devices or self.address is not None or self.workers <= len(self.devices),
            f"workers is {self.workers}, but devices names {len(self.devices)}; one model a device: lower workers",
        )
        for device in self.devices:
            HardwareConfig(device=device)
        _require(
            self.address is None or self.kind != "threads",
            f"address is {self.address!r}, but runner.kind is threads; choose runner=dask or runner=ray, or null",
        )

    @property
    def in_place(self) -> bool:
        """Whether windows are sampled one after the other, by the flow itself."""
        return self.kind == "threads" and self.workers == 1

    @property
    def copies(self) -> int:
        """How often a model lies in one device's memory: processes that share a device have one each."""
        return self.workers if self.kind != "threads" and self.address is None and not self.devices else 1

    def side_by_side(self, samples: int, batch_size: int) -> int:
        """Returns how many samples are computed at a time with one copy of a model."""
        largest = min(batch_size, math.ceil(samples / (self.shards or self.workers)))
        return min(samples, largest * (self.workers if self.kind == "threads" and not self.devices else 1))


@dataclass(frozen=True, kw_only=True, slots=True)
class ChooseSettings:
    """Where a run stops for somebody to listen and choose how it goes on."""

    after_level: int | None = None  # the last level that is sampled before the choice; null: no choice, all levels

    def __post_init__(self) -> None:
        """Checks ranges."""
        _require(
            self.after_level is None or self.after_level > 0,
            f"after_level is {self.after_level}; choose after level 2 or 1, or never (null): below level 0 is nothing",
        )


@dataclass(frozen=True, kw_only=True, slots=True)
class SpliceSettings:
    """A range of an earlier run's sample, to be put after what is kept."""

    run: str  # its name or folder
    sample: int = 0
    from_seconds: float = 0.0
    to_seconds: float | None = None  # null: to its end

    def __post_init__(self) -> None:
        """Checks ranges."""
        _not_negative(self, "sample", "from_seconds")
        _require(bool(self.run), "run is empty; give the name or folder of the run to take from")
        _require(
            self.to_seconds is None or self.from_seconds < self.to_seconds < math.inf,
            f"to_seconds is {self.to_seconds}; it must be above from_seconds={self.from_seconds:g} and finite",
        )


@dataclass(frozen=True, kw_only=True, slots=True)
class SourceSettings:
    """The run that `continue` or `upsample` starts from, and what of it is kept."""

    run: str  # its folder
    command: Literal["continue", "upsample"]
    samples: tuple[int, ...] = ()  # those of its samples that songs start from; one: all songs; none: each from its own
    keep_seconds: float | None = None  # continue: cut the music here first; null keeps all of it
    splice: tuple[SpliceSettings, ...] = ()  # continue: ranges of other samples, put after what is kept, in order

    def __post_init__(self) -> None:
        """Checks ranges."""
        _above_zero(self, "keep_seconds")
        _require(
            all(sample >= 0 for sample in self.samples),
            f"samples is {list(self.samples)}; samples are counted from 0",
        )
        _require(
            self.keep_seconds is None or self.command == "continue",
            f"keep_seconds is {self.keep_seconds}, but {self.command} keeps the whole run; set it to null",
        )
        _require(
            not self.splice or self.command == "continue",
            f"splice has {len(self.splice)} entries, but {self.command} keeps the run as it is; use continue",
        )


@dataclass(frozen=True, kw_only=True, slots=True)
class Settings:
    """Everything `generate`, `continue` and `upsample` are told (root conf/generate.yaml)."""

    run: RunSettings
    model: ModelSettings
    sampling: SamplingConfig
    hardware: HardwareConfig
    seconds: float  # length of the music, prompt included; rounded down to whole top-level tokens
    song: SongSettings = SongSettings()
    songs: tuple[SongOverride, ...] = ()  # one for each sample, or none
    prompt: PromptSettings = PromptSettings()
    storage: StorageSettings = StorageSettings()
    weights: WeightsConfig
    output: OutputSettings = OutputSettings()
    runner: RunnerSettings = RunnerSettings()
    choose: ChooseSettings = ChooseSettings()
    source: SourceSettings | None = None

    def __post_init__(self) -> None:
        """Checks the settings against each other; every message names the dotted keys."""
        _ = self.length
        start = self.prompt.seconds
        _require(
            start is None or start < self.seconds,
            f"prompt.seconds is {start}, which leaves nothing to sample of seconds={self.seconds}; "
            "make the prompt shorter or the song longer",
        )
        _require(
            self.choose.after_level is None or self.choose.after_level < self.model.vqvae.levels,
            f"choose.after_level is {self.choose.after_level}, but {self.model.name} has no level above "
            f"{self.model.config.top}; choose one of its levels, or null",
        )
        self._check_songs()

    @property
    def length(self) -> int:
        """Length of the music in audio samples: whole top-level tokens, so that every level ends together."""
        return music_length(self.model.config, self.seconds, stop_level=self.sampling.stop_level)

    def song_of(self, sample: int) -> SongSettings:
        """What the model is told about the song of one sample of the run."""
        return self.songs[sample].apply(self.song) if self.songs else self.song

    def times_of(self, sample: int) -> SongTimes:
        """Where the music of one sample lies in its song."""
        song = self.song_of(sample)
        return song_times(
            self.model.config,
            seconds=self.seconds,
            total_seconds=song.total_seconds,
            offset_seconds=song.offset_seconds,
        )

    def _check_songs(self) -> None:
        samples = self.sampling.n_samples
        _require(
            len(self.songs) in (0, samples),
            f"songs has {len(self.songs)} entries but sampling.n_samples is {samples}; "
            "give one for each sample, or none to use `song` for all",
        )
        for sample in range(len(self.songs) or 1):
            where = f"songs.{sample}" if self.songs else "song"
            try:
                self._check_told(self.song_of(sample))
                self.times_of(sample)
            except ConfigError as error:
                raise ConfigError(f"{where}.{error}") from None

    def _check_told(self, song: SongSettings) -> None:
        priors, top = self.model.priors, self.model.priors[self.model.config.top]
        key = "lyrics" if song.lyrics else "lyrics_file"
        _require(
            top.lyrics is not None or not song.has_lyrics,
            f"{key} is set, but model {self.model.name} knows no lyrics; "
            f"remove them, or choose model={'5b_lyrics' if self.model.trained else 'mini'}",
        )
        for key, name in (("artist", song.artist), ("genre", song.genre)):
            _require(
                any(prior.labels for prior in priors) or name == UNKNOWN,
                f"{key} is {name!r}, but model {self.model.name} knows no artists and genres; "
                f"set it to {UNKNOWN}, or choose model=mini",
            )


@dataclass(frozen=True, kw_only=True, slots=True)
class EncodeSettings:
    """Everything `encode` is told: audio files to codes (root conf/encode.yaml)."""

    model: ModelSettings
    hardware: HardwareConfig
    weights: WeightsConfig
    storage: StorageSettings = StorageSettings()
    audio: tuple[str, ...]  # files to encode, one codes file each
    seconds: float | None = None  # how much of each file; null: all of it
    offset_seconds: float = 0.0  # where in each file to begin
    levels: tuple[int, ...] = (0, 1, 2)
    folder: str = "outputs/codes"  # codes files are written here

    def __post_init__(self) -> None:
        """Checks ranges."""
        _require(bool(self.audio), "audio is empty; name at least one file, as in audio=[song.wav]")
        _above_zero(self, "seconds")
        _not_negative(self, "offset_seconds")
        known = range(self.model.vqvae.levels)
        _require(
            bool(self.levels) and len(set(self.levels)) == len(self.levels) and all(v in known for v in self.levels),
            f"levels is {list(self.levels)}; name each of {', '.join(map(str, known))} at most once, and at least one",
        )
        _require(bool(self.folder), "folder is empty; give the folder that codes are written to")


@dataclass(frozen=True, kw_only=True, slots=True)
class DecodeSettings:
    """Everything `decode` is told: codes to audio (root conf/decode.yaml)."""

    model: ModelSettings
    hardware: HardwareConfig
    weights: WeightsConfig
    storage: StorageSettings = StorageSettings()
    output: OutputSettings = OutputSettings()
    codes: tuple[str, ...]  # codes files written by encode, one audio file each
    level: int = 0  # the level whose codes are decoded
    folder: str = "outputs/audio"  # audio files are written here

    def __post_init__(self) -> None:
        """Checks ranges."""
        _require(bool(self.codes), "codes is empty; name at least one file, as in codes=[outputs/codes/song.npz]")
        known = range(self.model.vqvae.levels)
        _require(self.level in known, f"level is {self.level}; choose one of {', '.join(map(str, known))}")
        _require(bool(self.folder), "folder is empty; give the folder that audio is written to")
