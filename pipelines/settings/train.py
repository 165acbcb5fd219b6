"""Settings of `train` and `finetune`, as frozen records. Imports neither torch nor OmegaConf.

`conf/train.yaml` mirrors `TrainSettings` one to one.
"""

from __future__ import annotations

from dataclasses import dataclass, field, fields
from typing import TYPE_CHECKING, Any, Literal

from jukebox_core.base.checks import require
from jukebox_core.base.paths import check_name, user_path
from jukebox_core.composer.config import AlbumConfig  # noqa: TC001  records are built by reading annotations
from jukebox_core.datasets.config import CheckConfig
from jukebox_core.errors import ConfigError, did_you_mean
from jukebox_core.family import family_of
from jukebox_core.models.config import WeightsConfig  # noqa: TC001
from jukebox_core.models.presets import ModelSettings  # noqa: TC001
from jukebox_core.models.resolve import seed_of
from jukebox_core.models.stored import has_password
from pipelines.settings.common import StorageSettings

if TYPE_CHECKING:
    from collections.abc import Mapping

    from jukebox_core.training.family import TrainableFamily


@dataclass(frozen=True, kw_only=True, slots=True)
class DataSettings:
    """The training data."""

    audio: str | None = None  # folder of audio files, with metadata.csv or metadata.jsonl
    metadata: str | None = None  # that file, if it lies elsewhere
    codes: str | None = None  # folder that `jukebox dataset` made; null: encoded from the audio, beside the model
    checks: CheckConfig = field(default_factory=CheckConfig)  # requirements of recordings
    validation: float = 0.05  # share of the songs that is held out

    def __post_init__(self) -> None:
        """Checks ranges."""
        require(
            0 <= self.validation < 1,
            f"validation is {self.validation}; it is the share of songs held out: from 0 to below 1",
        )


@dataclass(frozen=True, kw_only=True, slots=True)
class TrainSettings:
    """All settings of `train` and `finetune` (roots conf/train.yaml and conf/finetune.yaml).

    The model's family decides which records `training` and `labels` are.
    """

    model: ModelSettings
    training: Any  # the family's `TrainingSettings`
    weights: WeightsConfig
    storage: StorageSettings = field(default_factory=StorageSettings)
    data: DataSettings
    album: AlbumConfig | None = None  # music that the program composes; null: the recordings of `data`
    compose: Literal["first", "while_training"] = (
        "first"  # when: once, to files; or all the time, other songs every epoch
    )
    parts: tuple[str, ...] | None = None  # roles that are trained, in this order; null: all of the model's
    start: Literal["new", "model"] = "new"  # new: from random weights; model: from the model's own
    labels: Any = None  # the family's `NewLabels`: labels that are added to the model's
    name: str  # of the model that is made
    licence: str = "its maker's; no terms of use are stated"  # of its weights, in a line
    folder: str  # receives the model; a training in it is resumed
    checkpoints: str | None = None  # folder of checkpoints: any URL; null: <folder>/training

    @classmethod
    def section_types(cls, data: Mapping[str, Any]) -> dict[str, Any]:
        """Returns the types of the sections that the model's family decides."""
        family = family_of(data.get("model")).training()
        _check_preset(family, data.get("training"))
        return {"training": family.training_type, "labels": family.new_labels_type}

    def __post_init__(self) -> None:
        """Checks the settings against each other; every message names the dotted keys."""
        if self.labels is None:
            object.__setattr__(self, "labels", self.family.new_labels_type())
        check_name(self.name, "name")
        self._check_parts()
        self._check_data()
        require(
            self.checkpoints is None or not has_password(self.checkpoints),
            "checkpoints is an address with a password in it; leave it out, and give it to the store's own tools "
            "(AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or AWS_PROFILE)",
        )
        require(
            self.checkpoints is None or "://" not in self.checkpoints or self.training.devices.strategy != "fsdp",
            f"checkpoints is {self.checkpoints!r}, but with training.devices.strategy=fsdp they are written to a "
            "disk that all processes see; name a folder there, or null",
        )
        require(
            self.start != "model" or self.model.trained,
            f"start is 'model', but {self.model.name} is untrained; set start=new, or choose a trained model",
        )

    @property
    def family(self) -> TrainableFamily:
        """Training of the model's family."""
        return self.model.opened.training()

    @property
    def roles(self) -> tuple[str, ...]:
        """The roles of the parts that are trained, in order."""
        return self.family.parts(self.model.config) if self.parts is None else self.parts

    @property
    def trains_codec(self) -> bool:
        """Whether the codec is trained too, so that its codes do not exist beforehand."""
        return self.family.codec_role in self.roles

    @property
    def audio(self) -> str | None:
        """The folder of music; None if all of it is composed while parts learn."""
        if self.streamed is not None:
            return None
        return self.album.folder if self.album is not None else self.data.audio

    @property
    def streamed(self) -> AlbumConfig | None:
        """The songs that are composed while parts learn, if any."""
        return self.album if self.compose == "while_training" else None

    @property
    def codes(self) -> str:
        """The folder of codes."""
        return str(user_path(self.data.codes or f"{self.folder}/codes"))

    @property
    def given(self) -> tuple[str, ...]:
        """The roles whose existing weights are needed: to start from, to encode with, to copy or to extend."""
        return tuple(role for role in self.model.files.weights if self._is_used(role))

    def _is_used(self, role: str) -> bool:
        if role in self.roles:
            return self.start == "model"
        if role == self.family.codec_role or seed_of(self.model.files) is not None:
            return True  # encodes the songs; is copied into the new folder
        return not self.labels.is_empty  # receives more rows

    def _check_parts(self) -> None:
        known, parts, codec = self.model.opened.roles(self.model.config), self.roles, self.family.codec_role
        for part in parts:
            require(
                part in known,
                f"parts names {part!r}, but {self.model.name} consists of {', '.join(known)}; "
                f"take it out of parts{did_you_mean(part, known)}",
            )
        require(
            bool(parts) and len(set(parts)) == len(parts),
            f"parts is {list(parts)}; name at least one part, and each once",
        )
        require(
            codec not in parts[1:],
            f"parts is {list(parts)}; {codec} comes first: the others learn its codes",
        )

    def _check_data(self) -> None:
        codec = self.family.codec_role
        if self.compose == "while_training":
            require(
                self.family.composes,
                f"compose is 'while_training', but {self.model.name} learns from files; set compose=first",
            )
            require(
                self.album is not None, "compose is 'while_training', but album is null; describe the songs in album"
            )
            return
        needs_audio = any(not self.family.learns_from_codes(role) for role in self.roles)
        if self.audio is None and (needs_audio or self.data.codes is None):
            raise ConfigError("data.audio is null; name the folder of music to learn from, as in data.audio=/my/music")
        require(
            self.data.codes is None or not self.trains_codec,
            f"data.codes is {self.data.codes!r}, but {codec} is trained too and its codes are not known yet; "
            f"set data.codes to null, or leave {codec} out of parts",
        )


def _check_preset(family: TrainableFamily, training: object) -> None:
    """Checks that a preset of hyperparameters is for models of the family, before each of its keys is an error."""
    known = [field.name for field in fields(family.training_type)]
    given = list(training) if isinstance(training, dict) else []
    if given and not set(given) & set(known) - {"devices"}:
        raise ConfigError(
            f"training has {', '.join(given)}, but the model is trained with {', '.join(known)}; choose a preset for "
            "models of its family, as in training=mini for model=mini, and training=mini_mt3 for model=mini_mt3"
        )
