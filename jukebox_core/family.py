"""The door between families of models and everything else: the protocol of a family, and a lazy registry. No torch.

A family is a folder below `jukebox_core/families`, or a package of its own that declares an entry point in the group
``jukebox_core.families``. Stages, pipelines, the Python API and the model library reach its models through `Family`
and the protocols of its networks (`jukebox_core.protocols`), and import nothing else of it.

    >>> family = open_family("jukebox")
    >>> family.roles(preset.config)
    ('vqvae', 'level_0', 'level_1', 'level_2')

Legend: a *level* is one track of codes of a song, 0 the finest; a *role* names one file of weights of a model;
*identity* is the digest of a file as it was published. Lengths are in audio samples unless a name says seconds.
"""

from __future__ import annotations

from functools import cache
from importlib import import_module
from importlib.metadata import entry_points
from typing import TYPE_CHECKING, Any, Protocol, cast, runtime_checkable

from jukebox_core.errors import ConfigError, did_you_mean
from jukebox_core.export.family import ExportFamily
from jukebox_core.protocols import AlignmentFamily

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from jukebox_core.models.config import WeightsConfig
    from jukebox_core.models.presets import ModelSettings
    from jukebox_core.protocols import Codec, SongPlan, TokenModel, TranscribingFamily, VaryingFamily, WeightFile
    from jukebox_core.runtime.config import HardwareConfig
    from jukebox_core.tokens.graph import Take
    from jukebox_core.training.family import TrainableFamily

DEFAULT_FAMILY = "jukebox"  # of settings without one, as those of runs made before families existed
ENTRY_POINTS = "jukebox_core.families"
_MODULES = {name: f"jukebox_core.families.{name}.family" for name in ("jukebox", "mt3", "vampnet")}


class ModelConfig(Protocol):
    """Hyperparameters of a model: a frozen dataclass of the family's own, with these properties."""

    @property
    def name(self) -> str:
        """The model's name."""
        ...

    @property
    def sample_rate(self) -> int:
        """Audio samples a second, Hz."""
        ...

    @property
    def hops(self) -> tuple[int, ...]:
        """Audio samples per token of each level, the finest level first."""
        ...

    @property
    def bins(self) -> int:
        """Codes are whole numbers in [0, bins)."""
        ...

    @property
    def top(self) -> int:
        """Index of the coarsest level, which is sampled first."""
        ...

    def seconds(self, level: int, tokens: int) -> float:
        """Returns the duration of `tokens` tokens of `level`."""
        ...


class SamplingSettings(Protocol):
    """The settings section ``sampling``: a frozen dataclass of the family's own, with these fields."""

    @property
    def seed(self) -> int:
        """Seed of the counter noise."""
        ...

    @property
    def n_samples(self) -> int:
        """Songs of one run."""
        ...

    @property
    def stop_level(self) -> int:
        """The last (finest) level that is sampled."""
        ...


class SongOverrides(Protocol):
    """One entry of the settings section ``songs``: fields of one sample that replace those of ``song``."""

    def apply(self, song: Any) -> Any:
        """Returns `song` with the fields that are set here replaced."""
        ...


class RunRequest(Protocol):
    """A run as a family reads it; `pipelines.settings.generate.Settings` and the Python API provide it."""

    @property
    def config(self) -> Any:
        """The model's `ModelConfig`."""
        ...

    @property
    def sampling(self) -> Any:
        """The family's `SamplingSettings`."""
        ...

    @property
    def seconds(self) -> float:
        """Length of the music, prompts included."""
        ...

    @property
    def dtype(self) -> str:
        """Precision of the weights; part of every key."""
        ...

    def song_of(self, sample: int) -> Any:
        """Returns the family's song record of one sample, as `Family.complete_song` completed it."""
        ...


