"""Completes the folder of a trained model: weights, vocabularies, model.yaml and the model card."""

from __future__ import annotations

import os
import shutil
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import yaml

from jukebox_core.base.atomic import atomic_write
from jukebox_core.base.hashing import digest_file
from jukebox_core.errors import ConfigError
from jukebox_core.models.config import FileSpec, ModelFiles
from jukebox_core.models.resolve import seed_of
from jukebox_core.models.stored import to_stored
from jukebox_core.training.family import FinishInputs
from stages.training.train import TRAINING

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from jukebox_core.models.presets import ModelSettings
    from jukebox_core.training.family import FinishedModel
    from stages.handles import FileHandle
    from stages.training.train import Trained

MODEL_NAME = "model.yaml"
CARD_NAME = "README.md"


@dataclass(frozen=True, kw_only=True)
class ModelPlan:
    """A trained model, and the handles of everything that it consists of."""

    base: ModelSettings  # the model that is made, with the files of the model that it started from
    start_config: Any  # `ModelConfig` of these files: their tables of labels may have fewer rows
    trained: Mapping[str, Trained]  # by role
    given: Mapping[str, FileHandle]  # weights of the parts that were not trained, by role
    vocabularies: Mapping[str, FileHandle]  # by role
    codes: str  # folder of codes
    data: str  # a line about the training data
    licence: str  # a line
    tuned_from: str | None  # the model whose weights it started from; None: random ones

    def inputs(self, folder: Path) -> FinishInputs:
        """Returns the same with verified local files; CheckpointError if a file is gone or has changed."""
        return FinishInputs(
            base=self.base,
            start_config=self.start_config,
            trained={role: part.part() for role, part in self.trained.items()},
            given={role: handle.read() for role, handle in self.given.items()},
            vocabularies={role: handle.read() for role, handle in self.vocabularies.items()},
            codes=Path(self.codes),
            data=self.data,
            licence=self.licence,
            tuned_from=self.tuned_from,
            folder=folder,
        )


def check_model_folder(folder: Path, roles: Iterable[str]) -> None:
    """Checks that a training may write a model into a folder: that it has none of its files, or was begun by one.

    Args:
        folder: it need not exist.
        roles: of the model's weights.

    Raises:
        ConfigError: it holds such files of others.
    """
    if (folder / TRAINING).is_dir():
        return
    for name in (CARD_NAME, MODEL_NAME, *(f"{role}.safetensors" for role in roles)):
        if os.path.lexists(folder / name):
            raise ConfigError(
                f"{folder} has a {name} that no training in it wrote; nothing is overwritten: choose another folder"
            )


def write_model(folder: Path, plan: ModelPlan) -> Path:
    """Writes everything that a model needs besides its trained weights into `folder`; returns the path of model.yaml.

    Weights that were not trained keep the base model's sources; those of an untrained base are copied. Idempotent;
    model.yaml is written last, so that a folder with it is complete. It has no credentials of the base model's sources.
    """
    inputs = plan.inputs(folder)
    base = inputs.base
    # 1) the family's share: network settings, parts that must change, the card
    finished = base.opened.training().finish(inputs)
    # 2) files
    files = ModelFiles(
        weight_sources=("./",),
        vocabulary_sources=("./",),
        weights={role: _weights(inputs, finished, role) for role in base.files.weights},
        vocabularies={role: _vocabulary(inputs, role) for role in inputs.vocabularies},
        licence=inputs.licence,
        terms=None if set(inputs.trained) == set(base.files.weights) else base.files.terms,
    )
    model = replace(base, files=files, trained=True, network=finished.network)
    # 3) card and preset
    with atomic_write(folder / CARD_NAME) as file:
        file.write(finished.card.encode())
    with atomic_write(folder / MODEL_NAME) as file:
        file.write(yaml.safe_dump(to_stored(model), sort_keys=False, allow_unicode=True).encode())
    return folder / MODEL_NAME


def _weights(inputs: FinishInputs, finished: FinishedModel, role: str) -> FileSpec:
    """Returns the entry of one part's weights; copies them into the folder if they have no source."""
    base, target = inputs.base, inputs.folder / f"{role}.safetensors"
    if role in inputs.trained:
        return _file_spec(target, base.name, "trained here")
    if role in finished.rewritten:
        return _file_spec(finished.rewritten[role], base.name, "with rows for new names")
    if seed_of(base.files) is not None:
        _copy(inputs.given[role], target)
        return _file_spec(target, base.name, "untrained")
    spec = base.files.weights[role]
    return replace(spec, sources=(*spec.sources, *base.files.weight_sources))


def _vocabulary(inputs: FinishInputs, role: str) -> FileSpec:
    """Returns the entry of one vocabulary; copies it into the folder."""
    base, target = inputs.base, inputs.folder / f"{role}.txt"
    _copy(inputs.vocabularies[role], target)
    return _file_spec(target, base.name, base.files.vocabularies[role].purpose)


def _copy(source: Path, target: Path) -> None:
    if source.resolve() != target.resolve():
        shutil.copyfile(source, target)


def _file_spec(path: Path, model: str, purpose: str) -> FileSpec:
    return FileSpec(path=path.name, bytes=path.stat().st_size, sha256=digest_file(path), purpose=f"{model}: {purpose}")
