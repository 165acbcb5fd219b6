"""Random numbers for drawing tokens: standard exponentials, a row of the vocabulary's length for each token.

`draw.draw_tokens` turns probabilities and such a row into a token without a random generator: all randomness of
sampling comes from here. Shape suffixes: N positions, B samples of the batch, V vocabulary.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

import numpy as np
import torch

from jukebox_core.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from torch import Tensor

# Values computed ahead in one go: few enough that the working arrays stay in a core's second-level cache.
_BLOCK_VALUES = 2**16
# For another device: enough that not every token needs a copy, and at most 4 MB of its memory.
_DEVICE_BLOCK_VALUES = 2**20
_EXPONENT_OF_ONE = np.uint64(0x3FF0_0000_0000_0000)  # the bits of the float64 1.0
_EXPONENT_BITS = np.uint64(12)  # sign and exponent of a float64; the fraction has the other 52 bits


class Noise(Protocol):
    """A source of the random numbers that choose tokens."""

    def draw(self, position: int, count: int) -> Tensor:
        """Returns float32 [batch, count] standard exponentials, all above 0, for the token at `position`.

        Args:
            position: Absolute position of the token in its level, counted from the start of the song.
            count: How many numbers a sample needs: the size of the vocabulary drawn from.
        """
        ...


class CounterNoise:
    """Noise that is a pure function of (seed, level, sample index, position).

    Any cut of the batch, any point of resumption and any worker therefore draws the same token from the same
    probabilities. The recipe, for one token:

    1. Run Philox 4x64-10 (`numpy.random.Philox`) with key ``(seed, level)`` from counter
       ``(0, position, sample, 0)``, lowest word first. Numpy steps the counter before it makes a block of four
       words, so the first block has counter ``(1, position, sample, 0)``. Take one raw 64-bit word per number.
    2. Keep the upper 52 bits of a word as k. ``u = (2 k + 1) / 2**53`` is uniform within (0, 1), and exact in float64.
    3. The number is ``-log(u)`` in float64, rounded to float32: between 1.1e-16 and 36.8.

    No numpy distribution takes part, so no change to one can change a song. A shorter `count` gives a prefix of a
    longer one. Positions are computed in blocks ahead of time and cached, which changes no value; where tokens are
    drawn on another device, a block is copied there asynchronously.

    Args:
        seed: Seed of the run, within 0 to 2**64 - 1.
        level: Level whose tokens are drawn.
        samples: Index of each sample of the batch, global to the run.
        device: Where tokens are drawn; by default the CPU.

    Raises:
        ConfigError: A number does not fit in 64 bits without a sign, or there are no samples.
    """

    def __init__(self, seed: int, level: int, samples: Sequence[int], device: torch.device | None = None) -> None:
        if not samples:
            raise ConfigError("samples is empty; noise needs the index of at least one sample")
        for name, value in (("seed", seed), ("level", level), *(("sample", sample) for sample in samples)):
            if not 0 <= value < 2**64:
                raise ConfigError(f"{name} is {value}; noise needs it between 0 and 2**64 - 1")
        self._samples = tuple(samples)
        self._philox = np.random.Philox(key=np.array([seed, level], dtype=np.uint64))
        self._start = self._philox.state  # its buffer is empty, so that a new counter takes effect at once
        self._device = device or torch.device("cpu")
        self._values = _BLOCK_VALUES if self._device.type == "cpu" else _DEVICE_BLOCK_VALUES
        self._first = 0
        self._ahead_NBV = torch.empty(0, len(samples), 0)

    def draw(self, position: int, count: int) -> Tensor:
        """Returns float32 [batch, count] for the token at `position`; do not write into it."""
        _, _, width = self._ahead_NBV.shape
        if count != width or not 0 <= position - self._first < len(self._ahead_NBV):
            ahead = max(1, self._values // (len(self._samples) * count))
            self._first = position
            self._ahead_NBV = self._to_device(torch.from_numpy(self._compute(position, ahead, count)))
        return self._ahead_NBV[position - self._first]

    def draw_range(self, start: int, stop: int, count: int) -> Tensor:
        """Returns float32 [positions, batch, count] for the tokens at [`start`, `stop`), and computes nothing ahead."""
        return self._to_device(torch.from_numpy(self._compute(start, stop - start, count)))

    def _to_device(self, ahead_NBV: Tensor) -> Tensor:
        """Returns the values on the device; the copy from pinned memory is asynchronous."""
        if self._device.type == "cuda":
            ahead_NBV = ahead_NBV.pin_memory()
        return ahead_NBV.to(self._device, non_blocking=True)

    def _compute(self, first: int, positions: int, count: int) -> np.ndarray:
        """Returns float32 [positions, batch, count] for the positions from `first` on."""
        words_NBV = np.empty((positions, len(self._samples), count), dtype=np.uint64)
        for n in range(positions):
            for b, sample in enumerate(self._samples):
                self._start["state"]["counter"] = np.array([0, first + n, sample, 0], dtype=np.uint64)
                self._philox.state = self._start
                words_NBV[n, b] = self._philox.random_raw(count)
        # With the exponent of 1.0 above them, 52 bits k read as the float64 1 + k / 2**52. Subtracting 1 - 2**-53 is
        # exact and several times as fast as converting an integer.
        words_NBV >>= _EXPONENT_BITS
        words_NBV |= _EXPONENT_OF_ONE
        uniform_NBV = words_NBV.view(np.float64)
        uniform_NBV -= 1 - 2**-53
        return -np.log(uniform_NBV, out=uniform_NBV).astype(np.float32)


class GeneratorNoise:
    """Noise in upstream's order: one draw for the whole batch at each call, from torch's stateful CPU generator.

    It exists only to reproduce upstream's tokens (docs/upstream.md, Sampling): its values depend on all earlier draws,
    and `position` is ignored.

    Args:
        batch: Number of samples of the batch.
        generator: A CPU generator; None is torch's global one.
    """

    def __init__(self, batch: int, generator: torch.Generator | None = None) -> None:
        self._batch = batch
        self._generator = generator

    def draw(self, position: int, count: int) -> Tensor:  # noqa: ARG002 - required by the protocol
        """Returns the generator's next float32 [batch, count]."""
        return torch.empty(self._batch, count).exponential_(generator=self._generator)
