"""The Python interface: a model that encodes, generates and decodes, with arrays in and out. No Prefect, no Hydra."""

from __future__ import annotations

import gc
import math
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np
import torch

from jukebox_core.errors import ConfigError
from jukebox_core.families.jukebox.files import obtain_vocabularies, obtain_weights
from jukebox_core.families.jukebox.labels import SongLabels, check_timing, label_song, window_row
from jukebox_core.families.jukebox.loading import load_prior, load_vqvae
from jukebox_core.families.jukebox.presets import load_preset
from jukebox_core.families.jukebox.sampler import sample_level
from jukebox_core.families.jukebox.vocabulary import load_vocabularies
from jukebox_core.runtime.config import HardwareConfig
from jukebox_core.runtime.device import resolve_device, use_threads
from jukebox_core.sampling.config import SamplingConfig
from jukebox_core.sampling.noise import CounterNoise
from jukebox_core.tokens.plan import plan_windows
from jukebox_core.weights.config import WeightsConfig

if TYPE_CHECKING:
    import os
    from collections.abc import Iterable, Mapping, Sequence
    from pathlib import Path

    from numpy.typing import NDArray
    from torch import Tensor

    from jukebox_core.families.jukebox.config import JukeboxConfig
    from jukebox_core.families.jukebox.presets import ModelSettings
    from jukebox_core.families.jukebox.prior import Prior
    from jukebox_core.families.jukebox.vocabulary import Vocabulary, VocabularyKind
    from jukebox_core.families.jukebox.vqvae import VQVAE
    from jukebox_core.tokens.plan import Window

    Codes = NDArray[np.int64]
    Audio = NDArray[np.float32]

DEFAULT_FOLDER = "~/.cache/jukebox"


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
    folder: str = DEFAULT_FOLDER,
    mirrors: Sequence[str] = (),
    offline: bool = False,
) -> Jukebox:
    """Returns a model; its weights are fetched when they are first needed, and checked.

    Args:
        name: a shipped model (mini, 1b_lyrics, 5b, 5b_lyrics), or the path of a model's yaml file.
        hardware: device, dtype and batch size; the default takes the best device, in float32.
        folder: where fetched files are kept.
        mirrors: sources tried before those the model names.
        offline: open no connection.

    Raises:
        ConfigError: there is no such model.
        DeviceError: the device is not there.
    """
    weights = WeightsConfig(folder=folder, mirrors=tuple(mirrors), offline=offline)
    return Jukebox(load_preset(name), hardware or HardwareConfig(), weights)


