"""MT3 behind the door (`jukebox_core.family`): models that read music and write notes; they generate nothing.

Methods that need torch import it when they are called. What belongs to generating music is refused by name.
"""

from __future__ import annotations

from dataclasses import asdict
from typing import TYPE_CHECKING, Any, NoReturn

from jukebox_core.base.hashing import digest_file
from jukebox_core.errors import CheckpointError
from jukebox_core.export.engine import ENGINE, open_graphs
from jukebox_core.export.engine import check_hardware as check_graphs
from jukebox_core.families.mt3.config import (
    HALVINGS,
    SHORTEST_SECONDS,
    TRANSCRIBER,
    MT3Config,
    MT3Network,
    TranscriptionConfig,
    check_transcription,
    generates_nothing,
    is_sequential,
)
from jukebox_core.families.mt3.export.names import graph_names
from jukebox_core.protocols import WeightFile

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from jukebox_core.export.graph import Graph
    from jukebox_core.families.mt3.api import TranscriptionModel
    from jukebox_core.families.mt3.training.family import MT3Training
    from jukebox_core.families.mt3.transcription.transcriber import Transcriber
    from jukebox_core.models.config import WeightsConfig
    from jukebox_core.models.presets import ModelSettings
    from jukebox_core.runtime.config import HardwareConfig


class _OfMusic:
    """An attribute that only families of generating models have."""

    def __get__(self, owner: object, kind: type | None = None) -> NoReturn:
        raise generates_nothing()


