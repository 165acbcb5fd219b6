"""The Python interface: a model that encodes, generates and decodes, with arrays in and out. No Prefect, no Hydra.

A model samples by the same plan and the same recipe as `jukebox generate` (`jukebox_core.sampling.windows`), over a
store in memory.
"""

from __future__ import annotations

import gc
import math
import os
from contextlib import nullcontext
from dataclasses import replace
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from jukebox_core.api.generation import Generation, Progress, free, integers, open_store, seal_start
from jukebox_core.api.music import Music, Piece, composite
from jukebox_core.api.progress_bar import Bar
from jukebox_core.api.request import ModelMaker, Request, make_request
from jukebox_core.composer.builtin import read_prompt_audio
from jukebox_core.errors import LabelError
from jukebox_core.models.config import WeightsConfig
from jukebox_core.models.labels import names_of, with_models
from jukebox_core.models.presets import load_preset
from jukebox_core.models.resolve import obtain_vocabularies, obtain_weights
from jukebox_core.protocols import WeightFile
from jukebox_core.runtime.config import HardwareConfig
from jukebox_core.runtime.device import free_memory, kind_and_memory, resolve_device, use_threads
from jukebox_core.runtime.precision import SamplingMemory, choose_dtype, max_batch_size

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
    from contextlib import AbstractContextManager

    from numpy.typing import NDArray

    from jukebox_core.api.music import Audio, Codes
    from jukebox_core.features.config import FeatureConfig
    from jukebox_core.features.plan import FeaturePlan
    from jukebox_core.models.library import LocalFile
    from jukebox_core.models.presets import ModelSettings
    from jukebox_core.protocols import Codec, FeatureExtractor, SongPlan, TokenModel
    from jukebox_core.tokens.graph import Take


def load_model(
    name: str | os.PathLike[str] = "mini",
    *,
    hardware: HardwareConfig | None = None,
    folder: str | os.PathLike[str] | None = None,
    mirrors: Sequence[str] = (),
    offline: bool = False,
    auto_download: bool = True,
) -> Any:
    """Returns a model as its family opens it (`Jukebox`); weights are fetched when first needed, and checked.

    Args:
        name: a shipped model (mini, 1b_lyrics, 5b, 5b_lyrics), or the path of a model's yaml file.
        hardware: device, dtype and batch size; by default the best device, with values that suit it and its memory.
        folder: where fetched files are kept; by default, as on the command line, the folder in the environment
            variable JUKEBOX_WEIGHTS, else the user's cache folder (`jukebox_core.base.paths.cache_dir`).
        mirrors: sources tried before those the model names.
        offline: open no connection.
        auto_download: fetch missing files; otherwise they are an error that names them.

    Raises:
        ConfigError: there is no such model.
        DeviceError: the device does not exist.
    """
    kept = None if folder is None else os.fspath(folder)
    weights = WeightsConfig(folder=kept, mirrors=tuple(mirrors), offline=offline, auto_download=auto_download)
    preset = load_preset(name)
    return preset.opened.open_api(preset, hardware or HardwareConfig(), weights)


