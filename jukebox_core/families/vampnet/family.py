"""VampNet behind the door (`jukebox_core.family`): models that vary recordings, by filling masked grids of codes.

A variation is a song whose prompt is the whole recording, and whose conditioning is a mask. Methods that need torch
import it when they are called. Music from nothing is refused.
"""

from __future__ import annotations

from dataclasses import asdict, replace
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, NoReturn

from jukebox_core.base.hashing import digest_file
from jukebox_core.errors import CheckpointError, ConfigError
from jukebox_core.export.engine import ENGINE, open_graphs
from jukebox_core.families.vampnet.config import (
    C2F,
    COARSE,
    COARSE_LEVEL,
    CODEC,
    FINE_LEVEL,
    LORA_RANK,
    ROLE_OF,
    SHORTEST_SECONDS,
    VampNetConfig,
    VampNetNetwork,
)
from jukebox_core.families.vampnet.export.names import DECODER, ENCODER, ROLE_OF_GRAPH
from jukebox_core.families.vampnet.masks.config import MaskConfig, TimeRange
from jukebox_core.families.vampnet.sampling.config import VampSampling
from jukebox_core.families.vampnet.sampling.song import Varied, VariedOverride, check_mask_of, described
from jukebox_core.protocols import WeightFile

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from pathlib import Path

    import numpy as np
    from numpy.typing import NDArray

    from jukebox_core.export.graph import Graph
    from jukebox_core.families.vampnet.api import VampNet
    from jukebox_core.families.vampnet.sampling.codec import GridCodec
    from jukebox_core.families.vampnet.sampling.graph import VariationPlan
    from jukebox_core.families.vampnet.sampling.grid_model import GridModel
    from jukebox_core.families.vampnet.training.family import VampNetTraining
    from jukebox_core.family import RunRequest
    from jukebox_core.models.config import WeightsConfig
    from jukebox_core.models.presets import ModelSettings
    from jukebox_core.runtime.config import HardwareConfig
    from jukebox_core.tokens.graph import Take


_UNKNOWN = {"bytes": None, "about_bytes": None, "sha256": None}  # of files that upstream may add at any time