class MT3Family:
    """MT3 (Gardner et al. 2022), MR-MT3 and the piano model before them: one encoder-decoder."""

    name = "mt3"
    network_type = MT3Network
    sampling_type = _OfMusic()
    song_type = _OfMusic()
    song_overrides_type = _OfMusic()
    codec_role = _OfMusic()
    dtypes = _OfMusic()

    def config(self, name: str, network: MT3Network) -> MT3Config:
        """Returns the hyperparameters of the preset called `name`."""
        return MT3Config(name=name, network=network)

    # Files

    def roles(self, config: MT3Config) -> tuple[str, ...]:
        """Returns ``transcriber``, the only file."""
        return (TRANSCRIBER,)

    def role_of(self, level: int) -> str:
        """Returns ``transcriber``."""
        return TRANSCRIBER

    def files_of(self, role: str) -> tuple[str, ...]:
        """Returns the role alone: a file is a network."""
        return (role,)

    def check_file(self, config: MT3Config, role: str, path: Path) -> None:
        """Checks that a file holds every tensor of the model, in its shape, and nothing else."""
        from jukebox_core.families.mt3.checkpoints.loading import check_weights

        check_weights(config.network, path)

    def initialise(self, config: MT3Config, role: str, seed: int, path: Path) -> None:
        """Writes untrained weights, drawn from `seed`."""
        from jukebox_core.families.mt3.checkpoints.loading import write_seeded

        write_seeded(config, seed, path)

    def initialise_causes(self, config: MT3Config, role: str) -> Mapping[str, Any]:
        """Returns the sizes that decide untrained weights."""
        return {"network": _sizes(config.network)}

    def split(self, config: MT3Config, role: str, shards: Sequence[Path], path: Path) -> None:
        """Refuses: no copy of these models is in shards."""
        raise CheckpointError(f"{config.name} is one file; list its sources under files.weight_sources")

    # Transcription

    transcription_type = TranscriptionConfig
    shortest_seconds = SHORTEST_SECONDS

    def transcription_causes(self, config: MT3Config, settings: TranscriptionConfig) -> Mapping[str, Any]:
        """Returns the sizes of the model, and all settings but the batch size; beams only if there are several."""
        causes = asdict(settings)
        del causes["batch_size"]
        if settings.num_beams == 1:
            del causes["num_beams"]
        return {"network": _sizes(config.network), "transcription": causes}

    def check_transcription(self, config: MT3Config, settings: TranscriptionConfig) -> None:
        """Checks that the model can transcribe in the way that `settings` ask for."""
        check_transcription(config.network, settings)

    def check_hardware(self, hardware: HardwareConfig, kind: str) -> None:
        """Checks that a kind of device can compute in the chosen precision, with the chosen engine."""
        from jukebox_core.families.mt3.engines.engines import check_engine

        if hardware.engine == ENGINE:
            check_graphs(hardware)
            return
        check_engine(hardware.dtype, hardware.engine, kind)

    def transcription_bytes(self, config: MT3Config, settings: TranscriptionConfig, dtype: str) -> int:
        """Returns the estimated bytes of weights and of transcribing in this way."""
        from jukebox_core.families.mt3.transcription.memory import transcription_bytes

        return transcription_bytes(config.network, self.approximate_parameters(config), settings, dtype)

    def block_samples(self, config: MT3Config, settings: TranscriptionConfig) -> int | None:
        """Returns the samples of a block; None if each depends on the one before."""
        from jukebox_core.families.mt3.transcription.blocks import SEGMENTS  # needs numpy

        if is_sequential(config.network, settings):
            return None
        return SEGMENTS * config.network.front_end.segment_samples

    def open_transcriber(self, config: MT3Config, path: Path, hardware: HardwareConfig) -> Transcriber:
        """Returns the model on its device."""
        from jukebox_core.families.mt3.checkpoints.loading import load_model
        from jukebox_core.families.mt3.engines.engines import prepare
        from jukebox_core.families.mt3.transcription.transcriber import open_transcriber
        from jukebox_core.runtime.device import resolve_device

        if hardware.engine == ENGINE:
            from jukebox_core.families.mt3.export.engine import GraphMT3, check_has_encoder

            check_has_encoder(config)
            files = {TRANSCRIBER: WeightFile(path, digest_file(path))}
            names = graph_names(config.network)
            sessions = open_graphs(self.name, config, names, files, hardware, self.open_graph)
            return open_transcriber(GraphMT3(config.network, sessions))
        device = resolve_device(hardware.device)
        self.check_hardware(hardware, device.type)
        model = load_model(config.network, path, device=device)
        return open_transcriber(prepare(model, hardware.dtype, hardware.engine))

    def graphs(self, config: MT3Config) -> Mapping[str, tuple[str, ...]]:
        """Returns encoder, memory, start and step, all of one file."""
        return dict.fromkeys(graph_names(config.network), (TRANSCRIBER,))

    def open_graph(self, config: MT3Config, name: str, files: Mapping[str, WeightFile]) -> Graph:
        """Returns a graph of a model."""
        from jukebox_core.families.mt3.export.graphs import open_graph

        return open_graph(config, name, files)

    def open_api(self, preset: ModelSettings, hardware: HardwareConfig, weights: WeightsConfig) -> TranscriptionModel:
        """Returns the model for Python programs."""
        from jukebox_core.families.mt3.api import TranscriptionModel

        return TranscriptionModel(preset, hardware, weights)

    def approximate_parameters(self, config: MT3Config) -> int:
        """Returns about how many parameters the model has: its matrices, convolutions and tables."""
        sizes = config.network.transformer
        attention, mlp = 4 * sizes.width * sizes.heads * sizes.head_width, 3 * sizes.width * sizes.mlp_width
        memory = config.network.memory.depth if config.network.memory else 0
        encoders = (sizes.encoder_depth + memory) * (attention + mlp)
        if (perceiver := config.network.perceiver) is not None:
            layers = perceiver.local_depth + perceiver.temporal_depth
            experts = 3 * perceiver.experts * perceiver.width * perceiver.mlp_width
            encoders = perceiver.blocks * ((layers + 1) * 4 * perceiver.width**2 + layers * experts)
            encoders += (2 * HALVINGS - 1) * 9 * perceiver.convolutions**2 + perceiver.positions * sizes.width
        return encoders + sizes.decoder_depth * (2 * attention + mlp) + 2 * sizes.embeddings * sizes.width

    def training(self) -> MT3Training:
        """Returns the training of the network."""
        from jukebox_core.families.mt3.training.family import TRAINING

        return TRAINING

    # Generation, which these models cannot

    def _refuse(self, *_: Any, **__: Any) -> NoReturn:
        """Refuses: these models transcribe."""
        raise generates_nothing()

    check_song = complete_song = length = condition = plan = describe = estimate_bytes = _refuse
    codec_causes = code_lengths = open_codec = open_model = _refuse


def _sizes(network: MT3Network) -> dict[str, Any]:
    """Returns the sizes of a model; a part that it does not have is left out, so that keys made before it stay."""
    sizes = asdict(network)
    if network.perceiver is None:
        del sizes["perceiver"]
    return sizes


FAMILY = MT3Family()