class Model:
    """A codec and the networks that sample, each loaded when it is first needed; one network is in memory at a time."""

    def __init__(self, settings: ModelSettings, hardware: HardwareConfig, weights: WeightsConfig) -> None:
        """Resolves device and precision; loads nothing. `load_model` is the usual constructor."""
        self._settings, self._weights, self._family = settings, weights, settings.opened
        self._device = resolve_device(hardware.device)
        if hardware.dtype == "auto":
            kind, total = kind_and_memory(self._device)
            hardware = replace(hardware, dtype=choose_dtype(self._memory(range(self.config.top + 1)), kind, total))
        self._hardware = hardware
        self._codec: Codec | None = None
        self._network: tuple[str, Any] | None = (
            None  # its role, or what part of it; and a TokenModel or FeatureExtractor
        )
        use_threads(hardware)

    @property
    def config(self) -> Any:
        """The model's hyperparameters."""
        return self._settings.config

    def encode(self, audio: Audio, levels: Iterable[int] | None = None) -> dict[int, Codes]:
        """Returns codes by level, int64 [..., time // hop], of mono audio, float32 [..., time] at the model's rate.

        Args:
            audio: sound in [-1, 1], as `read_audio` gives it.
            levels: those wanted; all by default.

        Raises:
            AudioError: it is shorter than one token of a level asked for.
            ConfigError: a level that the model does not have.
        """
        wanted = tuple(range(len(self.config.hops)) if levels is None else levels)
        sound = np.atleast_1d(np.asarray(audio, np.float32))
        codes = self._open_codec().encode(_batch(sound, 1), wanted)
        return {
            level: each.astype(np.int64).reshape(*sound.shape[:-1], *each.shape[1:])
            for level, each in zip(wanted, codes, strict=True)
        }

    def decode(self, codes: Codes, level: int = 0) -> Audio:
        """Returns audio, float32 [..., tokens * hop], of one level's codes, int [..., tokens]. It may exceed 1.

        Codes of a family with grids are [..., codebooks, tokens].

        Raises:
            ConfigError: values outside the codebook, or a level that the model does not have.
        """
        tokens, codec = np.atleast_1d(integers(codes, "codes")), self._open_codec()
        return codec.decode(_batch(tokens, codec.code_axes), level).reshape(*tokens.shape[: -codec.code_axes], -1)

    def generate(
        self,
        songs: Any = None,
        *,
        seconds: float,
        n_samples: int | None = None,
        seed: int | None = None,
        sampling: Any = None,
        start: Mapping[int, Codes] | None = None,
        store: str | os.PathLike[str] | None = None,
        on_progress: Callable[[Progress], None] | Literal["bar"] | None = "bar",
    ) -> Music:
        """Makes music, all samples as one batch where memory allows.

        The same settings give the same tokens as ``jukebox generate``. Ctrl-C ends sampling and returns what is there,
        as music whose `finished` is false.

        Args:
            songs: conditioning: one song for all samples, or one for each; by default the family's defaults. A song
                without `total_seconds` counts as long as a usual song of the model (`usual_seconds` of its preset).
            seconds: length of the music, `start` included; rounded down to whole top-level tokens.
            n_samples: number of samples; by default `sampling.n_samples`, or one for each of several songs.
            seed: of the noise; by default `sampling.seed`.
            sampling: temperatures, filters, hops and the last level to sample.
            start: codes that the music starts with, by level, [samples, tokens] or [tokens], as `encode` and `prompt`
                return them.
            store: a token store that outlasts this call, as ``outputs/.store``: its keys are those of the command line,
                so that nothing is sampled twice, and an interrupted call goes on where it was. None: in memory.
            on_progress: called after every step of the model; ``bar`` shows a bar in a notebook or on a terminal.

        Raises:
            ConfigError: lengths that the model cannot make, or a start that does not fit.
            LabelError: an artist, genre or lyrics that the model does not know.
            DownloadError, CheckpointError: the model's files cannot be downloaded, or are invalid.
            KeyboardInterrupt: Ctrl-C before there was any token.
        """
        request = self._request(songs, seconds, n_samples, seed, sampling)
        shown: AbstractContextManager[Callable[[Progress], None] | None]
        made, finished = self._generation(request, start, store), True
        try:
            try:
                shown = Bar() if isinstance(on_progress, str) else nullcontext(on_progress)
                with shown as report:
                    for _ in made.windows(report):
                        pass
            except KeyboardInterrupt:
                finished = False
            codes = made.codes()
            if not codes:
                raise KeyboardInterrupt
        finally:
            made.close()
        maker = ModelMaker(self, self._settings, request)
        sound = self.decode(codes[min(codes)], min(codes)) if finished else composite(codes, maker, self.config.hops)
        return Music(codes, sound, self.config.sample_rate, finished, maker)

    def stream(
        self,
        songs: Any = None,
        *,
        seconds: float,
        n_samples: int | None = None,
        seed: int | None = None,
        sampling: Any = None,
        start: Mapping[int, Codes] | None = None,
        store: str | os.PathLike[str] | None = None,
    ) -> Iterator[Piece]:
        """Yields after every window how far the music is, and how it sounds so far; the last piece is all of it.

        Arguments and errors are those of `generate`; the settings are checked before the first piece is asked for.
        """
        request = self._request(songs, seconds, n_samples, seed, sampling)
        made, maker = self._generation(request, start, store), ModelMaker(self, self._settings, request)
        return self._pieces(made, maker)

    def _pieces(self, made: Generation, maker: ModelMaker) -> Iterator[Piece]:
        config = self.config
        try:
            for level in made.windows():
                codes = made.codes()
                tokens = codes[level].shape[-1] if level in codes else 0
                yield Piece(level, config.seconds(level, tokens), codes, maker, config.hops)
        finally:
            made.close()

    def prompt(
        self, path: str | os.PathLike[str], *, seconds: float | None = None, offset_seconds: float = 0.0
    ) -> dict[int, Codes]:
        """Returns the codes of the beginning of a recording, int64 [tokens] by level, for `start` of `generate`.

        Args:
            path: a wav, flac, ogg or mp3 file, any that ffmpeg reads, or ``builtin:tune``.
            seconds: length; None: to its end.
            offset_seconds: start within the recording.

        Raises:
            AudioError: it cannot be read, or is too short.
        """
        sound = read_prompt_audio(os.fspath(path), rate=self.config.sample_rate, seconds=seconds, offset=offset_seconds)
        top = self.config.hops[self.config.top]
        return self.encode(sound[: len(sound) // top * top])

    @property
    def artists(self) -> tuple[str, ...]:
        """The artists that the model knows, sorted; ConfigError if it knows none."""
        return tuple(names_of(self._settings, self._weights)["artists"])

    @property
    def genres(self) -> tuple[str, ...]:
        """The genres that the model knows, sorted; ConfigError if it knows none."""
        return tuple(names_of(self._settings, self._weights)["genres"])

    def features(
        self,
        audio: Audio | list[Audio] | None = None,
        *,
        from_codes: Mapping[int, Codes] | None = None,
        recipe: str | os.PathLike[str] | FeatureConfig = "default",
        song: Any = None,
        total_seconds: float | None = None,
        offset_seconds: float = 0.0,
        **changes: Any,
    ) -> Any:
        """Returns codes and activations as a `Features`, or a list of them for a list of recordings.

        Args:
            audio: mono sound, float32 [time] at the model's rate, as `read_audio` gives it; or a list of these.
            from_codes: instead of audio: codes by level, int [tokens], as `encode` returns them.
            recipe: a shipped recipe by name (docs/features.md), the path of a file, or a `FeatureConfig`.
            song: what the network is conditioned on; by default the family's defaults.
            total_seconds: length of the whole song; by default of the recording and what is before it.
            offset_seconds: start of the recording in that song.
            changes: fields of the recipe with other values, such as ``layers=(12, 24)``, ``pooling="max"``.

        Raises:
            ConfigError: the recipe does not fit itself or the model; nothing was loaded.
            AudioError: a recording is too short.
            LabelError: a name or text that the model does not know.
        """
        from jukebox_core.features.networks import connect
        from jukebox_core.features.plan import plan_features
        from jukebox_core.features.presets import load_recipe
        from jukebox_core.features.results import extract_all, recordings_of

        chosen = load_recipe(recipe, **changes)
        plan = plan_features(self._settings, chosen)
        recordings = recordings_of(audio, from_codes, song, total_seconds, offset_seconds)
        files = obtain_vocabularies(self._settings.files, self._weights) if plan.deepest else {}
        networks = connect(
            self._settings,
            chosen,
            {role: file.path for role, file in files.items()},
            codec=self._open_codec,
            extractor=self._open_extractor(plan) if plan.deepest else None,
            batch=self._hardware.batch_size,
        )
        made = extract_all(recordings, networks)
        return made if isinstance(audio, list | tuple) else made[0]

    def _open_extractor(self, plan: FeaturePlan) -> FeatureExtractor:
        """Returns the first layers of a network, loaded; the network that was in memory is freed first."""
        role, hardware = plan.roles[-1], self._hardware
        name = f"{role}, {plan.deepest} layers"
        if self._network is None or self._network[0] != name:
            self._network = None
            gc.collect()
            file, library = self._weights_of(role), self._weights.prepared_home
            opened = plan.family.open_features(
                self.config, plan.sizes.level, file.path, file.identity, hardware, library, deepest=plan.deepest
            )
            self._network = (name, opened)
        extractor: FeatureExtractor = self._network[1]
        return extractor

    def _request(self, songs: Any, seconds: float, n_samples: int | None, seed: int | None, sampling: Any) -> Request:
        dtype = self._hardware.dtype
        return make_request(
            self._settings, dtype, songs=songs, seconds=seconds, n_samples=n_samples, seed=seed, sampling=sampling
        )

    def _generation(
        self, request: Request, start: Mapping[int, Codes] | None, store: str | os.PathLike[str] | None
    ) -> Generation:
        """Returns the planned windows of a request, over a store that holds its start."""
        opened, samples = open_store(None if store is None else os.fspath(store)), request.sampling.n_samples
        try:
            have = seal_start(opened, self.config, start or {}, self._family.length(request), samples)
            plans = self._plan(request, have)
        except BaseException:
            free(opened)
            raise
        levels = sorted({node.level for plan in plans for node in plan.nodes})
        return Generation(
            family=self._family,
            config=self.config,
            sampling=request.sampling,
            plans=plans,
            store=opened,
            batch=self._hardware.batch_size or self._fitting_batch(levels, plans),
            open_network=self._open_network,
        )

    def _plan(self, request: Request, have: Sequence[Take]) -> list[SongPlan]:
        files = obtain_vocabularies(self._settings.files, self._weights)
        try:
            conditioning = self._family.condition(request, {role: file.path for role, file in files.items()})
        except LabelError as error:
            raise with_models(error, self.config.name, self._weights) from None
        levels = range(request.sampling.stop_level, self.config.top + 1)
        roles = dict.fromkeys(self._family.role_of(level) for level in levels)
        identities = {role: self._weights_of(role).identity for role in roles}
        return self._family.plan(request, conditioning, identities, have)

    def _fitting_batch(self, levels: Sequence[int], plans: Sequence[SongPlan]) -> int:
        """Returns the batch size that fits the free memory, where that of the loaded network counts as free."""
        memory, dtype = self._memory(levels), self._hardware.dtype
        room = free_memory(self._device) + (memory.bytes(dtype, 0) if self._network is not None else 0)
        return max(1, max_batch_size(room, len(plans), lambda count: memory.bytes(dtype, count)))

    def _memory(self, levels: Sequence[int]) -> SamplingMemory:
        return SamplingMemory(family=self._family, config=self.config, levels=levels)

    def _open_codec(self) -> Codec:
        if self._codec is None:
            path = self._weights_of(self._family.codec_role).path
            self._codec = self._family.open_codec(self.config, path, self._hardware)
        return self._codec

    def _open_network(self, role: str) -> TokenModel:
        """Returns the network of `role`, loaded; the one of another role is freed first."""
        if self._network is None or self._network[0] != role:
            self._network = None
            gc.collect()
            found = {each: self._weights_of(each) for each in self._family.files_of(role)}
            files = {each: WeightFile(file.path, file.identity) for each, file in found.items()}
            opened = self._family.open_model(self.config, role, files, self._hardware, self._weights.prepared_home)
            self._network = (role, opened)
        network: TokenModel = self._network[1]
        return network

    def _weights_of(self, role: str) -> LocalFile:
        return obtain_weights(self._settings, self._weights, roles=(role,))[role]


def _batch(values: NDArray[Any], axes: int) -> NDArray[Any]:
    """Returns an array [..., *item] with all but its last `axes` axes as one, [batch, *item]."""
    return values.reshape(math.prod(values.shape[:-axes]), *values.shape[-axes:])
