"""VampNet behind the door (`jukebox_core.family`): models that vary recordings, by filling masked grids of codes.

Methods that need torch import it when they are called. What belongs to songs made from nothing is refused by name.
"""

from __future__ import annotations

from dataclasses import asdict
from typing import TYPE_CHECKING, Any, NoReturn

from jukebox_core.errors import CheckpointError, ConfigError
from jukebox_core.families.vampnet.config import (
    C2F,
    COARSE,
    CODEC,
    LORA_RANK,
    ROLE_OF,
    VampNetConfig,
    VampNetNetwork,
    varies_only,
)
from jukebox_core.families.vampnet.masks.config import MaskConfig
from jukebox_core.families.vampnet.sampling.config import VampSampling

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from jukebox_core.families.vampnet.api import VampNet
    from jukebox_core.models.config import WeightsConfig
    from jukebox_core.models.presets import ModelSettings
    from jukebox_core.runtime.config import HardwareConfig


class _OfSongs:
    """An attribute that only families have whose models make songs from nothing."""

    def __get__(self, owner: object, kind: type | None = None) -> NoReturn:
        raise varies_only()


class VampNetFamily:
    """VampNet (Flores Garcia et al. 2023): a codec, and two masked transformers over its codes."""

    name = "vampnet"
    network_type = VampNetNetwork
    sampling_type = _OfSongs()
    song_type = _OfSongs()
    song_overrides_type = _OfSongs()
    codec_role = _OfSongs()
    mask_type = MaskConfig  # of the section ``mask``
    variation_type = VampSampling  # of the section ``sampling`` of variations

    def config(self, name: str, network: VampNetNetwork) -> VampNetConfig:
        """Returns the hyperparameters of the preset called `name`."""
        return VampNetConfig(name=name, network=network)

    def roles(self, config: VampNetConfig) -> tuple[str, ...]:
        """Returns ``codec``, ``coarse`` and, where the model has it, ``c2f``."""
        return (CODEC, COARSE, *((C2F,) if config.network.c2f is not None else ()))

    def role_of(self, level: int) -> str:
        """Returns the transformer that makes `level`."""
        return ROLE_OF[level]

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

    def split(self, config: VampNetConfig, role: str, shards: Sequence[Path], path: Path) -> NoReturn:
        """Refuses: no copy of these models is in shards."""
        raise CheckpointError(f"{config.name} has a file for each network; list its sources under files.weight_sources")

    def open_api(self, preset: ModelSettings, hardware: HardwareConfig, weights: WeightsConfig) -> VampNet:
        """Returns the model for Python programs."""
        from jukebox_core.families.vampnet.api import VampNet

        return VampNet(preset, hardware, weights)

    def approximate_parameters(self, config: VampNetConfig) -> int:
        """Returns the number of parameters of the transformers, as upstream's files have them; the codec is small."""
        return sum(config.sizes(role).parameters(LORA_RANK) for role in self.roles(config)[1:])

    def _refuse(self, *_: Any, **__: Any) -> NoReturn:
        """Refuses: these models vary recordings."""
        raise varies_only()

    check_song = complete_song = length = condition = plan = describe = estimate_bytes = _refuse
    codec_causes = open_codec = open_model = training = _refuse


FAMILY = VampNetFamily()
