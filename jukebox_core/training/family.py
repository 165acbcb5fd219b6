"""Training as a family of models provides it: the protocol by which stages and flows train its parts. Imports no torch.

A *part* is one network of a model, named by its role (`jukebox_core.family`). A part learns from recordings, or from
the codes that the model's codec makes of them.

    >>> training = preset.opened.training()
    >>> for role in training.parts(preset.config):
    ...     subject = training.subject(role, inputs)
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol, runtime_checkable

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from jukebox_core.composer.config import AlbumConfig
    from jukebox_core.datasets.songs import Song
    from jukebox_core.models.presets import ModelSettings
    from jukebox_core.training.config import DevicesConfig, Training
    from jukebox_core.training.loop import Subject
    from jukebox_core.training.memory import TrainingMemory


class SongLength(NamedTuple):
    """Duration of a recording of a dataset."""

    name: str
    seconds: float


class RequiredLength(NamedTuple):
    """The shortest recording that a part can learn from, and how messages name it."""

    seconds: float
    name: str
    remedy: str


class TrainingSettings(Protocol):
    """The settings section ``training``: a frozen dataclass of the family's own, with these members."""

    @property
    def devices(self) -> DevicesConfig:
        """Devices and processes."""
        ...

    def part(self, role: str) -> Training:
        """Returns the hyperparameters of one part; KeyError if the section has none for it."""
        ...


class NewLabels(Protocol):
    """The settings section ``labels``: a frozen dataclass of the family's own, with this member."""

    @property
    def is_empty(self) -> bool:
        """Whether it adds no label."""
        ...


@dataclass(frozen=True, kw_only=True, slots=True)
class PartInputs:
    """Inputs of the training of one part."""

    config: Any  # the family's `ModelConfig` of the model that is made
    training: Any  # the family's `TrainingSettings`
    validation: float  # share of the songs that is held out
    audio: str | None  # folder of recordings
    metadata: str | None  # file that describes them; None: the one in the folder
    codes: Path  # folder of codes, for parts that learn from codes
    vocabularies: Mapping[str, Path]  # by role
    codec: Path | None  # weights of the codec, for parts that learn from codes
    start: Path | None  # weights to start from; None: random initialisation
    start_config: Any  # `ModelConfig` that `start` belongs to: its tables of labels may have fewer rows
    folder: Path  # local, for logs and temporary files; exists when an evaluation logs samples
    recordings: Path | None = None  # record of the recordings that can be used (`datasets.recordings`); None: all can
    most_unreadable: float = 0.1  # largest share of songs that may become unreadable while a part learns from them
    album: AlbumConfig | None = None  # songs that are composed while the part learns, in place of recordings


@dataclass(frozen=True, slots=True)
class TrainedPart:
    """A part that was trained to its last step."""

    path: Path  # its weights
    steps: int
    metrics: Mapping[str, float]  # on held-out data


@dataclass(frozen=True, kw_only=True, slots=True)
class FinishInputs:
    """Inputs of the last step of a training, which completes the model."""

    base: ModelSettings  # the model that is made, with the files of the model that it started from
    start_config: Any  # `ModelConfig` of these files: their tables of labels may have fewer rows
    trained: Mapping[str, TrainedPart]  # by role
    given: Mapping[str, Path]  # weights of the parts that were not trained, by role
    vocabularies: Mapping[str, Path]  # by role
    codes: Path  # folder of codes
    data: str  # a line about the training data
    licence: str  # a line
    tuned_from: str | None  # the model whose weights it started from; None: random ones
    folder: Path  # of the model


@dataclass(frozen=True, kw_only=True, slots=True)
class FinishedModel:
    """Results of the last step of a training."""

    network: Any  # the record of the family's `network_type` that the model's preset receives
    rewritten: Mapping[str, Path]  # parts that were not trained but had to change, by role
    card: str  # the model card, Markdown


@runtime_checkable
class TrainableFamily(Protocol):
    """Training of one family of models. Methods that need torch import it when they are called."""

    training_type: type  # the record of the settings section ``training``, a `TrainingSettings`
    new_labels_type: type  # of ``labels``, a `NewLabels`
    codec_role: str | None  # the part whose codes the others learn; None: there is none
    composes: bool  # whether a part can learn from songs that are composed while it learns

    def parts(self, config: Any) -> tuple[str, ...]:
        """Returns all parts of a model in the order in which they are trained."""
        ...

    def learns_from_codes(self, role: str) -> bool:
        """Returns whether a part learns from the codec's codes; otherwise it learns from recordings."""
        ...

    def required_length(self, config: Any, role: str, training: Any) -> RequiredLength:
        """Returns the shortest recording that a part can learn from."""
        ...

    def check(
        self,
        config: Any,
        parts: Sequence[str],
        training: Any,
        vocabularies: Mapping[str, Path],
        lengths: Sequence[SongLength],
    ) -> None:
        """Checks the family's own requirements of a training, before it starts.

        Raises:
            ConfigError: a hyperparameter, a vocabulary or a recording does not fit the model.
        """
        ...

    def check_labels(self, config: Any, vocabularies: Mapping[str, Path], songs: Sequence[Song]) -> None:
        """Checks that the model can be conditioned on the labels of every song.

        Raises:
            LabelError: it cannot; the message names the first few songs.
        """
        ...

    def song_problem(self, config: Any, song: Song, seconds: float) -> str | None:
        """Returns why a recording that lasts `seconds` cannot be learned from, besides its audio; None if it can."""
        ...

    def estimate_memory(self, config: Any, role: str, training: Any) -> TrainingMemory:
        """Returns the estimated memory of training a part, in bytes."""
        ...

    def add_labels(
        self, config: Any, network: Any, labels: Any, vocabularies: Mapping[str, Path], folder: Path
    ) -> tuple[Any, Mapping[str, Path]]:
        """Returns the network settings with room for new labels, and the vocabularies that changed, by role.

        Args:
            config: the model.
            network: its network settings, a record of the family's `network_type`.
            labels: a record of `new_labels_type`.
            vocabularies: files by role.
            folder: receives the vocabularies that change.

        Raises:
            ConfigError: the model has no labels.
            LabelError: a label exists already, or the one that it should share a row with does not.
        """
        ...

    def causes(self, role: str, inputs: PartInputs) -> Mapping[str, Any]:
        """Returns all that decides the result of training a part besides the weights it starts from; JSON types.

        Raises:
            ConfigError: the recordings are missing.
        """
        ...

    def subject(self, role: str, inputs: PartInputs) -> Subject:
        """Returns the module of a part with its data, ready for `jukebox_core.training.loop.TrainingLoop`.

        Raises:
            ConfigError: no recording is long enough.
        """
        ...

    def finish(self, inputs: FinishInputs) -> FinishedModel:
        """Returns the settings and the card of a model whose parts are trained; writes parts that must change."""
        ...
