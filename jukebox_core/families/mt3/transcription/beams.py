"""Beam search: from the source of a batch of segments to the likeliest ids that it finds for each."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from jukebox_core.families.mt3.config import EOS_ID, PAD_ID
from jukebox_core.families.mt3.transcription.blocks import Row
from jukebox_core.families.mt3.transcription.loop import mask_logits, never_chosen

if TYPE_CHECKING:
    from collections.abc import Sequence

    import numpy as np
    from numpy.typing import NDArray

    from jukebox_core.families.mt3.events.grammar import Grammar
    from jukebox_core.families.mt3.model.transformer import MT3


@dataclass(frozen=True, slots=True)
class _Hypothesis:
    """A beginning of a segment's ids."""

    ids: list[int]
    score: float  # log-probability
    grammar: Grammar | None  # which has seen the ids
    greedy: bool  # each of its ids had the highest logit
    parent: int = 0  # row of the batch that it continues


@dataclass(slots=True)
class _Segment:
    """The search for the ids of one segment."""

    width: int  # number of beams
    active: list[_Hypothesis]
    ended: _Hypothesis | None = None  # the likeliest one that has ended
    rows: slice = field(default_factory=lambda: slice(0, 1))  # of the active ones in the batch

    def extend(self, scores_RV: Tensor, logits_RV: Tensor) -> None:
        """Continues each hypothesis by one id.

        The likeliest `width` continuations are kept; those of them that end compete for `ended`. The greedy hypothesis
        is always kept, so that what is found is never less likely than it. The search is over when an ended
        hypothesis is at least as likely as every active one, since these can only become less likely.

        Args:
            scores_RV: log-probabilities of the continuations of the active hypotheses; -inf: not allowed.
            logits_RV: their logits, whose maximum is the greedy choice.
        """
        ids = scores_RV.shape[1]
        best = scores_RV.flatten().topk(min(2 * self.width, scores_RV.numel()))
        kept = [
            self._continued(index // ids, index % ids, score)
            for score, index in zip(best.values.tolist(), best.indices.tolist(), strict=True)
            if score > -torch.inf
        ]
        ended = [each for each in kept[: self.width] if each.ids[-1] == EOS_ID]
        going = [each for each in kept if each.ids[-1] != EOS_ID][: self.width]
        for row in (row for row, each in enumerate(self.active) if each.greedy):
            choice = int(logits_RV[row].argmax())
            greedy = self._continued(row, choice, scores_RV[row, choice].item(), greedy=True)
            if choice == EOS_ID:
                ended.append(greedy)
            else:
                others = [each for each in going if each.parent != greedy.parent or each.ids[-1] != choice]
                going = [*others[: self.width - 1], greedy]
        self.ended = max([*filter(None, [self.ended]), *ended], key=lambda each: each.score, default=None)
        if self.ended is not None and all(each.score <= self.ended.score for each in going):
            going = []
        self.active = [_with_own_grammar(each) for each in going]

    def found(self) -> Row:
        """Returns the likeliest ids; they are incomplete if the limit came first."""
        best = max([*filter(None, [self.ended]), *self.active], key=lambda each: each.score)
        return Row(best.ids, best.ids[-1:] == [EOS_ID])

    def _continued(self, row: int, choice: int, score: float, *, greedy: bool = False) -> _Hypothesis:
        before = self.active[row]
        return _Hypothesis([*before.ids, choice], score, before.grammar, greedy, self.rows.start + row)


@torch.inference_mode()
def search_rows(
    model: MT3,
    source_BSW: Tensor,
    *,
    beams: int,
    max_tokens: int,
    banned: NDArray[np.bool_] | None = None,
    grammars: Sequence[Grammar] | None = None,
) -> list[Row]:
    """Returns the likeliest ids of each segment among those that a beam search finds.

    They are at least as likely as the greedy ones, and with one beam they are the greedy ones. Log-probabilities are
    summed without a correction for length; ids that are not allowed have none. Segments do not affect each other.

    Args:
        model: the network.
        source_BSW: what the decoder reads, of each segment (`MT3.with_memory`).
        beams: hypotheses of each segment.
        max_tokens: limit of a segment's ids, the start token included.
        banned: which ids are never chosen, bool [V].
        grammars: the rules that restrict the ids of each segment; in the end they have seen the ids that are returned.
    """
    forks = [None] * len(source_BSW) if grammars is None else [each.fork() for each in grammars]
    segments = [
        _Segment(beams, [_Hypothesis([], 0.0, fork, greedy=True)], rows=slice(place, place + 1))
        for place, fork in enumerate(forks)
    ]
    cache = model.start(source_BSW, beams * len(segments))
    ids_R = torch.full((len(segments),), PAD_ID, device=source_BSW.device)
    never = never_chosen(banned, source_BSW.device)
    for _ in range(max_tokens - 1):
        active = [each for segment in segments for each in segment.active]
        rules = None if grammars is None else [each.grammar for each in active if each.grammar is not None]
        logits_RV = mask_logits(model.step(ids_R, cache), never, rules)
        before_R = torch.tensor([each.score for each in active], dtype=torch.float64, device=logits_RV.device)
        scores_RV = logits_RV.double().log_softmax(-1) + before_R[:, None]
        for segment in segments:
            if segment.active:
                segment.extend(scores_RV[segment.rows], logits_RV[segment.rows])
        active = [each for segment in segments for each in segment.active]
        if not active:
            break
        _place(segments)
        cache.select(torch.tensor([each.parent for each in active], device=ids_R.device))
        ids_R = torch.tensor([each.ids[-1] for each in active], device=ids_R.device)
    rows = [segment.found() for segment in segments]
    for grammar, row in zip(grammars or (), rows, strict=grammars is not None):
        for each in row.ids:
            grammar.feed_id(each)
    return rows


def _place(segments: Sequence[_Segment]) -> None:
    """Gives the active hypotheses of all segments their rows in the next batch."""
    stop = 0
    for segment in segments:
        segment.rows = slice(stop, stop := stop + len(segment.active))


def _with_own_grammar(each: _Hypothesis) -> _Hypothesis:
    if each.grammar is None:
        return each
    grammar = each.grammar.fork()
    grammar.feed_id(each.ids[-1])
    return _Hypothesis(each.ids, each.score, grammar, each.greedy, each.parent)
