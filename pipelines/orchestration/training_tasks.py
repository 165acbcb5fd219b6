"""The stages of training as Prefect tasks, apart from those that make songs: they import more."""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import TYPE_CHECKING, Any

from pipelines.orchestration import tasks
from stages import fetch
from stages.training import album, dataset, model_folder, readiness, train
from stages.training import new_names as names

if TYPE_CHECKING:
    from collections.abc import Callable


@dataclass(frozen=True, slots=True)
class Stages:
    """What a training calls: tasks where Prefect watches, plain functions in the processes beside that one."""

    write_album: Callable[..., Any]
    fetch_vocabularies: Callable[..., Any]
    fetch_weights: Callable[..., Any]
    add_names: Callable[..., Any]
    find_songs: Callable[..., Any]
    check_labels: Callable[..., Any]
    check_training: Callable[..., Any]
    check_codes: Callable[..., Any]
    encode_songs: Callable[..., Any]
    train_vqvae: Callable[..., Any]
    train_prior: Callable[..., Any]
    write_model: Callable[..., Any]


PLAIN = Stages(
    write_album=album.write_album,
    fetch_vocabularies=fetch.fetch_vocabularies,
    fetch_weights=fetch.fetch_fitting_weights,
    add_names=names.add_names,
    find_songs=dataset.find_songs,
    check_labels=dataset.check_labels,
    check_training=readiness.check_training,
    check_codes=readiness.check_codes,
    encode_songs=dataset.encode_songs,
    train_vqvae=train.train_vqvae,
    train_prior=train.train_prior,
    write_model=model_folder.write_model,
)
_NAMES = [field.name for field in fields(PLAIN)]
TASKS = Stages(**{name: tasks.run_once(getattr(PLAIN, name), name.replace("_", " ")) for name in _NAMES})