@runtime_checkable
class Family(Protocol):
    """One family of models. Methods that need torch import it when they are called."""

    name: str
    network_type: type  # the record of a preset's section ``network``
    sampling_type: type  # the record of the section ``sampling``
    song_type: type  # of ``song``
    song_overrides_type: type  # of each entry of ``songs``
    codec_role: str  # the role of the file that encodes and decodes audio
    dtypes: tuple[str, ...]  # precisions that its networks sample in

    def config(self, name: str, network: Any) -> ModelConfig:
        """Returns the hyperparameters of the preset called `name`; `network` is a record of `network_type`."""
        ...

    def roles(self, config: Any) -> tuple[str, ...]:
        """Returns every role that the model consists of, the codec's first."""
        ...

    def role_of(self, level: int) -> str:
        """Returns the role of the network that samples `level`."""
        ...

    def files_of(self, role: str) -> tuple[str, ...]:
        """Returns the roles of the files that the network of `role` is made from, its own first."""
        ...

    def check_file(self, config: Any, role: str, path: Path) -> None:
        """Checks that a file holds the weights of `role`, without reading them.

        Raises:
            CheckpointError: it is truncated, no checkpoint, unsafe, or of another model.
        """
        ...

    def initialise(self, config: Any, role: str, seed: int, path: Path) -> None:
        """Writes untrained weights, drawn from `seed`, to `path`, atomically."""
        ...

    def initialise_causes(self, config: Any, role: str) -> Mapping[str, Any]:
        """Returns the causes of untrained weights besides the seed, which name their file."""
        ...

    def codec_causes(self, config: Any) -> Mapping[str, Any]:
        """Returns the settings that, with the codec's weights, decide the sound of a model's codes, by dotted key."""
        ...

    def split(self, config: Any, role: str, shards: Sequence[Path], path: Path) -> None:
        """Writes the weights of `role` to `path`, from shards that hold all networks of the model."""
        ...

    def check_song(self, config: Any, song: Any, seconds: float) -> None:
        """Checks the conditioning of one song of `seconds` against the model, without any file.

        Raises:
            ConfigError: a field does not fit; the message starts with its name.
        """
        ...

    def complete_song(self, config: Any, song: Any, seconds: float, usual_seconds: float | None) -> Any:
        """Returns `song` with values for the fields that it leaves to the model, as they condition its networks.

        Args:
            config: the model.
            song: a record of `song_type`.
            seconds: length of the music.
            usual_seconds: length of a usual song of the model; None if its preset names none.
        """
        ...

    def length(self, request: RunRequest) -> int:
        """Returns the length of the music in audio samples: whole tokens of the top level."""
        ...

    def condition(self, request: RunRequest, vocabularies: Mapping[str, Path]) -> tuple[Any, ...]:
        """Returns the conditioning of every song of the run, in the family's own terms.

        Raises:
            LabelError: the model does not know a name or text; near misses are listed.
        """
        ...

    def plan(
        self, request: RunRequest, conditioning: Sequence[Any], weights: Mapping[str, str], have: Sequence[Take]
    ) -> list[SongPlan]:
        """Returns the plan of each song, from its initial take to its full length.

        Args:
            request: the run.
            conditioning: of each song, as `condition` returned it.
            weights: identities by role, at least of the levels that are sampled.
            have: the initial take of each song: a prompt, an earlier take, or empty tracks.
        """
        ...

    def describe(self, song: Any) -> Mapping[str, str]:
        """Returns a song's conditioning as text by name, for reports; empty texts are left out."""
        ...

    def open_api(self, preset: ModelSettings, hardware: HardwareConfig, weights: WeightsConfig) -> Any:
        """Returns the model for Python programs, a `jukebox_core.api.model.Model` or more."""
        ...

    def code_lengths(self, config: Any, codec: Path, samples: int) -> tuple[int, ...]:
        """Returns how many tokens of each level the codec in the file `codec` makes of so many audio samples."""
        ...

    def open_codec(self, config: Any, path: Path, hardware: HardwareConfig) -> Codec:
        """Returns the codec with the weights in `path`."""
        ...

    def open_model(
        self,
        config: Any,
        role: str,
        files: Mapping[str, WeightFile],
        hardware: HardwareConfig,
        library: Path | None,
    ) -> TokenModel:
        """Returns the network of `role`.

        Args:
            config: the model.
            role: of the network.
            files: by role, at least those that `files_of` names.
            hardware: device, precision and engine.
            library: folder in which prepared weights are cached; None: they are not.
        """
        ...

    def estimate_bytes(self, config: Any, levels: Sequence[int], dtype: str, batch: int, *, together: bool) -> int:
        """Returns the estimated bytes of sampling.

        Args:
            config: the model.
            levels: those sampled.
            dtype: precision of the weights.
            batch: songs of one batch.
            together: the networks of all levels stay in memory; otherwise one at a time.
        """
        ...

    def approximate_parameters(self, config: Any) -> int:
        """Returns the approximate number of parameters of all networks, from hyperparameters and without torch."""
        ...

    def training(self) -> TrainableFamily:
        """Returns the training of the family's models, without torch.

        Raises:
            ConfigError: models of this family cannot be trained here.
        """
        ...