class Jukebox:
    """A VQ-VAE and three priors, each loaded when it is first needed; one prior is in memory at a time."""

    def __init__(self, settings: ModelSettings, hardware: HardwareConfig, weights: WeightsConfig) -> None:
        """Takes a model's settings; `load_model` is the usual way here."""
        self._settings, self._hardware, self._weights = settings, hardware, weights
        self._device = resolve_device(hardware.device)
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
            self._vqvae = load_vqvae(self.config, self._weights_of("vqvae"), device=self._device)
        return self._vqvae

    def prior(self, level: int) -> Prior:
        """Returns the prior of `level`, loaded; the one of another level is freed first."""
        if self._prior is None or self._prior[0] != level:
            self._prior = None
            gc.collect()
            path = self._weights_of(f"level_{level}")
            loaded = load_prior(self.config, level, path, device=self._device, dtype=self._hardware.dtype)
            self._prior = (level, loaded)
        return self._prior[1]

    @torch.inference_mode()
    def encode(self, audio: Audio, levels: Iterable[int] = (0, 1, 2)) -> dict[int, Codes]:
        """Returns codes by level, int64 [..., time // hop], of mono audio, float32 [..., time] at the model's rate.

        Raises:
            ConfigError: a level that the model does not have.
        """
        wanted = tuple(levels)
        sound = np.atleast_2d(np.asarray(audio, np.float32))
        codes = self.vqvae.encode(torch.from_numpy(sound).to(self._device), wanted)
        shape = np.shape(audio)[:-1]
        return {level: _array(tokens).reshape(*shape, -1) for level, tokens in zip(wanted, codes, strict=True)}

    @torch.inference_mode()
    def decode(self, codes: Codes, level: int = 0) -> Audio:
        """Returns audio, float32 [..., tokens * hop], of one level's codes, int [..., tokens]. It may exceed 1.

        Raises:
            ConfigError: values that are no codes, or a level that the model does not have.
        """
        tokens = torch.from_numpy(np.atleast_2d(np.asarray(codes, np.int64))).to(self._device)
        audio: Audio = self.vqvae.decode(tokens, level).float().cpu().numpy()
        return audio.reshape(*np.shape(codes)[:-1], -1)

    def generate(
        self,
        songs: Song | Sequence[Song] = Song(),  # noqa: B008 - frozen
        *,
        seconds: float,
        n_samples: int | None = None,
        seed: int = 0,
        sampling: SamplingConfig | None = None,
        start: Mapping[int, Codes] | None = None,
    ) -> Music:
        """Makes music, all samples side by side.

        The same call gives what ``jukebox generate`` gives for the same settings.

        Args:
            songs: what to make: one song for all samples, or one for each.
            seconds: length of the music, `start` included; rounded down to whole top-level tokens.
            n_samples: how many; by default one for each song.
            seed: chooses among all songs that could be made.
            sampling: temperatures, filters, hops and the last level to sample; its seed and n_samples are not used.
            start: codes that the music begins with, by level, [samples, tokens] or [tokens], as `encode` gives them.

        Raises:
            ConfigError: lengths that the model cannot make.
            LabelError: an artist, genre or lyrics that the model does not know.
        """
        asked = [songs] if isinstance(songs, Song) else list(songs)
        count = n_samples or len(asked)
        if len(asked) not in (1, count):
            raise ConfigError(f"{len(asked)} songs for {count} samples; give one song, or one for each sample")
        each = asked * count if len(asked) == 1 else asked
        how = replace(sampling or SamplingConfig(), seed=seed, n_samples=count)
        hop = self.config.vqvae.hops[-1]
        length = math.floor(seconds * self.config.vqvae.sample_rate / hop + 1e-6) * hop
        labels = self._labels(each, length)
        codes: dict[int, Tensor] = {}
        for level in range(self.config.top, how.stop_level - 1, -1):
            codes[level] = self._sample(level, length, labels, how, codes.get(level + 1), _start(start, level, count))
        audio = self.decode(_array(codes[how.stop_level]), how.stop_level)
        return Music({level: _array(tokens) for level, tokens in codes.items()}, audio, self.config.vqvae.sample_rate)

    def _sample(
        self,
        level: int,
        length: int,
        labels: Sequence[Sequence[SongLabels]],
        how: SamplingConfig,
        above: Tensor | None,
        tokens: Tensor,
    ) -> Tensor:
        prior, sampling = self.config.priors[level], how.level(level)
        total, context = length // self.config.vqvae.hops[level], prior.context
        if above is not None and total < context:
            least = self.config.seconds(level, context)
            raise ConfigError(
                f"level {level} needs {context} tokens, {least:.2f} s; make more seconds, or stop above it"
            )
        if tokens.shape[1] > total:
            raise ConfigError(
                f"start has {tokens.shape[1]} tokens at level {level}, more than {total}; make more seconds"
            )

        def rows(window: Window, songs: slice) -> Tensor:
            span = context * self.config.vqvae.hops[level]
            found = [
                window_row(song[level], prior, sample_length=span, start=window.start).row for song in labels[songs]
            ]
            return torch.tensor(found)

        return sample_level(
            self.prior(level),
            plan_windows(total, context, max(1, int(sampling.hop_fraction * context)), have=tokens.shape[1]),
            tokens,
            labels=rows,
            above_BT=above,
            factor=self.config.upsampling_factor(level) if above is not None else 1,
            sampling=sampling,
            noise=lambda songs: CounterNoise(how.seed, level, range(songs.start, songs.stop)),
            batch_size=self._hardware.batch_size,
            prefill_chunk=self._hardware.prefill_chunk,
        )

    def _labels(self, songs: Sequence[Song], length: int) -> list[list[SongLabels]]:
        files = obtain_vocabularies(self._settings.files, self._weights)
        known = load_vocabularies({role: file.path for role, file in files.items()})
        return [[self._label(song, level, length, known) for level in range(len(self.config.priors))] for song in songs]

    def _label(self, song: Song, level: int, length: int, known: Mapping[VocabularyKind, Vocabulary]) -> SongLabels:
        rate, top, prior = self.config.vqvae.sample_rate, self.config.priors[self.config.top], self.config.priors[level]
        offset = math.floor(song.offset_seconds * rate + 1e-6)
        shortest = math.ceil(top.timing.min_seconds * rate) if top.timing else 0
        total = max(offset + length, shortest)
        if song.total_seconds is not None:
            total = math.floor(song.total_seconds * rate + 1e-6)
        if top.timing is not None:
            check_timing(top.timing, sample_rate=rate, total_length=total, offset=offset, length=length)
        same = prior.labels is None or top.labels is None or prior.labels.vocabulary == top.labels.vocabulary
        return label_song(
            known,
            artist=song.artist,
            genre=song.genre,
            lyrics=song.lyrics,
            total_length=total,
            offset=offset,
            config=prior,
            strict=same,
        )

    def _weights_of(self, role: str) -> Path:
        return obtain_weights(self.config, self._settings.files, self._weights, roles=(role,))[role].path


def _start(start: Mapping[int, Codes] | None, level: int, samples: int) -> Tensor:
    if start is None or level not in start:
        return torch.empty(samples, 0, dtype=torch.int64)
    codes = np.atleast_2d(np.asarray(start[level], np.int64))
    return torch.from_numpy(np.broadcast_to(codes, (samples, codes.shape[1])).copy())


def _array(codes: Tensor) -> Codes:
    found: Codes = codes.cpu().numpy()
    return found
