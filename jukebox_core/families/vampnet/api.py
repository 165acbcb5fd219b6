"""A VampNet model in Python: recordings in, variations out, sampled by the same nodes over a store in memory."""

from __future__ import annotations

import math
import os
import uuid
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch

from jukebox_core.api.music import Music
from jukebox_core.audio.files import read_channels
from jukebox_core.base.hashing import digest, digest_bytes
from jukebox_core.errors import AudioError, ConfigError
from jukebox_core.families.vampnet.checkpoints.loading import load_codec, load_transformer
from jukebox_core.families.vampnet.config import COARSE_LEVEL, CODEC, FINE_LEVEL, ROLE_OF, SHORTEST_SECONDS
from jukebox_core.families.vampnet.engine import DTYPES, check_parity, converted
from jukebox_core.families.vampnet.masks import parts
from jukebox_core.families.vampnet.masks.config import MaskConfig
from jukebox_core.families.vampnet.masks.found import check_found, complete
from jukebox_core.families.vampnet.sampling.codec import decoded, encoded
from jukebox_core.families.vampnet.sampling.config import VampSampling
from jukebox_core.families.vampnet.sampling.graph import Variation, check_mask, plan_variation
from jukebox_core.families.vampnet.sampling.grid_model import GridModel
from jukebox_core.families.vampnet.sampling.song import check_mask_of
from jukebox_core.families.vampnet.sampling.songs import mask_of
from jukebox_core.families.vampnet.sound.front_end import prepare
from jukebox_core.models.resolve import obtain_weights
from jukebox_core.runtime.device import resolve_device, use_threads
from jukebox_core.sampling.schedule import Schedule, plan_units
from jukebox_core.sampling.windows import FlushPolicy, Unobserved, sample_nodes
from jukebox_core.store.spans import read_spans
from jukebox_core.store.store import TokenStore
from jukebox_core.tokens.graph import Span, Track

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import ArrayLike, NDArray

    from jukebox_core.families.vampnet.config import VampNetConfig
    from jukebox_core.families.vampnet.model.codec import Codec
    from jukebox_core.families.vampnet.sampling.graph import VariationPlan
    from jukebox_core.models.config import WeightsConfig
    from jukebox_core.models.library import LocalFile
    from jukebox_core.models.presets import ModelSettings
    from jukebox_core.protocols import TokenModel
    from jukebox_core.runtime.config import HardwareConfig

_BATCH = 4  # variations sampled at once; it changes no token

AudioLike = str | os.PathLike[str] | np.ndarray


