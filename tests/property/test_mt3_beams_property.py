"""Beam search over random models: one beam is greedy decoding, more are never less likely, and constraints hold."""

from __future__ import annotations

import itertools
from functools import cache

import numpy as np
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from jukebox_core.families.mt3.config import (
    EOS_ID,
    FrontEndConfig,
    MT3Network,
    TransformerConfig,
    VocabularyConfig,
)
from jukebox_core.families.mt3.engines.engines import prepare
from jukebox_core.families.mt3.events.decoding import NoteDecoder, Segment, decode
from jukebox_core.families.mt3.events.grammar import Grammar
from jukebox_core.families.mt3.events.vocabulary import vocabulary_of
from jukebox_core.families.mt3.model.transformer import MT3
from jukebox_core.families.mt3.transcription.beams import search_rows
from jukebox_core.families.mt3.transcription.loop import decode_rows

SIZES = TransformerConfig(
    width=8, heads=1, head_width=8, mlp_width=8, encoder_depth=1, decoder_depth=1, embeddings=1536, positions="port"
)
VOCABULARY = VocabularyConfig()
NETWORK = MT3Network(front_end=FrontEndConfig(mels=8, segment_frames=16), vocabulary=VOCABULARY, transformer=SIZES)
FEW = 5  # ids of a model whose sequences can be listed
END = 205  # steps of a segment


@cache
def random_model(seed: int, ids: int | None, engine: str) -> MT3:
    """A model that prefers some ids strongly, and ends soon; with `ids`, only the first so many are not banned."""
    torch.manual_seed(seed)
    model = MT3(NETWORK).eval().requires_grad_(requires_grad=False)
    for parameter in model.parameters():
        parameter.normal_(std=0.7)
    model.head.weight[EOS_ID] += 0.4 * model.head.weight.mean(0)
    return prepare(model, "float32", engine)


def banned(ids: int | None) -> np.ndarray:
    made = np.zeros(SIZES.embeddings, np.bool_)
    made[ids if ids is not None else SIZES.embeddings :] = True
    return made


def log_probability(model: MT3, source: torch.Tensor, ids: list[int], never: np.ndarray) -> float:
    """Of a whole sequence, without a cache."""
    given_ = torch.tensor([[0, *ids[:-1]]])
    logits = model(given_, source)[0].double().masked_fill(torch.from_numpy(never), -torch.inf)
    return float(logits.log_softmax(-1)[range(len(ids)), ids].sum())


MODELS = st.builds(random_model, st.integers(0, 30), st.none(), st.sampled_from(["native", "eager"]))


@given(MODELS, st.integers(0, 99), st.integers(1, 4), st.integers(2, 14))
@settings(max_examples=20)
def test_one_beam_is_greedy_decoding(model: MT3, seed: int, segments: int, limit: int) -> None:
    source = torch.randn(segments, 16, 8, generator=torch.Generator().manual_seed(seed))
    for never in (None, banned(40)):
        greedy = decode_rows(model, source, max_tokens=limit, banned=never)
        assert search_rows(model, source, beams=1, max_tokens=limit, banned=never) == greedy


@given(MODELS, st.integers(0, 99), st.integers(2, 6), st.sampled_from([3, 40, None]))
@settings(max_examples=20)
def test_more_beams_are_at_least_as_likely_as_greedy(model: MT3, seed: int, beams: int, ids: int | None) -> None:
    source, never = torch.randn(3, 16, 8, generator=torch.Generator().manual_seed(seed)), banned(ids)
    greedy = decode_rows(model, source, max_tokens=9, banned=never)
    found = search_rows(model, source, beams=beams, max_tokens=9, banned=never)
    for row, each in enumerate(found):
        ours, theirs = (
            log_probability(model, source[row : row + 1], ids_, never) for ids_ in (each.ids, greedy[row].ids)
        )
        assert ours >= theirs - 1e-4
        assert each.complete == (each.ids[-1] == EOS_ID)
        assert EOS_ID not in each.ids[:-1]
    alone = [search_rows(model, one[None], beams=beams, max_tokens=9, banned=never)[0] for one in source]
    assert alone == found


@given(st.builds(random_model, st.integers(0, 30), st.just(FEW), st.just("eager")), st.integers(0, 99))
@settings(max_examples=10)
def test_with_enough_beams_the_likeliest_of_all_sequences_is_found(model: MT3, seed: int) -> None:
    source, never = torch.randn(1, 16, 8, generator=torch.Generator().manual_seed(seed)), banned(FEW)
    others = [each for each in range(FEW) if each != EOS_ID]
    every = [
        [*begin, *end]
        for length in range(4)
        for begin in itertools.product(others, repeat=length)
        for end in ([[EOS_ID]] if length < 3 else [[]])
    ]
    best = max(log_probability(model, source, ids, never) for ids in every)
    [row] = search_rows(model, source, beams=4**3, max_tokens=4, banned=never)
    assert abs(log_probability(model, source, row.ids, never) - best) < 1e-4


@given(MODELS, st.integers(0, 99), st.integers(1, 3), st.sampled_from([None, (0, 5)]))
@settings(max_examples=15)
def test_beams_under_constraints_are_never_invalid(
    model: MT3, seed: int, beams: int, programs: tuple[int, ...] | None
) -> None:
    decoder, vocabulary = NoteDecoder(VOCABULARY), vocabulary_of(VOCABULARY)
    random, segments = torch.Generator().manual_seed(seed), []
    for index in range(3):
        decoder.begin(index * END / 100, (index + 1) * END / 100)
        grammar = Grammar(decoder, SIZES.embeddings, END, programs)
        source = torch.randn(1, 16, 8, generator=random)
        [row] = search_rows(model, source, beams=beams, max_tokens=20, grammars=[grammar])
        segments.append(Segment(index * END / 100, vocabulary.to_indices(row.ids)))
    decoded = decode(VOCABULARY, segments)
    assert (decoded.invalid, decoded.dropped) == (0, 0)
    assert programs is None or {note.program for note in decoded.notes if not note.is_drum} <= set(programs)
    assert decoder.finish().notes == decoded.notes  # the grammars have seen what was found, and nothing else