class VampNetFamily:
    """VampNet (Flores Garcia et al. 2023): a codec, and two masked transformers over its codes."""

    name = "vampnet"
    network_type = VampNetNetwork
    sampling_type = VampSampling
    song_type = Varied
    song_overrides_type = VariedOverride
    codec_role = CODEC
    dtypes = ("float32", "bfloat16", "int8")
    mask_type = MaskConfig
    shortest_seconds = SHORTEST_SECONDS
    level_names = MappingProxyType({FINE_LEVEL: "All codebooks", COARSE_LEVEL: "Coarse codebooks"})

    def config(self, name: str, network: VampNetNetwork) -> VampNetConfig:
        """Returns the hyperparameters of the preset called `name`."""
        return VampNetConfig(name=name, network=network)

    # Files

    def roles(self, config: VampNetConfig) -> tuple[str, ...]:
        """Returns ``codec``, ``coarse`` and, where the model has it, ``c2f``."""
        return (CODEC, COARSE, *((C2F,) if config.network.c2f is not None else ()))

    def role_of(self, level: int) -> str:
        """Returns the transformer that makes `level`."""
        return ROLE_OF[level]

    def files_of(self, role: str) -> tuple[str, ...]:
        """Returns the role, and for a transformer the codec, whose codebooks it reads."""
        return (role,) if role == CODEC else (role, CODEC)

    def check_file(self, config: VampNetConfig, role: str, path: Path) -> None:
        """Checks that a file holds every tensor of `role`, in its shape, and nothing else, and the preset's sizes."""
        from jukebox_core.families.vampnet.checkpoints.loading import check_file

        check_file(config, role, path)

    def initialise(self, config: VampNetConfig, role: str, seed: int, path: Path) -> NoReturn:
        """Refuses: the sizes of a codec's networks are in its file alone."""
        raise ConfigError(f"{config.name} has no untrained weights; list its sources under files.weight_sources")

    def initialise_causes(self, config: VampNetConfig, role: str) -> Mapping[str, Any]:
        """Returns the sizes of the model."""
        return {"network": asdict(config.network)}

    def codec_causes(self, config: VampNetConfig) -> Mapping[str, Any]:
        """Returns the sizes of the codes."""
        return {"codec": asdict(config.network.codec)}

    def split(self, config: VampNetConfig, role: str, shards: Sequence[Path], path: Path) -> NoReturn:
        """Refuses: no copy of these models is in shards."""
        raise CheckpointError(f"{config.name} has a file for each network; list its sources under files.weight_sources")

    def finetuned(self, data: Mapping[str, Any], name: str) -> dict[str, Any]:
        """Returns the plain settings of a fine-tune: the model with other transformers, in ``loras/<name>``."""
        weights = {
            role: file if role == CODEC else {**file, "path": f"loras/{name}/{role}.pth", **_UNKNOWN}
            for role, file in data["files"]["weights"].items()
        }
        return {**data, "name": f"{data['name']}-{name}", "files": {**data["files"], "weights": weights}}

    # Masks

    def check_variation(self, config: VampNetConfig, mask: MaskConfig, sampling: VampSampling) -> VampSampling:
        """Returns the sampling for a model, which makes what the model can make."""
        from jukebox_core.families.vampnet.masks.found import check_found

        check_mask_of(config, mask)
        check_found(mask, config.network.codec.n_codebooks)
        return replace(sampling, stop_level=COARSE_LEVEL) if config.network.c2f is None else sampling

    def check_recording(self, config: VampNetConfig, mask: MaskConfig, seconds: float) -> None:
        """Checks that the times of a mask are within a recording."""
        last = max((*mask.beats.times, *mask.beats.bars), default=0.0)
        if last > seconds:
            raise ConfigError(
                f"mask.beats has a beat at {last:g} s, but the recording ends at {seconds:.3f} s; correct it"
            )
        stop = max((each.stop for each in mask.ranges), default=0.0)
        if stop > seconds:
            raise ConfigError(f"stop is {stop:g} s, but the recording ends at {seconds:.3f} s; choose a time within it")

    def complete_mask(
        self, config: VampNetConfig, mask: MaskConfig, recording: str, sound: Callable[[], NDArray[np.float32]]
    ) -> MaskConfig:
        """Returns a mask with the beats, the onsets and the drawn tokens of one recording."""
        from jukebox_core.families.vampnet.masks.found import complete

        return complete(mask, recording, sound, config.network.codec)

    def hole(self, start: float, stop: float) -> MaskConfig:
        """Returns the mask that generates the seconds from `start` to `stop` alone."""
        return MaskConfig(ranges=(TimeRange(start=start, stop=stop),), period=0, upper_codebook_mask=None)

    def variation(self, mask: MaskConfig, number: int) -> VariedOverride:
        """Returns the song that is one variation of a recording."""
        return VariedOverride(mask=mask, variation=number)

    def song_mask(self, request: RunRequest, sample: int, steps: int) -> NDArray[np.bool_]:
        """Returns the mask [codebooks, tokens] of one song of a run, whose recording has `steps` tokens."""
        from jukebox_core.families.vampnet.sampling.songs import mask_of

        return mask_of(request.config, request.song_of(sample).mask, request.sampling, steps)

    # Songs

    def check_song(self, config: VampNetConfig, song: Varied, seconds: float) -> None:
        """Checks that the model has the codebooks that a mask names."""
        check_mask_of(config, song.mask)

    def complete_song(self, config: VampNetConfig, song: Varied, seconds: float, usual_seconds: float | None) -> Varied:
        """Returns `song`: it leaves nothing to the model."""
        return song

    def length(self, request: RunRequest) -> int:
        """Returns the length up to which recordings are read, in audio samples."""
        hop: int = request.config.network.codec.hop
        return int(request.seconds * request.config.sample_rate) // hop * hop

    def condition(self, request: RunRequest, vocabularies: Mapping[str, Path]) -> tuple[Varied, ...]:
        """Returns the variations."""
        return tuple(request.song_of(sample) for sample in range(request.sampling.n_samples))

    def plan(
        self, request: RunRequest, conditioning: Sequence[Varied], weights: Mapping[str, str], have: Sequence[Take]
    ) -> list[VariationPlan]:
        """Returns the graph of each variation; its recording is its initial take."""
        from jukebox_core.families.vampnet.sampling.songs import plan_songs

        return plan_songs(request.config, request.sampling, request.dtype, conditioning, weights, have)

    def describe(self, song: Varied) -> Mapping[str, str]:
        """Returns the mask in words, and the number of the variation."""
        return {"variation": str(song.variation), "mask": described(song.mask)}

    # Networks

    def open_api(self, preset: ModelSettings, hardware: HardwareConfig, weights: WeightsConfig) -> VampNet:
        """Returns the model for Python programs."""
        from jukebox_core.families.vampnet.api import VampNet

        return VampNet(preset, hardware, weights)

    def code_lengths(self, config: VampNetConfig, codec: Path, samples: int) -> tuple[int, ...]:
        """Returns the tokens of both levels: by the strides that the codec's file states, which may be odd."""
        from jukebox_core.families.vampnet.checkpoints.loading import stored_codec

        sizes = stored_codec(codec)
        return (sizes.frames(sizes.padded(samples)),) * 2

    def open_codec(self, config: VampNetConfig, path: Path, hardware: HardwareConfig) -> GridCodec:
        """Returns the codec on its device."""
        from jukebox_core.families.vampnet.checkpoints.loading import load_codec, stored_codec
        from jukebox_core.families.vampnet.sampling.codec import GridCodec
        from jukebox_core.runtime.device import resolve_device

        if hardware.engine == ENGINE:
            from jukebox_core.families.vampnet.export.engine import GraphCodec

            files = {CODEC: WeightFile(path, digest_file(path))}
            sessions = open_graphs(self.name, config, (ENCODER, DECODER), files, hardware, self.open_graph)
            return GridCodec(GraphCodec(stored_codec(path), sessions, path), config.network.coarse.n_codebooks)
        return GridCodec(load_codec(path, device=resolve_device(hardware.device)), config.network.coarse.n_codebooks)

    def open_model(
        self,
        config: VampNetConfig,
        role: str,
        files: Mapping[str, WeightFile],
        hardware: HardwareConfig,
        library: Path | None,
    ) -> GridModel:
        """Returns the transformer of `role` over the codebooks of the codec, in the precision of `hardware.dtype`."""
        from jukebox_core.families.vampnet.checkpoints.loading import load_codec, load_transformer
        from jukebox_core.families.vampnet.engine import converted
        from jukebox_core.families.vampnet.sampling.grid_model import GridModel
        from jukebox_core.runtime.device import resolve_device

        if hardware.engine == ENGINE:
            from jukebox_core.families.vampnet.export.engine import GraphTransformer

            given = {each: files[each] for each in self.files_of(role)}
            session = open_graphs(self.name, config, (role,), given, hardware, self.open_graph)[role]
            return GridModel(config, GraphTransformer(config.sizes(role), session))
        codec = load_codec(files[CODEC].path)
        model = load_transformer(files[role].path, codec, device=resolve_device(hardware.device))
        return GridModel(config, converted(model, hardware.dtype))

    def graphs(self, config: VampNetConfig) -> Mapping[str, tuple[str, ...]]:
        """Returns the codec's encoder and decoder, and the transformers."""
        return {name: self.files_of(role) for name, role in ROLE_OF_GRAPH.items() if role in self.roles(config)}

    def open_graph(self, config: VampNetConfig, name: str, files: Mapping[str, WeightFile]) -> Graph:
        """Returns a graph of a model."""
        from jukebox_core.families.vampnet.export.graphs import open_graph

        return open_graph(name, files)

    def estimate_bytes(
        self, config: VampNetConfig, levels: Sequence[int], dtype: str, batch: int, *, together: bool
    ) -> int:
        """Returns the estimated bytes of weights and of a pass over a chunk of `batch` variations."""
        from jukebox_core.families.vampnet.sampling.memory import estimate_bytes

        return estimate_bytes(config, levels, dtype, batch, together=together)

    def approximate_parameters(self, config: VampNetConfig) -> int:
        """Returns the number of parameters of the transformers, as upstream's files have them; the codec is small."""
        return sum(config.sizes(role).parameters(LORA_RANK) for role in self.roles(config)[1:])

    def training(self) -> VampNetTraining:
        """Returns the training of these models."""
        from jukebox_core.families.vampnet.training.family import TRAINING

        return TRAINING


FAMILY = VampNetFamily()