class VampNet:
    """A codec and its masked transformers, each loaded when it is first needed."""

    def __init__(self, settings: ModelSettings, hardware: HardwareConfig, weights: WeightsConfig) -> None:
        """Checks device and precision; loads nothing. `jukebox_core.load_model` is the usual constructor."""
        self._settings, self._hardware, self._weights = settings, hardware, weights
        self._device = resolve_device(hardware.device)
        self._dtype = "float32" if hardware.dtype == "auto" else hardware.dtype
        if self._dtype not in DTYPES:
            raise ConfigError(f"hardware.dtype is {hardware.dtype!r}; a VampNet model computes in {', '.join(DTYPES)}")
        self._codec: Codec | None = None
        self._networks: dict[int, GridModel] = {}
        use_threads(hardware)

    @property
    def config(self) -> VampNetConfig:
        """The model's hyperparameters."""
        found: VampNetConfig = self._settings.config
        return found

    @property
    def codec(self) -> Codec:
        """The codec, loaded."""
        if self._codec is None:
            self._codec = load_codec(self._file(CODEC).path, device=self._device)
        return self._codec

    @torch.inference_mode()
    def encode(self, audio: AudioLike, *, rate: int | None = None) -> NDArray[np.int64]:
        """Returns the codes of a recording, int64 [codebooks, tokens]; its loudness is made -24 LUFS first.

        Args:
            audio: the path of an audio file, or samples in [-1, 1]: mono [T], or [T, C], whose channels are averaged.
            rate: sample rate of samples in Hz; by default the model's.

        Raises:
            AudioError: the file cannot be read, or the samples are not finite or shorter than 10 ms.
        """
        samples_TC, given = self._samples(audio, rate)
        audio_1CT = torch.from_numpy(samples_TC.T.copy())[None]
        prepared = prepare(audio_1CT, given, self.codec.config)
        codes: NDArray[np.int64] = encoded(self.codec, prepared.audio_B1T)[0].cpu().numpy()
        return codes

    @torch.inference_mode()
    def decode(self, codes: ArrayLike) -> NDArray[np.float32]:
        """Returns audio of codes [..., codebooks, tokens], float32 [..., time]; fewer codebooks sound coarser.

        Raises:
            ConfigError: values outside the codebooks, or more codebooks than the codec has.
        """
        given = self._codes(codes)
        audio: NDArray[np.float32] = decoded(self.codec, torch.from_numpy(given.reshape(-1, *given.shape[-2:]))).numpy()
        return audio.reshape(*given.shape[:-2], -1)

    def mask(self, codes: ArrayLike, config: MaskConfig | None = None, *, seed: int = 0) -> NDArray[np.bool_]:
        """Returns a mask for codes, [codebooks, tokens]: true where tokens are generated.

        Args:
            codes: [codebooks, tokens].
            config: the parts of the mask; by default every seventh step is kept, of the first three codebooks. Onsets
                and beats that are not in it are found in the sound of the codes. It is stretched by `vamp` alone.
            seed: decides random parts.

        Raises:
            ConfigError: the mask does not fit the codes, or a file that it names cannot be read.
        """
        given, codec = self._codes(codes), self.config.network.codec
        wanted = replace(config or MaskConfig(), stretch=1)
        check_mask_of(self.config, wanted)
        check_found(wanted, codec.n_codebooks)
        whole = complete(wanted, "", lambda: self.decode(given.reshape(-1, *given.shape[-2:])[0]), codec)
        return mask_of(self.config, whole, VampSampling(seed=seed), given.shape[-1])

    def inpaint_mask(self, codes: ArrayLike, start: float, stop: float) -> NDArray[np.bool_]:
        """Returns the mask that generates all codes from `start` to `stop`, in seconds, and keeps the others.

        Raises:
            ConfigError: the times do not rise within the music.
        """
        given, codec = self._codes(codes), self.config.network.codec
        mask: NDArray[np.bool_] = parts.seconds_span((1, *given.shape[-2:]), start, stop, codec)[0].numpy()
        return mask.copy()

    def vamp(
        self,
        audio: AudioLike | None = None,
        mask: NDArray[np.bool_] | MaskConfig | None = None,
        *,
        codes: ArrayLike | None = None,
        rate: int | None = None,
        stretch: int | None = None,
        sampling: VampSampling | None = None,
    ) -> Music:
        """Returns variations of a recording; codes of level 0 have all codebooks, of level 1 the coarse ones.

        Args:
            audio: the recording, as `encode` takes it.
            mask: [codebooks, tokens], true where tokens are generated; or its parts; None: the default parts.
            codes: instead of audio, [codebooks, tokens].
            rate: of samples, Hz.
            stretch: slow down by this factor; the mask is of the codes before. None: as the parts of the mask say.
            sampling: number of variations, seed, passes, rounds.

        Raises:
            ConfigError: the mask is not of the shape of the codes, audio and codes are both given or both missing, or
                parity is asked for in another precision than float32.
            AudioError: as `encode`.
            DownloadError, CheckpointError: the model's files cannot be downloaded, or are invalid.
        """
        if (audio is None) == (codes is None):
            raise ConfigError("give either audio or codes, one recording of either")
        how = sampling or VampSampling()
        check_parity(self._dtype, parity=how.parity)
        source = self._codes(codes) if codes is not None else self.encode(audio, rate=rate)  # type: ignore[arg-type]
        books = self.config.network.codec.n_codebooks
        if source.ndim != 2 or source.shape[0] != books or not source.shape[1]:
            raise ConfigError(f"codes have shape {source.shape}; give [{books}, tokens] of one recording")
        wanted = mask if isinstance(mask, np.ndarray) else self.mask(source, mask, seed=how.seed)
        check_mask(wanted, *source.shape)
        if stretch is None:
            stretch = mask.stretch if isinstance(mask, MaskConfig) else 1
        grids = torch.from_numpy(source)[None], torch.from_numpy(wanted.astype(np.bool_))[None]
        _, slowed_mask = parts.stretched(*grids, stretch)
        made = self._sample(source.astype(np.int32), slowed_mask[0].numpy(), stretch, how)
        lowest = min(made)
        return Music(made, self.decode(made[lowest]), self.config.sample_rate)

    def _sample(
        self, source: NDArray[np.int32], mask: NDArray[np.bool_], stretch: int, sampling: VampSampling
    ) -> dict[int, NDArray[np.int64]]:
        roles = self._settings.opened.roles(self.config)
        weights = {role: self._file(role).identity for role in roles}
        store = TokenStore(f"memory://vampnet-{uuid.uuid4().hex}")
        try:
            causes = {"source": digest_bytes(source.tobytes())}
            store.seal(digest(causes), source, first=0, causes=causes)
            track = Track((Span(digest(causes), 0, source.shape[1]),))
            plans = [
                plan_variation(Variation(self.config, weights, sampling, self._dtype, sample, track, mask, stretch))
                for sample in range(sampling.n_samples)
            ]
            self._run(plans, store, sampling)
            levels = [level for level in (FINE_LEVEL, COARSE_LEVEL) if len(plans[0].take[level])]
            return {
                level: np.stack([read_spans(store, tuple(plan.take[level])) for plan in plans]).astype(np.int64)
                for level in levels
            }
        finally:
            store.remove(*store.keys())

    def _run(self, plans: Sequence[VariationPlan], store: TokenStore, sampling: VampSampling) -> None:
        nodes = {node.key for plan in plans for node in plan.nodes}
        schedule = Schedule(plan_units(plans, self._hardware.batch_size or _BATCH), nodes, "by_level")
        policy, observer = FlushPolicy(tokens=2**62, seconds=math.inf), Unobserved()
        while (unit := schedule.take()) is not None:
            sample_nodes(
                partial(self._open, unit.level),
                unit.nodes,
                store,
                sampling,
                policy,
                observer,
                work=f"{self.config.name}, {ROLE_OF[unit.level]}",
            )
            schedule.finish(unit)

    def _open(self, level: int) -> TokenModel:
        if level not in self._networks:
            path = self._file(ROLE_OF[level]).path
            model = load_transformer(path, self.codec, device=self._device)
            self._networks[level] = GridModel(self.config, converted(model, self._dtype))
        return self._networks[level]

    def _file(self, role: str) -> LocalFile:
        return obtain_weights(self._settings, self._weights, roles=(role,))[role]

    def _codes(self, codes: ArrayLike) -> NDArray[np.int64]:
        given, codec = np.asarray(codes), self.config.network.codec
        if (
            given.ndim < 2
            or not np.issubdtype(given.dtype, np.integer)
            or not 1 <= given.shape[-2] <= codec.n_codebooks
        ):
            raise ConfigError(
                f"codes are {given.dtype} {list(given.shape)}; give integers [..., codebooks, tokens] with at most "
                f"{codec.n_codebooks} codebooks"
            )
        if given.size and not 0 <= given.min() <= given.max() < codec.codebook_size:
            raise ConfigError(
                f"codes are from {given.min()} to {given.max()}; they must be from 0 to {codec.codebook_size - 1}"
            )
        return given.astype(np.int64)

    def _samples(self, audio: AudioLike, rate: int | None) -> tuple[NDArray[np.float32], int]:
        """Returns samples [T, C] and their rate."""
        own = self.config.sample_rate
        if isinstance(audio, str | os.PathLike):
            samples, given = read_channels(Path(audio), rate=own), own
        else:
            samples, given = np.asarray(audio, np.float32), own if rate is None else rate
            samples = samples[:, None] if samples.ndim == 1 else samples
        if given <= 0:
            raise AudioError(f"rate is {given}; give the sample rate in Hz")
        if samples.ndim != 2 or samples.shape[1] > samples.shape[0]:
            raise AudioError(f"audio has shape {samples.shape}; give mono [time] or [time, channels]")
        if len(samples) < SHORTEST_SECONDS * given:
            lasts, least = 1000 * len(samples) / given, 1000 * SHORTEST_SECONDS
            raise AudioError(f"the recording lasts {lasts:.1f} ms; give at least {least:g} ms")
        if not np.isfinite(samples).all():
            raise AudioError("audio holds values that are not finite; give samples in [-1, 1]")
        return samples, given
