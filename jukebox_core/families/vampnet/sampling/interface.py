"""Variations of whole pieces: chunks through the coarse model, in rounds, then through the coarse-to-fine model.

These functions keep everything in memory, and reproduce upstream's interface call by call where `parity` is set; runs
sample the same chunks as nodes of a store (`graph.py`). Legend: B items, K codebooks, T time.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple, Protocol

import torch
from torch import Tensor
from torch.nn import functional

from jukebox_core.families.vampnet.config import C2F, COARSE
from jukebox_core.families.vampnet.masks.parts import apply, stretched
from jukebox_core.families.vampnet.sampling.passes import generate

if TYPE_CHECKING:
    from collections.abc import Iterator

    from jukebox_core.families.vampnet.model.codec import Codec
    from jukebox_core.families.vampnet.model.transformer import VampTransformer
    from jukebox_core.families.vampnet.sampling.config import VampSampling
    from jukebox_core.families.vampnet.sampling.noise import GridNoise


class Call(NamedTuple):
    """One chunk through one transformer: what its noise depends on, besides the seed."""

    role: str
    feedback_round: int
    start: int  # absolute time of the first step


class NoiseOf(Protocol):
    """Returns the noise of a call."""

    def __call__(self, call: Call) -> GridNoise:
        """Returns the noise of one chunk; in parity it may go on where the one before stopped."""
        ...


@dataclass(frozen=True, slots=True)
class Interface:
    """Codec and transformers of a model, on one device.

    Args:
        codec: of all codes.
        coarse: makes the first codebooks.
        c2f: makes the others; without it they stay as they are.
        coarse_chunk: steps of a chunk of the coarse model.
        c2f_chunk: of the coarse-to-fine model.
    """

    codec: Codec
    coarse: VampTransformer
    c2f: VampTransformer | None
    coarse_chunk: int
    c2f_chunk: int

    def vary(self, codes_BKT: Tensor, mask_BKT: Tensor, sampling: VampSampling, noise_of: NoiseOf) -> Vary:
        """Returns a variation of codes.

        Args:
            codes_BKT: of the source, all codebooks of the codec or of the coarse model.
            mask_BKT: true where tokens are generated.
            sampling: rounds and passes.
            noise_of: random numbers of each chunk.
        """
        made_BKT, shown_BKT = codes_BKT, codes_BKT
        for index in range(sampling.feedback):
            made_BKT, shown_BKT = self.coarse_chunks(made_BKT, mask_BKT, sampling, noise_of, feedback_round=index)
            if not sampling.parity:
                mask_BKT = rolled(mask_BKT, index, sampling.feedback)
        if self.c2f is None:
            return Vary(made_BKT, shown_BKT)
        made_BKT, fine_BKT = self.fine_chunks(made_BKT, mask_BKT, sampling, noise_of)
        coarse_books = self.coarse.config.n_codebooks
        return Vary(made_BKT, torch.cat([shown_BKT, fine_BKT[:, coarse_books:]], 1))

    def coarse_chunks(
        self, codes_BKT: Tensor, mask_BKT: Tensor, sampling: VampSampling, noise_of: NoiseOf, *, feedback_round: int = 0
    ) -> tuple[Tensor, Tensor]:
        """Returns codes with the coarse books made, the others unchanged; and the coarse books with masks shown.

        In parity the first and the last step of a chunk are kept wherever anything of it is kept, in all items.
        """
        books = self.coarse.config.n_codebooks
        coarse_BKT, mask_BKT = codes_BKT[:, :books], mask_BKT[:, :books].clone()
        made = []
        for chunk in _chunks(codes_BKT.shape[2], self.coarse_chunk):
            if sampling.parity and not mask_BKT[..., chunk].all():
                mask_BKT[..., chunk.start] = mask_BKT[..., chunk.stop - 1] = False
            noise = noise_of(Call(COARSE, feedback_round, chunk.start))
            part_BKT, mask_part_BKT = coarse_BKT[..., chunk], mask_BKT[..., chunk]
            made.append(generate(self.coarse, part_BKT, mask_part_BKT, sampling.coarse, noise, parity=sampling.parity))
        made_BKT = torch.cat([torch.cat(made, 2), codes_BKT[:, books:]], 1)
        return made_BKT, apply(coarse_BKT, mask_BKT, self.coarse.config.mask_id)

    def fine_chunks(
        self, codes_BKT: Tensor, mask_BKT: Tensor | None, sampling: VampSampling, noise_of: NoiseOf
    ) -> tuple[Tensor, Tensor]:
        """Returns codes with the fine books made, and codes with masks shown.

        In parity the piece is padded to whole chunks with code 0, which is generated and counted as well.
        """
        assert self.c2f is not None, "checked by the caller"
        config, steps = self.c2f.config, codes_BKT.shape[2]
        missing = max(0, config.n_codebooks - codes_BKT.shape[1])
        codes_BKT = functional.pad(codes_BKT, (0, 0, 0, missing))[:, : config.n_codebooks]
        if mask_BKT is None:
            mask_BKT = torch.ones_like(codes_BKT, dtype=torch.bool)
        mask_BKT = functional.pad(mask_BKT, (0, 0, 0, config.n_codebooks - mask_BKT.shape[1]), value=True)
        if sampling.parity:
            padding = -steps % self.c2f_chunk
            codes_BKT = functional.pad(codes_BKT, (0, padding))
            mask_BKT = functional.pad(mask_BKT, (0, padding), value=True)
        mask_BKT = mask_BKT.clone()
        mask_BKT[:, : config.n_conditioning_codebooks] = False
        made = []
        for chunk in _chunks(codes_BKT.shape[2], self.c2f_chunk):
            noise = noise_of(Call(C2F, 0, chunk.start))
            part_BKT, mask_part_BKT = codes_BKT[..., chunk], mask_BKT[..., chunk]
            made.append(generate(self.c2f, part_BKT, mask_part_BKT, sampling.c2f, noise, parity=sampling.parity))
        shown_BKT = apply(codes_BKT, mask_BKT, config.mask_id)
        return torch.cat(made, 2)[..., :steps], shown_BKT[..., :steps]

    @torch.inference_mode()
    def decode(self, codes_BKT: Tensor, *, parity: bool = False) -> Tensor:
        """Returns audio [B, 1, time] of codes, which may hold masks.

        They sound as code 0; where all codebooks of a step are masked, it is silent, but not in parity.
        """
        masked_BKT = codes_BKT == self.coarse.config.mask_id
        audio_B1N = self.codec.decode(codes_BKT.masked_fill(masked_BKT, 0))
        if parity:
            return audio_B1N
        silent_B1T = masked_BKT.all(1, keepdim=True)
        silent_B1N = silent_B1T.repeat_interleave(self.codec.config.hop, 2)[..., : audio_B1N.shape[2]]
        kept = audio_B1N.shape[2] - silent_B1N.shape[2]
        return audio_B1N.masked_fill(functional.pad(silent_B1N, (0, kept)), 0.0)


class Vary(NamedTuple):
    """A variation."""

    codes_BKT: Tensor
    shown_BKT: Tensor  # the codes that it was made of, with masks shown


def expanded(codes_BKT: Tensor, mask_BKT: Tensor, sampling: VampSampling, factor: int = 1) -> tuple[Tensor, Tensor]:
    """Returns source and mask of one piece for every variation, slowed down by `factor`."""
    count = sampling.n_samples
    return stretched(codes_BKT.expand(count, -1, -1), mask_BKT.expand(count, -1, -1), factor)


def rolled(mask_BKT: Tensor, index: int, rounds: int) -> Tensor:
    """Returns the mask after round `index` of feedback, moved in time by as many steps as rounds are done.

    Upstream moves what it shows of the mask instead, so that all its rounds have the same mask. After the last round
    the mask is not moved.
    """
    return mask_BKT.roll((index + 1) % rounds, 2)


def _chunks(length: int, size: int) -> Iterator[slice]:
    return (slice(at, min(at + size, length)) for at in range(0, length, size))
