"""Finishes a trained model's folder: finds the head that follows the lyrics, writes model.yaml and the card."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

from jukebox_core.datasets.windows import CodeWindows
from jukebox_core.families.jukebox.checkpoints.loading import load_prior
from jukebox_core.families.jukebox.conditioning.vocabulary import load_vocabularies
from jukebox_core.families.jukebox.config import JukeboxConfig, level_of
from jukebox_core.families.jukebox.training.alignment_head import AlignmentHead, find_alignment
from jukebox_core.families.jukebox.training.label_tables import widen
from jukebox_core.families.jukebox.training.model_card import Making, TrainedPart, write_folder
from jukebox_core.families.jukebox.training.prior import LabelledWindows, collate
from jukebox_core.families.jukebox.training.weights import write_half

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from jukebox_core.models.presets import ModelSettings
    from stages.handles import FileHandle
    from stages.training.train import Trained

log = logging.getLogger("jukebox")

_WINDOWS = 16  # enough to tell the head that follows the lyrics from the others


def write_model(
    folder: Path,
    base: ModelSettings,
    started: JukeboxConfig,
    trained: Mapping[str, Trained],
    weights: Mapping[str, FileHandle],
    vocabularies: Mapping[str, FileHandle],
    codes: str,
    data: str,
    licence: str,
) -> Path:
    """Writes what makes a model of trained weights in `folder`; returns the path of its model.yaml.

    Args:
        folder: where the trained weights lie.
        base: the model whose sizes and vocabularies it has, and whose weights where none were trained.
        started: the sizes of those weights: their tables of names may be shorter.
        trained: the parts that were trained, by role.
        weights: all parts' weights, by role.
        vocabularies: by role.
        codes: the folder of codes that priors learnt from.
        data: what it was trained on, for the card.
        licence: its own, in a line.
    """
    top = trained.get(f"level_{base.config.top}")
    head = _alignment(base, top, codes, vocabularies) if top is not None else None
    if head is not None:
        log.info("lyrics are followed by head %d of layer %d, score %.2f", head.head, head.layer, head.score)
    given = {role: handle.read() for role, handle in weights.items() if role not in trained}
    changed = {role: _widened(folder, base, started, role, path) for role, path in given.items()}
    making = Making(
        parts={role: TrainedPart(part.steps, part.checked) for role, part in trained.items()},
        given=given | {role: path for role, path in changed.items() if path is not None},
        changed=frozenset(role for role, path in changed.items() if path is not None),
        vocabularies={role: handle.read() for role, handle in vocabularies.items()},
        head=head,
        data=data,
        licence=licence,
    )
    return write_folder(folder, base, making)


def _widened(folder: Path, base: ModelSettings, started: JukeboxConfig, role: str, path: Path) -> Path | None:
    """Writes a prior that was not trained with tables that have room for new names; None if it has room."""
    if role == "vqvae":
        return None
    level = level_of(role)
    labels = base.network.priors[level].labels
    if labels is None or labels == started.priors[level].labels:
        return None
    prior = load_prior(started, level, path)
    widen(prior, labels)
    target = folder / f"{role}.safetensors"
    write_half(prior, target, {"role": role, "model": base.name})
    return target


def _alignment(
    base: ModelSettings, part: Trained, codes: str, vocabularies: Mapping[str, FileHandle]
) -> AlignmentHead | None:
    config = base.network.priors[base.config.top]
    if config.lyrics is None:
        return None
    prior = load_prior(base.config, config.level, part.path)
    windows = CodeWindows(codes, level=config.level, context=config.context)
    names = load_vocabularies({name: handle.read() for name, handle in vocabularies.items()})
    data = LabelledWindows(windows, config, base.config.hops[config.level], names)
    count = min(_WINDOWS, len(data))
    return find_alignment(prior, collate([data[place * len(data) // count] for place in range(count)]))
