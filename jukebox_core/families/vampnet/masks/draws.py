"""Random numbers of masks: one class draws them, so that recorded ones can take their place."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

import torch

if TYPE_CHECKING:
    from collections.abc import Sequence

    from torch import Tensor


class MaskDraws(Protocol):
    """A source of the random numbers of masks, in the order in which they are asked for."""

    def bernoulli(self, probability: Tensor) -> Tensor:
        """Returns a boolean for each element, in memory order, that is true with its probability."""
        ...

    def integers(self, high: int, count: int) -> Sequence[int]:
        """Returns `count` integers in [0, high)."""
        ...


class GeneratorDraws:
    """Draws of a CPU generator of torch.

    Args:
        generator: None is torch's global generator, whose draws are upstream's after the same seed.
    """

    def __init__(self, generator: torch.Generator | None = None) -> None:
        self._generator = generator

    @classmethod
    def of_seed(cls, seed: int) -> GeneratorDraws:
        """Returns draws that `seed` alone decides."""
        return cls(torch.Generator().manual_seed(seed % 2**63))

    def bernoulli(self, probability: Tensor) -> Tensor:
        """Returns booleans of the probabilities' shape."""
        return torch.rand(probability.shape, generator=self._generator) < probability

    def integers(self, high: int, count: int) -> list[int]:
        """Returns `count` integers in [0, high)."""
        return torch.randint(0, high, (count,), generator=self._generator).tolist()
