"""The door between families of models and everything else: protocols, and a lazy registry. Imports no torch.

A family is a folder below `jukebox_core/families`, or a package of its own that declares an entry point in the group
``jukebox_core.families``. Stages, pipelines, the Python API and the model library reach its models through the
protocols below and import nothing else of it.

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
from typing import TYPE_CHECKING, Any, Protocol, runtime_checkable

from jukebox_core.errors import ConfigError, did_you_mean

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from pathlib import Path

    import numpy as np
    from numpy.typing import NDArray

    from jukebox_core.models.config import WeightsConfig
    from jukebox_core.models.presets import ModelSettings
    from jukebox_core.runtime.config import HardwareConfig
    from jukebox_core.tokens.graph import Node, Take
    from jukebox_core.training.family import TrainableFamily

DEFAULT_FAMILY = "jukebox"  # of settings that name none, as those of runs made before there were families
ENTRY_POINTS = "jukebox_core.families"
_MODULES = {"jukebox": "jukebox_core.families.jukebox.family"}


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
    """One entry of the settings section ``songs``: what differs from ``song`` for one sample."""

    def apply(self, song: Any) -> Any:
        """Returns `song` with the fields that are set here replaced."""
        ...


class RunRequest(Protocol):
    """What a run asks of a model; `pipelines.settings.generate.Settings` and the Python API provide it."""

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
        """Returns the family's song record of one sample."""
        ...


class SongPlan(Protocol):
    """The nodes that make one song: those of the top level first, in order within a level."""

    @property
    def nodes(self) -> tuple[Node, ...]:
        """All nodes, each after those it reads."""
        ...

    @property
    def take(self) -> Take:
        """The tracks that the song consists of once every node is sealed."""
        ...

    def level(self, level: int) -> tuple[Node, ...]:
        """Returns the nodes of one level, in order."""
        ...


class Codec(Protocol):
    """Audio to codes and back, on one device."""

    code_axes: int  # axes of one song's codes: 1 for [tokens], 2 for grids [codebooks, tokens]

    def encode(self, audio: NDArray[np.float32], levels: Sequence[int]) -> list[NDArray[np.int32]]:
        """Returns the codes of audio [batch, time] at each of `levels`, [batch, ..., tokens]."""
        ...

    def decode(self, codes: NDArray[np.integer[Any]], level: int) -> NDArray[np.float32]:
        """Returns audio [batch, time] of the codes of one level, [batch, ..., tokens]; it may exceed 1."""
        ...

    def decode_reach(self, level: int) -> int:
        """Returns how many tokens before and after its own the sound of a token depends on."""
        ...


class WindowState(Protocol):
    """One window of a batch of songs while it is sampled: what `TokenModel.start` returned."""

    def step(self) -> int | None:
        """Advances by one block of tokens, or by one pass over a grid.

        Returns how many tokens of each song that drew, or None if the window was full already.
        """
        ...

    def save(self) -> list[Progress]:
        """Returns what the store needs to resume each song of the batch, in order."""
        ...

    def results(self) -> list[NDArray[Any]]:
        """Returns the finished output of each song, as it is sealed."""
        ...

    def save_cache(self) -> Mapping[str, Any]:
        """Returns tensors that shorten a resume on the same machine, by name; empty where there are none."""
        ...

    def restore_cache(self, saved: Mapping[str, Any]) -> None:
        """Continues from tensors that `save_cache` returned for the same progress, bit for bit."""
        ...


class Progress(Protocol):
    """The resumable state of one song's window: a prefix of its tokens, an opaque state, or both."""

    @property
    def tokens(self) -> NDArray[Any] | None:
        """Tokens drawn so far, time last; raw, so that the same steps can be repeated. None if the state is all."""
        ...

    @property
    def state(self) -> bytes | None:
        """Whatever else the family needs, such as a masked grid with the number of its pass."""
        ...


class TokenModel(Protocol):
    """A network that samples nodes, on one device."""

    def start(
        self,
        nodes: Sequence[Node],
        inputs: Mapping[str, NDArray[np.int32]],
        partial: Sequence[Progress | None],
        sampling: Any,
    ) -> WindowState:
        """Returns the state of one window of a batch of songs, resumed as far as every song has progress.

        Args:
            nodes: one a song, all of one level and window.
            inputs: stored tokens by the names of `Node.inputs`, [batch, ..., tokens].
            partial: what the store holds of each song's window from an interrupted attempt.
            sampling: the run's `SamplingSettings`.
        """
        ...


