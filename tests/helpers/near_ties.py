"""Which choices of the passes two transformers decide differently, and whether each is a tie within their error.

A pass chooses three times: the codes that the filter keeps, the code that is drawn, the tokens that are masked again.
Legend as in `sampling.passes`.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch

from jukebox_core.families.vampnet.sampling.noise import GridSize
from jukebox_core.families.vampnet.sampling.passes import advance, filtered, start

if TYPE_CHECKING:
    from torch import Tensor

    from jukebox_core.families.vampnet.sampling.config import PassConfig
    from jukebox_core.families.vampnet.sampling.noise import GridNoise
    from jukebox_core.families.vampnet.sampling.passes import GridState, MaskedModel, Scored

_ROUNDED = 2e-6  # what float32 rounds away of logarithms up to 16, whatever the logits


@dataclass(slots=True)
class Differences:
    """Choices of all passes that are decided differently, each made from the same tokens."""

    error: float = 0.0  # largest, of logits
    places: int = 0
    filters: int = 0  # places where another code is kept
    drawn: int = 0  # masked places where another code is drawn
    remasked: int = 0  # places that only one of them masks again
    margin: float = 0.0  # largest of a choice that is decided differently

    def within(self, margin: float, allowed: float) -> None:
        """A choice whose margin is wider than the errors allow is a fault."""
        assert margin <= allowed, f"a choice with the margin {margin:.1e} differs, where errors allow {allowed:.1e}"
        self.margin = max(self.margin, margin)


def differences(
    ours: MaskedModel, other: MaskedModel, codes_BKT: Tensor, mask_BKT: Tensor, config: PassConfig, noise: GridNoise
) -> Differences:
    """What `other` decides differently in the passes of `ours`; it fails where that is no tie."""
    assert config.top_p is None
    sizes, found, state = ours.config, Differences(), start(ours.config, codes_BKT, mask_BKT)
    size = GridSize(len(codes_BKT), codes_BKT.shape[2], sizes.n_predicted, sizes.vocab_size)
    while state.done < config.steps:
        exponentials_BNV = noise.draw(state.done, size, tokens=True).tokens_BNV
        assert exponentials_BNV is not None
        mine, after = _observed(ours, state, config, noise)
        _compare(found, mine, _observed(other, state, config, noise)[0], config, exponentials_BNV)
        state = after
    return found


def _observed(
    model: MaskedModel, state: GridState, config: PassConfig, noise: GridNoise
) -> tuple[tuple[Tensor, Scored], GridState]:
    seen: list[tuple[Tensor, Scored]] = []
    after = advance(model, state, config, noise, observe=lambda logits, scored: seen.append((logits, scored)))
    return seen[0], after


def _compare(
    found: Differences,
    ours: tuple[Tensor, Scored],
    theirs: tuple[Tensor, Scored],
    config: PassConfig,
    exponentials_BNV: Tensor,
) -> None:
    (logits_BNV, mine), (other_BNV, its) = ours, theirs
    error = float((logits_BNV - other_BNV).abs().max())
    # A probability's logarithm is off by 2 E at most; its distance from the entropy by 4 E.
    one, two = 2 * error + _ROUNDED, 2 * (4 * error + _ROUNDED)
    kept_BNV, its_kept_BNV = (torch.isfinite(filtered(each, config)) for each in (logits_BNV, other_BNV))
    other_kept_BNV = kept_BNV != its_kept_BNV
    for item, n in other_kept_BNV.any(-1).nonzero().tolist():
        found.filters += 1
        found.within(_filter_margin(logits_BNV[item, n], kept_BNV[item, n], its_kept_BNV[item, n], config), two)
    was_masked_BN = torch.isfinite(mine.confidence_BN)
    for item, n in ((mine.drawn_BN != its.drawn_BN) & was_masked_BN).nonzero().tolist():
        found.drawn += 1
        codes = torch.stack([mine.drawn_BN[item, n], its.drawn_BN[item, n]])
        if not other_kept_BNV[item, n, codes].any():
            ratios = logits_BNV[item, n, codes].double() / config.temperature - exponentials_BNV[item, n, codes].log()
            found.within(float((ratios[0] - ratios[1]).abs()), 2 * one / config.temperature)
    for item, n in (mine.masked_BN != its.masked_BN).nonzero().tolist():
        found.remasked += 1
        if not other_kept_BNV[item].any():  # else probabilities, and the threshold with them, are others
            found.within(float((mine.confidence_BN[item, n] - mine.threshold_B1[item, 0]).abs()), 2 * one)
    found.error, found.places = max(found.error, error), found.places + mine.drawn_BN.numel()


def _filter_margin(logits_V: Tensor, kept_V: Tensor, its_kept_V: Tensor, config: PassConfig) -> float:
    """How far a place is from keeping another code.

    As many are kept, but others: between how typical these are. Fewer or more: between a sum and the mass.
    """
    log_p_V = logits_V.double().log_softmax(-1)
    shift_V = (-log_p_V + (log_p_V.exp() * log_p_V).sum()).abs()
    if kept_V.sum() == its_kept_V.sum():
        between_V = shift_V[kept_V != its_kept_V]
        return float(between_V.max() - between_V.min())
    sums_V = log_p_V.exp()[shift_V.argsort()].cumsum(0)
    return float((sums_V - config.typical_mass).abs().min())
