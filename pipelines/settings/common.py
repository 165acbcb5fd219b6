"""Settings that several commands share, as frozen records. Imports neither torch nor OmegaConf."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal
from urllib.parse import urlsplit

from jukebox_core.base.checks import require
from jukebox_core.base.paths import check_name
from jukebox_core.models.stored import has_password
from jukebox_core.runtime.config import HardwareConfig
from jukebox_core.store.config import SpoolConfig

AudioFormat = Literal["wav", "flac", "mp3"]
_WORKERS = 10_000
_LARGEST = 1e9  # of any number of seconds, tokens or files: in samples it is still a number
_SPOOL = SpoolConfig()


def check_not_negative(owner: object, *names: str) -> None:
    """Checks that these fields are null, or finite and at least 0."""
    for name in names:
        value = getattr(owner, name)
        require(value is None or 0 <= value < math.inf, f"{name} is {value}; it cannot be negative or infinite")
        require(value is None or value <= _LARGEST, f"{name} is {value}; it is at most {_LARGEST:g}")


def check_above_zero(owner: object, *names: str) -> None:
    """Checks that these fields are null, or finite and above 0."""
    for name in names:
        value = getattr(owner, name)
        require(value is None or 0 < value < math.inf, f"{name} is {value}; it must be above 0 and finite")
        require(value is None or value <= _LARGEST, f"{name} is {value}; it is at most {_LARGEST:g}")


@dataclass(frozen=True, kw_only=True, slots=True)
class RunSettings:
    """The run's name, and whether to wait for its lock."""

    name: str | None = None  # the run's folder below storage.root; null names it after its settings
    wait: bool = False  # if another process works on this run: wait until it ends, instead of exiting

    def __post_init__(self) -> None:
        """Checks that the name is one folder's name."""
        if self.name is not None:
            check_name(self.name, "name")


@dataclass(frozen=True, kw_only=True, slots=True)
class StorageSettings:
    """Where runs and tokens are kept, and how often unfinished windows are stored."""

    root: str = "outputs"  # run folders
    tokens: str = "outputs/.store"  # the token store: a folder, or s3://bucket/prefix
    flush_tokens: int = 512  # store a window so often that a kill loses at most so many new tokens of a sample ...
    flush_seconds: float = 10.0  # ... and after so many seconds, whichever comes first
    scratch: str | None = "outputs/.scratch"  # local folder for snapshots of caches, which shorten a resume; or null
    snapshot_share: float = 0.005  # of the sampling time that writing these may take
    spool: SpoolConfig = _SPOOL  # local disk for tokens while a bucket is unavailable

    def __post_init__(self) -> None:
        """Checks ranges."""
        check_above_zero(self, "flush_tokens", "flush_seconds", "snapshot_share")
        require(self.snapshot_share < 1, f"snapshot_share is {self.snapshot_share}; it must be below 1")
        for name in ("root", "tokens"):
            require(bool(getattr(self, name)), f"{name} is empty; give a folder")
        # An address is stored with every run, and shown; the value is not in the message either.
        require(
            "@" not in urlsplit(self.tokens).netloc and not has_password(self.tokens),
            "tokens is an address with a user or password in it; leave them out, and give them to the store's "
            "own tools (AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or AWS_PROFILE)",
        )


@dataclass(frozen=True, kw_only=True, slots=True)
class OutputSettings:
    """Output files of a finished run."""

    format: AudioFormat = "wav"  # of the sound files
    report: bool = True  # write report.html, with players and pictures


@dataclass(frozen=True, kw_only=True, slots=True)
class RunnerSettings:
    """Workers and order of sampling. None of these settings changes a token."""

    kind: Literal["threads", "dask", "ray"] = "threads"  # workers: threads of this process, or processes of a cluster
    workers: int = 1  # shards of songs sampled in parallel
    shards: int | None = None  # groups that the songs are split into; null: one per worker
    schedule: Literal["by_level", "wavefront"] = "by_level"  # one model in memory at a time, or sound soon
    devices: tuple[str, ...] = ()  # one per worker of a machine, as in [cuda:0, cuda:1]; empty: hardware.device
    address: str | None = None  # an existing Dask or Ray cluster; null starts workers on this machine
    preview_seconds: float | None = 10.0  # minimum interval between refreshes of audio/preview; null: no previews
    preview_partial: bool = False  # previews have windows that are not full yet, if one worker of this process samples

    def __post_init__(self) -> None:
        """Checks ranges, and that devices suffice."""
        check_above_zero(self, "workers", "shards")
        require(self.workers <= _WORKERS, f"workers is {self.workers}; a run has at most {_WORKERS:,}")
        check_not_negative(self, "preview_seconds")
        require(len(set(self.devices)) == len(self.devices), f"devices is {list(self.devices)}; name each device once")
        require(
            not self.devices or self.address is not None or self.workers <= len(self.devices),
            f"workers is {self.workers}, but devices names {len(self.devices)}; one model a device: lower workers",
        )
        for device in self.devices:
            HardwareConfig(device=device)
        require(
            self.address is None or self.kind != "threads",
            f"address is {self.address!r}, but runner.kind is threads; choose runner=dask or runner=ray, or null",
        )

    @property
    def in_place(self) -> bool:
        """Whether windows are sampled sequentially, in the flow's own thread."""
        return self.kind == "threads" and self.workers == 1

    @property
    def copies(self) -> int:
        """Copies of a model in one device's memory: one for each process that shares the device."""
        return self.workers if self.kind != "threads" and self.address is None and not self.devices else 1

    def max_concurrent(self, samples: int, batch_size: int) -> int:
        """Returns the largest number of samples that one copy of a model computes at a time."""
        largest = min(batch_size, math.ceil(samples / (self.shards or self.workers)))
        return min(samples, largest * (self.workers if self.kind == "threads" and not self.devices else 1))
