"""Random numbers of a pass over a grid. Legend: B items, T time, P predicted codebooks, V codes.

Each predicted token needs one standard exponential for every code, which choose it, and one for its confidence.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple, Protocol

import torch
from torch import Tensor

from jukebox_core.sampling.noise import CounterNoise

if TYPE_CHECKING:
    from collections.abc import Sequence

_STREAM = 2**16  # passes of one round; and rounds of one transformer
_SMALLEST_UNIFORM = 1e-20


class GridSize(NamedTuple):
    """The logits of a pass."""

    items: int
    steps: int
    books: int  # predicted
    codes: int


class PassNoise(NamedTuple):
    """The random numbers of one pass."""

    tokens_BNV: Tensor | None  # standard exponentials, time-major; None in a pass that draws no tokens
    gumbel_BN: Tensor  # of the confidences


class GridNoise(Protocol):
    """A source of the random numbers of passes."""

    def draw(self, index: int, size: GridSize, *, tokens: bool) -> PassNoise:
        """Returns the numbers of pass `index`; `tokens`: whether it draws tokens."""
        ...


class CounterGridNoise:
    """Noise of positions: a function of seed, stage, sample, pass and absolute time, and of nothing else.

    The numbers of one time step are those of `jukebox_core.sampling.noise.CounterNoise` at this position, with the key
    ``(seed, stage * 2**32 + round * 2**16 + pass)``: first the codes of each predicted codebook, one book after the
    other, then one number for each confidence.

    Args:
        seed: of the run.
        stage: number of the transformer.
        feedback_round: of the coarse transformer, from 0.
        samples: index of each item, global to the run.
        start: absolute time of the grid's first step.
    """

    def __init__(self, seed: int, stage: int, feedback_round: int, samples: Sequence[int], start: int) -> None:
        self._seed, self._stream = seed, (stage * _STREAM + feedback_round) * _STREAM
        self._samples, self._start = tuple(samples), start

    def draw(self, index: int, size: GridSize, *, tokens: bool) -> PassNoise:
        """Returns the numbers of pass `index`."""
        noise = CounterNoise(self._seed, self._stream + index, self._samples)
        per_step = size.books * size.codes
        stop = self._start + size.steps
        numbers_BTC = noise.draw_range(self._start, stop, per_step + size.books).transpose(0, 1)
        gumbel_BN = -numbers_BTC[..., per_step:].flatten(1).log()
        tokens_BNV = numbers_BTC[..., :per_step].reshape(len(self._samples), -1, size.codes) if tokens else None
        return PassNoise(tokens_BNV, gumbel_BN)


class GeneratorGridNoise:
    """Noise in upstream's order, from a stateful CPU generator of torch; only parity with upstream needs it.

    Args:
        generator: None is torch's global one.
    """

    def __init__(self, generator: torch.Generator | None = None) -> None:
        self._generator = generator

    def draw(self, index: int, size: GridSize, *, tokens: bool) -> PassNoise:  # noqa: ARG002 - by the protocol
        """Returns the generator's next numbers."""
        tokens_BNV = None
        if tokens:
            flat_NV = torch.empty(size.items * size.steps * size.books, size.codes)
            tokens_BNV = flat_NV.exponential_(generator=self._generator).view(size.items, -1, size.codes)
        uniform_BN = torch.empty(size.items, size.steps * size.books)
        uniform_BN.uniform_(_SMALLEST_UNIFORM, 1, generator=self._generator)
        return PassNoise(tokens_BNV, gumbel_of(uniform_BN))


def gumbel_of(uniform: Tensor) -> Tensor:
    """Returns Gumbel noise of uniform numbers within (0, 1)."""
    return -(-uniform.log()).log()