class Transcriber(Protocol):
    """Audio to note events."""

    def transcribe(self, audio: NDArray[np.float32]) -> NDArray[Any]:
        """Returns the events of mono audio [time], one a row."""
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

    def config(self, name: str, network: Any) -> ModelConfig:
        """Returns the hyperparameters of the preset called `name`; `network` is a record of `network_type`."""
        ...

    def roles(self, config: Any) -> tuple[str, ...]:
        """Returns every role that the model consists of, the codec's first."""
        ...

    def role_of(self, level: int) -> str:
        """Returns the role of the network that samples `level`."""
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
        """Returns all that decides untrained weights besides the seed, for the name of their file."""
        ...

    def codec_causes(self, config: Any) -> Mapping[str, Any]:
        """Returns all that decides what the codes of a model mean besides the codec's weights, by dotted key."""
        ...

    def split(self, config: Any, role: str, shards: Sequence[Path], path: Path) -> None:
        """Writes the weights of `role`, taken out of a copy that holds all networks in its shards, to `path`."""
        ...

    def check_song(self, config: Any, song: Any, seconds: float) -> None:
        """Checks the conditioning of one song of `seconds` against the model, without any file.

        Raises:
            ConfigError: something does not fit; the message begins with the name of the field.
        """
        ...

    def length(self, request: RunRequest) -> int:
        """Returns the length of the music in audio samples: whole tokens of the top level."""
        ...

    def condition(self, request: RunRequest, vocabularies: Mapping[str, Path]) -> tuple[Any, ...]:
        """Returns the conditioning of every song of the run, in the family's own terms.

        Raises:
            LabelError: a name or text that the model does not know; near misses are listed.
        """
        ...

    def plan(
        self, request: RunRequest, conditioning: Sequence[Any], weights: Mapping[str, str], have: Sequence[Take]
    ) -> list[SongPlan]:
        """Returns the plan of each song, from the take that it has to its full length.

        Args:
            request: the run.
            conditioning: of each song, as `condition` returned it.
            weights: identities by role, of the levels that are sampled at least.
            have: what each song begins with: a prompt, an earlier take, or empty tracks.
        """
        ...

    def describe(self, song: Any) -> Mapping[str, str]:
        """Returns a song's conditioning as text by name, for reports; empty texts are left out."""
        ...

    def open_api(self, preset: ModelSettings, hardware: HardwareConfig, weights: WeightsConfig) -> Any:
        """Returns the model for Python programs, a `jukebox_core.api.Model` or more."""
        ...

    def open_codec(self, config: Any, path: Path, hardware: HardwareConfig) -> Codec:
        """Returns the codec with the weights in `path`."""
        ...

    def open_model(
        self,
        config: Any,
        role: str,
        path: Path,
        identity: str,
        hardware: HardwareConfig,
        library: Path | None,
    ) -> TokenModel:
        """Returns the network of `role`; what was prepared of its weights is kept in `library`, unless that is None."""
        ...

    def estimate_bytes(self, config: Any, levels: Sequence[int], dtype: str, batch: int, *, together: bool) -> int:
        """Returns about how many bytes sampling takes.

        Args:
            config: the model.
            levels: those sampled.
            dtype: precision of the weights.
            batch: songs at a time.
            together: the networks of all levels stay in memory, not one at a time.
        """
        ...

    def approximate_parameters(self, config: Any) -> int:
        """Returns about how many parameters all networks have, from the hyperparameters alone, without torch."""
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


def family_names() -> list[str]:
    """Returns the names of all families, sorted."""
    return sorted({*_MODULES, *_installed()})


@cache
def _installed() -> dict[str, str]:
    """Returns the modules of families that other packages bring, by name."""
    return {point.name: point.value for point in entry_points(group=ENTRY_POINTS)}


def family_of(data: object) -> Family:
    """Returns the family that plain settings of a model name in ``family``, or the default one.

    Raises:
        ConfigError: as `open_family`.
    """
    named = data.get("family") if isinstance(data, dict) else None
    return open_family(named if isinstance(named, str) else DEFAULT_FAMILY)


def section_types(model: object, **sections: Callable[[Family], Any]) -> dict[str, Any]:
    """Returns the record types of settings sections that the family of `model` (plain settings) decides."""
    family = family_of(model)
    return {section: type_of(family) for section, type_of in sections.items()}
