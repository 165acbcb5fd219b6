"""The Python interface: a model that encodes, generates and decodes, with arrays in and out. No Prefect, no Hydra."""

from __future__ import annotations

import gc
import math
import os
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from jukebox_core.errors import ConfigError
from jukebox_core.families.jukebox.checkpoints.loading import load_vqvae
from jukebox_core.families.jukebox.checkpoints.prepared import Source, sampling_prior
from jukebox_core.families.jukebox.conditioning.labels import SongLabels, label_levels, window_row
from jukebox_core.families.jukebox.conditioning.lengths import music_length, song_times, window_hop
from jukebox_core.families.jukebox.conditioning.vocabulary import load_vocabularies
from jukebox_core.families.jukebox.engines.engines import prepare_vqvae
from jukebox_core.families.jukebox.sampling.config import SamplingConfig
from jukebox_core.families.jukebox.sampling.memory import weight_bytes
from jukebox_core.families.jukebox.sampling.precision import choose_dtype, most_side_by_side
from jukebox_core.families.jukebox.sampling.sampler import sample_level
from jukebox_core.models.config import WeightsConfig
from jukebox_core.models.library import prepared_home
from jukebox_core.models.presets import load_preset
from jukebox_core.models.resolve import obtain_vocabularies, obtain_weights
from jukebox_core.runtime.config import HardwareConfig
from jukebox_core.runtime.device import free_memory, kind_and_memory, resolve_device, use_threads
from jukebox_core.sampling.noise import CounterNoise
from jukebox_core.tokens.plan import plan_windows

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from numpy.typing import ArrayLike, NDArray
    from torch import Tensor

    from jukebox_core.families.jukebox.config import JukeboxConfig
    from jukebox_core.families.jukebox.model.prior import Prior
    from jukebox_core.families.jukebox.model.vqvae import VQVAE
    from jukebox_core.models.presets import ModelSettings
    from jukebox_core.models.resolve import Obtained
    from jukebox_core.tokens.plan import Window

    Codes = NDArray[np.int64]
    Audio = NDArray[np.float32]


@dataclass(frozen=True, kw_only=True, slots=True)
class Song:
    """What the model is told about a song. Lengths in seconds."""

    artist: str = "unknown"
    genre: str = "unknown"
    lyrics: str = ""
    total_seconds: float | None = None  # of the whole song; None: what is made, or the model's minimum if longer
    offset_seconds: float = 0.0  # where in it the music begins


@dataclass(frozen=True, slots=True)
class Music:
    """What `Jukebox.generate` made."""

    codes: Mapping[int, Codes]  # by level, those that were sampled: int64 [samples, tokens]
    audio: Audio  # float32 [samples, time], decoded from the lowest of these levels; may exceed 1
    sample_rate: int  # Hz


def load_model(
    name: str | os.PathLike[str] = "mini",
    *,
    hardware: HardwareConfig | None = None,
    folder: str | os.PathLike[str] | None = None,
    mirrors: Sequence[str] = (),
    offline: bool = False,
) -> Jukebox:
    """Returns a model; its weights are fetched when they are first needed, and checked.

    Args:
        name: a shipped model (mini, 1b_lyrics, 5b, 5b_lyrics), or the path of a model's yaml file.
        hardware: device, dtype and batch size; by default the best device, and what suits it and fits its memory.
        folder: where fetched files are kept; by default what the environment variable JUKEBOX_WEIGHTS says, else
            ``~/.cache/jukebox``, as on the command line.
        mirrors: sources tried before those the model names.
        offline: open no connection.

    Raises:
        ConfigError: there is no such model.
        DeviceError: the device is not there.
    """
    kept = os.fspath(folder or os.environ.get("JUKEBOX_WEIGHTS", "~/.cache/jukebox"))
    weights = WeightsConfig(folder=kept, mirrors=tuple(mirrors), offline=offline)
    return Jukebox(load_preset(name), hardware or HardwareConfig(), weights)


