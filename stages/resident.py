"""Cache of loaded models in a process, so that not every window loads its network again.

On each device a process holds one codec, one transcriber and up to `keep_networks` sampling networks: one where levels
are sampled sequentially, all of them where levels alternate. The least recently used network is evicted.
"""

from __future__ import annotations

import gc
import logging
import threading
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from jukebox_core.family import open_aligning, open_family, open_transcribing
from jukebox_core.protocols import WeightFile
from jukebox_core.runtime.device import resolve_device, use_threads

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from jukebox_core.family import ModelConfig
    from jukebox_core.features.plan import FeaturePlan
    from jukebox_core.models.presets import ModelSettings
    from jukebox_core.protocols import Aligner, Codec, FeatureExtractor, TokenModel, Transcriber
    from jukebox_core.runtime.config import HardwareConfig
    from stages.handles import FileHandle

log = logging.getLogger("jukebox")

_lock = threading.Lock()
_held: dict[tuple[str, str], dict[tuple[object, ...], Any]] = {}  # (kind, device) -> models, least recently used first
_networks = 1  # held on each device
_least = 1  # held on each device, whatever a run asks for


@dataclass(frozen=True, kw_only=True, slots=True)
class CodecSpec:
    """A codec: its model, weights and hardware."""

    family: str
    config: ModelConfig
    weights: FileHandle
    hardware: HardwareConfig

    @classmethod
    def of(cls, model: ModelSettings, weights: FileHandle, hardware: HardwareConfig) -> CodecSpec:
        """Returns the codec of a model."""
        return cls(family=model.family, config=model.config, weights=weights, hardware=hardware)

    def open(self) -> Codec:
        """Returns the codec on its device, loading it if this process does not hold it yet."""
        device = resolve_device(self.hardware.device)
        use_threads(self.hardware)
        family = open_family(self.family)
        identity = (f"{self.config.name} {family.codec_role}", self.weights.identity, self.hardware.engine)
        codec: Codec = _resident(
            "codec",
            str(device),
            identity,
            1,
            lambda: family.open_codec(self.config, self.weights.read(), self.hardware),
        )
        return codec


@dataclass(frozen=True, kw_only=True, slots=True)
class NetworkSpec:
    """A sampling network: its model, role, files and hardware."""

    family: str
    config: ModelConfig
    role: str
    weights: Mapping[str, FileHandle]  # by role, at least those that the network is made from
    hardware: HardwareConfig
    library: str | None = None  # the weights folder, where prepared weights are cached; None: no cache

    def open(self) -> TokenModel:
        """Returns the network on its device, loading it if this process does not hold it yet."""
        device, hardware = resolve_device(self.hardware.device), self.hardware
        use_threads(hardware)
        family = open_family(self.family)
        roles = family.files_of(self.role)
        identity = (
            f"{self.config.name} {self.role}",
            *(self.weights[role].identity for role in roles),
            hardware.dtype,
            hardware.engine,
            hardware.prefill_chunk,
        )

        def load() -> TokenModel:
            library = None if self.library is None else Path(self.library)
            files = {role: WeightFile(self.weights[role].read(), self.weights[role].identity) for role in roles}
            return family.open_model(self.config, self.role, files, hardware, library)

        network: TokenModel = _resident("network", str(device), identity, max(_networks, _least), load)
        return network


@dataclass(frozen=True, kw_only=True, slots=True)
class TranscriberSpec:
    """A model that transcribes: its family, weights and hardware."""

    family: str
    config: Any
    weights: FileHandle
    hardware: HardwareConfig

    @property
    def dtype(self) -> str:
        """Precision of the weights; ``auto`` is float32, so that notes do not depend on the device."""
        return "float32" if self.hardware.dtype == "auto" else self.hardware.dtype

    def open(self) -> Transcriber:
        """Returns the model on its device, loading it if this process does not hold it yet."""
        device = resolve_device(self.hardware.device)
        use_threads(self.hardware)
        identity = (f"{self.config.name} transcriber", self.weights.identity, self.dtype, self.hardware.engine)
        family = open_transcribing(self.family)
        transcriber: Transcriber = _resident(
            "transcriber",
            str(device),
            identity,
            1,
            lambda: family.open_transcriber(self.config, self.weights.read(), self.hardware),
        )
        return transcriber


@dataclass(frozen=True, kw_only=True, slots=True)
class FeatureSpec:
    """The first layers of a network, from which features are taken."""

    model: ModelSettings
    plan: FeaturePlan
    weights: FileHandle
    hardware: HardwareConfig
    library: str | None = None  # the weights folder, whose prepared weights are used

    def open(self) -> FeatureExtractor:
        """Returns the layers on their device, loading them if this process does not hold them yet."""
        device, hardware, plan = resolve_device(self.hardware.device), self.hardware, self.plan
        use_threads(hardware)
        name = f"{self.model.name} {plan.roles[-1]}, layers 1 to {plan.deepest}"
        identity = (name, self.weights.identity, hardware.dtype, hardware.engine)

        def load() -> FeatureExtractor:
            library = None if self.library is None else Path(self.library)
            return plan.family.open_features(
                self.model.config,
                plan.sizes.level,
                self.weights.read(),
                self.weights.identity,
                hardware,
                library,
                deepest=plan.deepest,
            )

        extractor: FeatureExtractor = _resident("network", str(device), identity, max(_networks, _least), load)
        return extractor


@dataclass(frozen=True, kw_only=True, slots=True)
class AlignerSpec:
    """The layers of a network that attend to a text: its model, role, weights, head and hardware."""

    family: str
    config: ModelConfig
    role: str
    weights: FileHandle
    hardware: HardwareConfig
    layer: int
    head: int
    library: str | None = None  # the weights folder, whose prepared weights are used

    def open(self) -> Aligner:
        """Returns the layers on their device, loading them if this process does not hold them yet."""
        device, hardware = resolve_device(self.hardware.device), self.hardware
        use_threads(hardware)
        name = f"{self.config.name} {self.role}, head {self.head} of layer {self.layer}"
        identity = (name, self.weights.identity, hardware.dtype, hardware.engine)

        def load() -> Aligner:
            return open_aligning(self.family).open_aligner(
                self.config,
                self.weights.read(),
                self.weights.identity,
                hardware,
                None if self.library is None else Path(self.library),
                layer=self.layer,
                head=self.head,
            )

        aligner: Aligner = _resident("network", str(device), identity, max(_networks, _least), load)
        return aligner


def keep_networks(count: int) -> None:
    """Sets the number of networks that this process holds on each device; takes effect when the next one is opened."""
    global _networks
    _networks = count


def keep_at_least(count: int) -> None:
    """Lets this process hold `count` networks on each device from now on, even where a run needs fewer at a time."""
    global _least
    _least = count


def release() -> None:
    """Frees every model this process holds."""
    with _lock:
        _held.clear()
    gc.collect()


def _resident(kind: str, device: str, identity: tuple[object, ...], room: int, load: Callable[[], Any]) -> Any:
    with _lock:
        held = _held.setdefault((kind, device), {})
        if identity in held:
            held[identity] = held.pop(identity)
            return held[identity]
        while len(held) >= room:
            del held[next(iter(held))]
        gc.collect()
        log.info("loading %s", identity[0])
        held[identity] = model = load()
        return model
