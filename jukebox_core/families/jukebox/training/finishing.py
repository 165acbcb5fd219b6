"""The last step of a training: finds the alignment head, widens untrained priors, writes the model card."""

from __future__ import annotations

import logging
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from jukebox_core.base.structuring import build, to_plain
from jukebox_core.datasets.windows import CodeWindows
from jukebox_core.families.jukebox.checkpoints.loading import load_prior
from jukebox_core.families.jukebox.conditioning.vocabulary import load_vocabularies
from jukebox_core.families.jukebox.config import CODEC, level_of
from jukebox_core.families.jukebox.training.alignment_head import LEAST_SCORE, find_alignment
from jukebox_core.families.jukebox.training.batch import collate
from jukebox_core.families.jukebox.training.label_tables import widen
from jukebox_core.families.jukebox.training.model_card import model_card
from jukebox_core.families.jukebox.training.prior import LabelledWindows
from jukebox_core.training.family import FinishedModel
from jukebox_core.training.weights import write_half_weights

if TYPE_CHECKING:
    from pathlib import Path

    from jukebox_core.families.jukebox.config import PriorsConfig
    from jukebox_core.families.jukebox.training.alignment_head import AlignmentHead
    from jukebox_core.training.family import FinishInputs

log = logging.getLogger("jukebox")

_WINDOWS = 16  # enough to distinguish the head that follows the lyrics


def finish(inputs: FinishInputs) -> FinishedModel:
    """Returns the network with its alignment head, priors with longer tables, and the card of a trained model."""
    base = inputs.base
    head = _find_alignment(inputs)
    if head is not None and head.score < LEAST_SCORE:
        log.warning("no attention head follows the lyrics: the best has a score of %.2f of 1", head.score)
        head = None
    elif head is not None:
        log.info("lyrics are followed by head %d of layer %d, score %.2f", head.head, head.layer, head.score)
    widened = {role: _widened(inputs, role, path) for role, path in inputs.given.items()}
    return FinishedModel(
        network=replace(base.network, priors=_with_head(base.network.priors, head)),
        rewritten={role: path for role, path in widened.items() if path is not None},
        card=model_card(inputs, head),
    )


def _find_alignment(inputs: FinishInputs) -> AlignmentHead | None:
    """Returns the head of a newly trained top prior that follows the lyrics; None without one."""
    model = inputs.base.config
    part, config = inputs.trained.get(f"level_{model.top}"), model.priors[model.top]
    if part is None or config.lyrics is None:
        return None
    prior = load_prior(model, config.level, part.path)
    windows = CodeWindows(inputs.codes, level=config.level, context=config.context)
    data = LabelledWindows(windows, config, model.hops[config.level], load_vocabularies(inputs.vocabularies))
    count = min(_WINDOWS, len(data))
    return find_alignment(prior, collate([data[place * len(data) // count] for place in range(count)]))


def _widened(inputs: FinishInputs, role: str, path: Path) -> Path | None:
    """Writes an untrained prior with rows for new labels, and returns the file; None if its tables are long enough."""
    if role == CODEC:
        return None
    base, level = inputs.base, level_of(role)
    labels = base.config.priors[level].labels
    if labels is None or labels == inputs.start_config.priors[level].labels:
        return None
    prior = load_prior(inputs.start_config, level, path)
    widen(prior, labels)
    target = inputs.folder / f"{role}.safetensors"
    write_half_weights(prior, target, {"role": role, "model": base.name})
    return target


def _with_head(priors: PriorsConfig, head: AlignmentHead | None) -> PriorsConfig:
    if head is None:
        return priors
    plain: dict[str, Any] = to_plain(priors)
    plain[f"level_{len(priors) - 1}"]["lyrics"] |= {"alignment_layer": head.layer, "alignment_head": head.head}
    return build(type(priors), plain)