class Jukebox:
    """A VQ-VAE and three priors, each loaded when it is first needed; one prior is in memory at a time."""

    def __init__(self, settings: ModelSettings, hardware: HardwareConfig, weights: WeightsConfig) -> None:
        """Takes a model's settings; `load_model` is the usual way here."""
        self._settings, self._weights = settings, weights
        self._device = resolve_device(hardware.device)
        if hardware.dtype == "auto":
            kind, memory = kind_and_memory(self._device)
            hardware = replace(hardware, dtype=choose_dtype(self.config, range(self.config.top + 1), kind, memory))
        self._hardware = hardware
        self._vqvae: VQVAE | None = None
        self._prior: tuple[int, Prior] | None = None
        use_threads(hardware)

    @property
    def config(self) -> JukeboxConfig:
        """The model's hyperparameters."""
        return self._settings.config

    @property
    def vqvae(self) -> VQVAE:
        """The VQ-VAE, loaded."""
        if self._vqvae is None:
            loaded = load_vqvae(self.config, self._weights_of("vqvae").path, device=self._device)
            self._vqvae = prepare_vqvae(loaded, self._hardware.engine)
        return self._vqvae

    def prior(self, level: int) -> Prior:
        """Returns the prior of `level`, loaded; the one of another level is freed first."""
        if self._prior is None or self._prior[0] != level:
            self._prior = None
            gc.collect()
            found, how = self._weights_of(f"level_{level}"), self._hardware
            source = Source(found.path, found.identity, prepared_home(self._weights))
            loaded = sampling_prior(self.config, level, source, device=self._device, dtype=how.dtype, engine=how.engine)
            self._prior = (level, loaded)
        return self._prior[1]

    @torch.inference_mode()
    def encode(self, audio: Audio, levels: Iterable[int] | None = None) -> dict[int, Codes]:
        """Returns codes by level, int64 [..., time // hop], of mono audio, float32 [..., time] at the model's rate.

        Args:
            audio: sound in [-1, 1], as `read_audio` gives it.
            levels: those wanted; all by default.

        Raises:
            AudioError: it is shorter than one token of a level asked for.
            ConfigError: a level that the model does not have.
        """
        wanted = tuple(range(self.config.vqvae.levels) if levels is None else levels)
        sound = np.atleast_1d(np.asarray(audio, np.float32))
        codes = self.vqvae.encode(_rows(sound).to(self._device), wanted)
        return {level: _array(each).reshape(*sound.shape[:-1], -1) for level, each in zip(wanted, codes, strict=True)}

    @torch.inference_mode()
    def decode(self, codes: Codes, level: int = 0) -> Audio:
        """Returns audio, float32 [..., tokens * hop], of one level's codes, int [..., tokens]. It may exceed 1.

        Raises:
            ConfigError: values that are no codes, or a level that the model does not have.
        """
        tokens = np.atleast_1d(_integers(codes, "codes"))
        audio: Audio = self.vqvae.decode(_rows(tokens).to(self._device), level).float().cpu().numpy()
        return audio.reshape(*tokens.shape[:-1], -1)

    def generate(
        self,
        songs: Song | Sequence[Song] = Song(),
        *,
        seconds: float,
        n_samples: int | None = None,
        seed: int | None = None,
        sampling: SamplingConfig | None = None,
        start: Mapping[int, Codes] | None = None,
    ) -> Music:
        """Makes music, all samples side by side.

        The same settings give the same tokens as ``jukebox generate``.

        Args:
            songs: what to make: one song for all samples, or one for each.
            seconds: length of the music, `start` included; rounded down to whole top-level tokens.
            n_samples: how many; by default `sampling.n_samples`, or one for each song if there are several.
            seed: chooses among all songs that could be made; by default `sampling.seed`.
            sampling: temperatures, filters, hops and the last level to sample.
            start: codes that the music begins with, by level, [samples, tokens] or [tokens], as `encode` gives them.

        Raises:
            ConfigError: lengths that the model cannot make, or a start that does not fit.
            LabelError: an artist, genre or lyrics that the model does not know.
            DownloadError, CheckpointError: the model's files cannot be had, or are not what they should be.
        """
        asked = (songs,) if isinstance(songs, Song) else tuple(songs)
        how = sampling or SamplingConfig()
        count = n_samples if n_samples is not None else len(asked) if len(asked) != 1 else how.n_samples
        if len(asked) not in (1, count):
            raise ConfigError(f"there are {len(asked)} songs but n_samples is {count}; give one song, or one for each")
        how = replace(how, n_samples=count, seed=how.seed if seed is None else seed)
        length = music_length(self.config, seconds, stop_level=how.stop_level)
        tokens = self._starts(start or {}, length, count)
        labels = self._labels(asked if len(asked) == count else asked * count, seconds)
        for level in range(self.config.top, how.stop_level - 1, -1):
            tokens[level] = self._sample(level, length, labels, how, tokens)
        made = {level: _array(tokens[level]) for level in range(how.stop_level, self.config.top + 1)}
        return Music(made, self.decode(made[how.stop_level], how.stop_level), self.config.vqvae.sample_rate)

    def _sample(
        self,
        level: int,
        length: int,
        labels: Sequence[Sequence[SongLabels]],
        how: SamplingConfig,
        tokens: Mapping[int, Tensor],
    ) -> Tensor:
        """Returns the tokens of one level, those of the level above being there."""
        config, sampling, have_BT = self.config, how.level(level), tokens[level]
        prior = config.priors[level]

        def rows(window: Window, songs: slice) -> Tensor:
            span = config.context_length(level)
            return torch.tensor(
                [window_row(song[level], prior, sample_length=span, start=window.start).row for song in labels[songs]]
            )

        hop, loaded = window_hop(config, level, sampling.hop_fraction), self.prior(level)
        return sample_level(
            loaded,
            plan_windows(length // config.vqvae.hops[level], prior.context, hop, have=have_BT.shape[1]),
            have_BT,
            labels=rows,
            above_BT=tokens.get(level + 1),
            factor=config.upsampling_factor(level) if level < config.top else 1,
            sampling=sampling,
            noise=lambda songs: CounterNoise(how.seed, level, range(songs.start, songs.stop), self._device),
            batch_size=self._hardware.batch_size or self._side_by_side(level, how.n_samples),
            prefill_chunk=self._hardware.prefill_chunk,
        )

    def _side_by_side(self, level: int, samples: int) -> int:
        """Returns how many samples fit the memory that is free now, the prior of `level` being loaded."""
        dtype = self._hardware.dtype
        room = free_memory(self._device) + weight_bytes(self.config, level, dtype)
        return max(1, most_side_by_side(self.config, (level,), dtype, room, samples))

    def _labels(self, songs: Sequence[Song], seconds: float) -> list[tuple[SongLabels, ...]]:
        files = obtain_vocabularies(self._settings.files, self._weights)
        known = load_vocabularies({role: file.path for role, file in files.items()})
        labels = []
        for song in songs:
            times = song_times(
                self.config, seconds=seconds, total_seconds=song.total_seconds, offset_seconds=song.offset_seconds
            )
            named = label_levels(
                known,
                self.config,
                artist=song.artist,
                genre=song.genre,
                lyrics=song.lyrics,
                total_length=times.total_length,
                offset=times.offset,
            )
            labels.append(named)
        return labels

    def _starts(self, start: Mapping[int, Codes], length: int, samples: int) -> dict[int, Tensor]:
        """Returns the codes that each level begins with, int64 [samples, tokens]; none where `start` gives none."""
        known = range(self.config.vqvae.levels)
        for level in start:
            if level not in known:
                raise ConfigError(f"start has level {level}; its levels are {', '.join(map(str, known))}")
        return {level: self._start(start.get(level, ()), level, length, samples) for level in known}

    def _start(self, given: ArrayLike, level: int, length: int, samples: int) -> Tensor:
        codes, bins = np.atleast_2d(_integers(given, f"start[{level}]")), self.config.vqvae.bins
        most = length // self.config.vqvae.hops[level]
        if codes.ndim != 2 or codes.shape[0] not in (1, samples):
            raise ConfigError(
                f"start[{level}] has shape {codes.shape}; give [{samples}, tokens], or [tokens] for all samples"
            )
        if codes.shape[1] > most:
            raise ConfigError(
                f"start[{level}] has {codes.shape[1]} tokens but the music only {most}; make more seconds"
            )
        if codes.size and not 0 <= codes.min() <= codes.max() < bins:
            raise ConfigError(f"start[{level}] holds {codes.min()} to {codes.max()}; codes are from 0 to {bins - 1}")
        return torch.from_numpy(np.broadcast_to(codes, (samples, codes.shape[1])).copy())

    def _weights_of(self, role: str) -> Obtained:
        return obtain_weights(self.config, self._settings.files, self._weights, roles=(role,))[role]


def _integers(values: ArrayLike, name: str) -> Codes:
    found = np.asarray(values)
    if found.size and not np.issubdtype(found.dtype, np.integer):
        raise ConfigError(f"{name} holds {found.dtype} values; codes are integers")
    return found.astype(np.int64)


def _rows(values: NDArray[Any]) -> Tensor:
    """Returns an array [..., time] as one of rows, [rows, time]."""
    return torch.from_numpy(values.reshape(math.prod(values.shape[:-1]), values.shape[-1]))


def _array(codes: Tensor) -> Codes:
    found: Codes = codes.cpu().numpy()
    return found
