"""What holds for every mask, length, batch and interruption of a variation."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from jukebox_core.errors import ConfigError
from jukebox_core.families.vampnet.masks import parts
from jukebox_core.families.vampnet.masks.draws import GeneratorDraws
from jukebox_core.families.vampnet.sampling.config import PassConfig, VampSampling
from jukebox_core.families.vampnet.sampling.graph import packed, unpacked
from jukebox_core.families.vampnet.sampling.noise import GeneratorGridNoise
from jukebox_core.sampling.windows import Unobserved
from tests.helpers.models.tiny_vampnet import CODEC, Session, piece, tiny

if TYPE_CHECKING:
    from jukebox_core.families.vampnet.sampling.interface import Call

MASK_ID = CODEC.codebook_size
FEW = settings(max_examples=8)


def random_mask(steps: int, share: float, seed: int) -> np.ndarray:
    return np.random.default_rng(seed).random((CODEC.n_codebooks, steps)) < share


def how(**changes: Any) -> VampSampling:
    passes = {"coarse": PassConfig(steps=4), "c2f": PassConfig(steps=2, top_p=0.9)}
    return VampSampling(**{"seed": 3, **passes, **changes})


pieces = st.integers(1, 27)
shares = st.sampled_from([0.0, 0.2, 0.7, 1.0])
seeds = st.integers(0, 2**16)


@FEW
@given(pieces, shares, seeds, st.booleans(), st.sampled_from([0.0, 0.5]))
def test_kept_tokens_never_change_and_no_mask_is_left(
    steps: int, share: float, seed: int, parity: bool, overlap: float
) -> None:
    session, mask = Session.of(piece(steps, seed)), random_mask(steps, share, seed)
    sampling = how(parity=parity, overlap=overlap, seed=seed)
    [codes] = session.sample(session.plans(mask, sampling), sampling, 1)
    assert codes.shape == session.codes.shape
    assert codes.min() >= 0
    assert codes.max() < MASK_ID
    assert (codes == session.codes)[~mask].all()


@FEW
@given(pieces, shares, seeds, st.integers(1, 3))
def test_a_batch_of_four_equals_four_alone(steps: int, share: float, seed: int, rounds: int) -> None:
    session, mask = Session.of(piece(steps, seed)), random_mask(steps, share, seed)
    sampling = how(n_samples=4, feedback=rounds, seed=seed)
    together = session.sample(session.plans(mask, sampling), sampling, 4)
    for sample in range(4):
        alone = Session.of(session.codes)
        [codes] = alone.sample(alone.plans(mask, sampling, [sample]), sampling, 1)
        assert np.array_equal(codes, together[sample])


class KilledError(Exception):
    """The process was killed."""


class KilledAfter(Unobserved):
    """Fails after a number of passes, as a kill does; counts all passes."""

    def __init__(self, passes: int) -> None:
        self.left, self.passes = passes, 0

    def check_stop(self) -> None:
        self.passes, self.left = self.passes + 1, self.left - 1
        if self.left == 0:
            raise KilledError


@pytest.mark.parametrize("parity", [False, True])
def test_a_kill_at_any_pass_changes_nothing_and_repeats_nothing(parity: bool) -> None:
    codes, mask = piece(11), random_mask(11, 0.8, 1)
    sampling = how(n_samples=2, parity=parity, overlap=0.5, coarse=PassConfig(steps=3))
    whole, counted = Session.of(codes), KilledAfter(0)
    expected = whole.sample(whole.plans(mask, sampling), sampling, 2, counted)
    assert counted.passes >= 10
    for at in range(1, counted.passes + 1):
        session, first, second = Session.of(codes), KilledAfter(at), KilledAfter(0)
        with pytest.raises(KilledError):
            session.sample(session.plans(mask, sampling), sampling, 2, first)
        found = session.sample(session.plans(mask, sampling), sampling, 2, second)
        assert all(map(np.array_equal, found, expected))
        assert first.passes + second.passes == counted.passes


def test_variations_at_different_passes_continue_together() -> None:
    """Of a batch, one item may have been stored later than the others."""
    codes, mask = piece(9), random_mask(9, 0.9, 2)
    sampling = how(n_samples=2)
    whole = Session.of(codes)
    expected = whole.sample(whole.plans(mask, sampling), sampling, 2)
    session = Session.of(codes)
    with pytest.raises(KilledError):
        session.sample(session.plans(mask, sampling)[:1], sampling, 1, KilledAfter(3))
    assert all(map(np.array_equal, session.sample(session.plans(mask, sampling), sampling, 2), expected))


@FEW
@given(pieces, shares, seeds)
def test_parity_over_a_store_equals_upstreams_interface(steps: int, share: float, seed: int) -> None:
    session, mask = Session.of(piece(steps, seed)), random_mask(steps, share, seed)
    sampling = how(parity=True, feedback=2, seed=seed)
    [found] = session.sample(session.plans(mask, sampling), sampling, 1)
    generator = torch.Generator()

    def noise_of(call: Call) -> GeneratorGridNoise:
        if call.role == "coarse":
            generator.manual_seed(seed)
        return GeneratorGridNoise(generator)

    source = torch.from_numpy(session.codes).long()[None]
    expected = tiny().vary(source, torch.from_numpy(mask)[None], sampling, noise_of).codes_BKT[0]
    assert np.array_equal(found, expected.numpy())


def test_a_change_of_the_mask_changes_no_chunk_before_it() -> None:
    session, mask, sampling = Session.of(piece(30)), random_mask(30, 0.5, 0), how(overlap=0.0)
    other = mask.copy()
    other[0, 25] ^= True
    [one], [two] = session.plans(mask, sampling), session.plans(other, sampling)
    keys = [[node.key for node in plan.level(1)] for plan in (one, two)]
    assert len(keys[0]) == 3
    assert keys[0][:2] == keys[1][:2]
    assert keys[0][2] != keys[1][2]


@pytest.mark.parametrize("change", ["seed", "sample", "passes", "feedback"])
def test_what_decides_tokens_decides_the_key(change: str) -> None:
    session, mask = Session.of(piece(8)), random_mask(8, 0.5, 0)
    one, other = how(), how(**{"seed": {"seed": 4}, "passes": {"coarse": PassConfig(steps=5)}}.get(change, {}))
    [before] = session.plans(mask, one)
    if change == "feedback":
        [after] = session.plans(mask, how(feedback=2))
        assert before.take[0] != after.take[0]
        return
    [after] = session.plans(mask, other, [1 if change == "sample" else 0])
    assert {node.key for node in before.nodes}.isdisjoint(node.key for node in after.nodes)


@pytest.mark.parametrize("shape", [(5, 7), (5, 9), (4, 8), (2, 8)])
def test_a_mask_of_another_shape_is_refused(shape: tuple[int, int]) -> None:
    session = Session.of(piece(8))
    with pytest.raises(ConfigError, match=rf"{shape[0]} x {shape[1]} places, but the codes 5 codebooks x 8 steps"):
        session.plans(np.ones(shape, np.bool_), how())


@given(st.integers(1, 6), st.integers(1, 40), seeds)
def test_masks_survive_packing(books: int, steps: int, seed: int) -> None:
    mask = np.random.default_rng(seed).random((books, steps)) < 0.5
    assert np.array_equal(unpacked(packed(mask), books, steps), mask)


@given(st.integers(1, 40), st.integers(0, 12), st.integers(1, 9), seeds)
def test_periods_keep_what_they_say(steps: int, period: int, width: int, seed: int) -> None:
    mask = parts.periodic((1, 2, steps), period, width, GeneratorDraws.of_seed(seed))
    near = [period > 0 and min(at % period, -at % period if at + (-at % period) < steps else steps) <= width // 2
            for at in range(steps)]  # fmt: skip
    assert mask[0, 0].tolist() == [not each for each in near]


def test_pieces_of_different_lengths_share_batches() -> None:
    """Their chunks coincide in different rounds, which have other noise."""
    sampling = VampSampling(n_samples=1, feedback=3, seed=4, coarse=PassConfig(steps=3), overlap=0.5)
    short, long = Session.of(piece(8, 1)), Session.of(piece(17, 2))
    long.store = short.store
    pieces = [
        (each, np.random.default_rng(each.codes.shape[1]).random(each.codes.shape) < 0.7) for each in (short, long)
    ]
    together = short.sample([plan for each, mask in pieces for plan in each.plans(mask, sampling)], sampling, 4)
    for (each, mask), expected in zip(pieces, together, strict=True):
        alone = Session.of(each.codes)
        [found] = alone.sample(alone.plans(mask, sampling), sampling, 1)
        assert np.array_equal(found, expected)