def open_family(name: str) -> Family:
    """Returns the family called `name`; its module is imported at the first call.

    Raises:
        ConfigError: no family has that name; the closest one is suggested.
    """
    module = _MODULES.get(name) or _installed().get(name)
    if module is None:
        known = family_names()
        raise ConfigError(f"family is {name!r}; choose one of {', '.join(known)}{did_you_mean(name, known)}")
    found: Family = import_module(module).FAMILY
    return found


def open_transcribing(name: str) -> TranscribingFamily:
    """Returns the family called `name`, whose models transcribe.

    Raises:
        ConfigError: no family has that name, or its models do not transcribe.
    """
    family = open_family(name)
    if not transcribes(family):
        raise ConfigError(f"models of the family {name} do not transcribe music; choose one that does, as model=mt3")
    return cast("TranscribingFamily", family)


def transcribes(family: Family) -> bool:
    """Whether the models of a family transcribe music, instead of making it."""
    return hasattr(type(family), "open_transcriber")


def open_aligning(name: str) -> AlignmentFamily:
    """Returns the family called `name`, whose models align texts with music.

    Raises:
        ConfigError: no family has that name, or its models align no texts.
    """
    family = open_family(name)
    if not isinstance(family, AlignmentFamily):
        raise ConfigError(f"models of the family {name} align no texts with music; choose one that does, as model=mini")
    return family


def open_varying(name: str) -> VaryingFamily:
    """Returns the family called `name`, whose models vary recordings.

    Raises:
        ConfigError: no family has that name, or its models do not vary recordings.
    """
    family = open_family(name)
    if not varies(family):
        raise ConfigError(f"models of the family {name} vary no recordings; choose one that does, as model=vampnet")
    return cast("VaryingFamily", family)


def varies(family: Family) -> bool:
    """Whether the models of a family vary recordings, instead of making music from nothing."""
    return hasattr(type(family), "mask_type")


def open_exporting(name: str) -> ExportFamily:
    """Returns the family called `name`, whose models can be exported.

    Raises:
        ConfigError: no family has that name, or its models have no graphs.
    """
    family = open_family(name)
    if not isinstance(family, ExportFamily):
        raise ConfigError(f"models of the family {name} have no graphs to export; choose one that has, as model=mini")
    return family


def family_names() -> list[str]:
    """Returns the names of all families, sorted."""
    return sorted({*_MODULES, *_installed()})


@cache
def _installed() -> dict[str, str]:
    """Returns the modules of families of other packages, by name."""
    return {point.name: point.value for point in entry_points(group=ENTRY_POINTS)}


def family_of(data: object) -> Family:
    """Returns the family that plain settings of a model name in ``family``, or the default one.

    Raises:
        ConfigError: as `open_family`.
    """
    named = data.get("family") if isinstance(data, dict) else None
    return open_family(named if isinstance(named, str) else DEFAULT_FAMILY)
