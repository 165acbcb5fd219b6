"""A transformer behind `jukebox_core.protocols.TokenModel`: it fills chunks in passes, and can stop after each of them.

Legend: B items, K codebooks, T time.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import torch

from jukebox_core.families.vampnet.config import COARSE_LEVEL
from jukebox_core.families.vampnet.sampling.graph import unpacked
from jukebox_core.families.vampnet.sampling.noise import CounterGridNoise, GeneratorGridNoise
from jukebox_core.families.vampnet.sampling.passes import GridState, advance, start
from jukebox_core.families.vampnet.sampling.upstream_order import generator_of

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from numpy.typing import NDArray
    from torch import Tensor

    from jukebox_core.families.vampnet.config import VampNetConfig
    from jukebox_core.families.vampnet.sampling.config import PassConfig, VampSampling
    from jukebox_core.families.vampnet.sampling.noise import GridNoise
    from jukebox_core.families.vampnet.sampling.passes import MaskedModel
    from jukebox_core.protocols import Progress
    from jukebox_core.tokens.graph import Node

_HEAD = struct.Struct("<4sHHIII")  # mark, version, passes done, masked tokens at the start, codebooks, steps
_MARK, _VERSION = b"VAMP", 1


class Passed(NamedTuple):
    """The resumable state of one chunk: the grid, the number of its pass, and in parity the generator; opaque."""

    tokens: None
    state: bytes | None


@dataclass(slots=True)
class Chunk:
    """One item of a batch."""

    node: Node
    state: GridState  # of this item alone
    generator: torch.Generator | None  # in parity


@dataclass(slots=True)
class ChunkState:
    """The sampling state of one chunk of a batch of variations; `jukebox_core.protocols.WindowState`."""

    model: MaskedModel
    chunks: list[Chunk]
    passes: PassConfig
    sampling: VampSampling

    def step(self) -> int | None:
        """Advances the items that have the fewest passes by one; returns a share of the chunk's tokens."""
        done = min(chunk.state.done for chunk in self.chunks)
        if done == self.passes.steps:
            return None
        behind = [chunk for chunk in self.chunks if chunk.state.done == done]
        for chunk in filter(self._is_kept, behind):
            chunk.state = replace(chunk.state, done=done + 1)
        for group in self._groups([chunk for chunk in behind if not self._is_kept(chunk)]):
            self._advance(group)
        new = self.chunks[0].node.window.new
        return new * (done + 1) // self.passes.steps - new * done // self.passes.steps

    def save(self) -> list[Progress]:
        """Returns the progress of each item."""
        return [Passed(None, _to_bytes(chunk) if chunk.state.done else None) for chunk in self.chunks]

    def results(self) -> list[NDArray[np.int32]]:
        """Returns the new tokens of each item, [K, new]."""
        kept = self.chunks[0].node.window
        first, stop = kept.known - kept.start, kept.stop - kept.start
        return [chunk.state.codes_BKT[0, :, first:stop].cpu().numpy().astype(np.int32) for chunk in self.chunks]

    def save_cache(self) -> Mapping[str, Any]:
        """Returns nothing: the state is all that a pass reads."""
        return {}

    def restore_cache(self, saved: Mapping[str, Any]) -> None:
        """Does nothing."""

    def _is_kept(self, chunk: Chunk) -> bool:
        """Returns whether nothing of a chunk is generated, so that its passes need no model; not in parity.

        There each pass moves the generator on, whose numbers later chunks use.
        """
        return not self.sampling.parity and not int(chunk.state.masked_B[0])

    def _groups(self, chunks: list[Chunk]) -> list[list[Chunk]]:
        """Returns the items that share a pass: those of one round, or in parity each alone."""
        if self.sampling.parity:
            return [[chunk] for chunk in chunks]
        rounds = sorted({chunk.node.causes["round"] for chunk in chunks})
        return [[chunk for chunk in chunks if chunk.node.causes["round"] == each] for each in rounds]

    def _advance(self, group: list[Chunk]) -> None:
        states = [chunk.state for chunk in group]
        joined = GridState(
            torch.cat([each.codes_BKT for each in states]),
            torch.cat([each.given_BCT for each in states]),
            torch.cat([each.masked_B for each in states]),
            states[0].done,
        )
        moved = advance(self.model, joined, self.passes, self._noise(group), parity=self.sampling.parity)
        for index, chunk in enumerate(group):
            item = slice(index, index + 1)
            chunk.state = GridState(moved.codes_BKT[item], moved.given_BCT[item], moved.masked_B[item], moved.done)

    def _noise(self, group: list[Chunk]) -> GridNoise:
        node = group[0].node
        if self.sampling.parity:
            return GeneratorGridNoise(group[0].generator)
        samples = [chunk.node.sample for chunk in group]
        return CounterGridNoise(self.sampling.seed, 2 - node.level, node.causes["round"], samples, node.window.start)


@dataclass(frozen=True, slots=True)
class GridModel:
    """One transformer of a model, on its device."""

    config: VampNetConfig
    model: MaskedModel

    def start(
        self,
        nodes: Sequence[Node],
        inputs: Mapping[str, NDArray[np.int32]],
        partial: Sequence[Any],
        sampling: VampSampling,
    ) -> ChunkState:
        """Returns the state of one chunk of a batch of variations, each resumed at its last stored pass."""
        level, window = nodes[0].level, nodes[0].window
        passes = sampling.coarse if level == COARSE_LEVEL else sampling.c2f
        codes_BKT = self._codes(nodes, inputs)
        chunks = []
        for item, (node, progress) in enumerate(zip(nodes, partial, strict=True)):
            mask_KT = self._mask(node, codes_BKT.shape[2])
            state = start(self.model.config, codes_BKT[item : item + 1], mask_KT[None], parity=sampling.parity)
            generator = generator_of(node, self.config, sampling) if sampling.parity else None
            chunk = Chunk(node, state, generator)
            if progress is not None and progress.state is not None:
                _from_bytes(chunk, progress.state)
            chunks.append(chunk)
        assert all(node.window == window for node in nodes), "a batch is of one window"
        return ChunkState(self.model, chunks, passes, sampling)

    def _codes(self, nodes: Sequence[Node], inputs: Mapping[str, NDArray[np.int32]]) -> Tensor:
        """Returns the codes [B, K, T] of a chunk: the source, above it the coarse codebooks, and what is known."""
        sizes, window = self.model.config, nodes[0].window
        source_BKT = torch.from_numpy(inputs["source"]).long()[:, : sizes.n_codebooks]
        factor = nodes[0].causes.get("stretch", 1)
        first, steps = window.start % factor, window.stop - window.start
        codes_BKT = source_BKT.repeat_interleave(factor, dim=2)[..., first : first + steps]
        if sizes.n_conditioning_codebooks:
            coarse_BKT = torch.from_numpy(inputs["coarse"]).long()
            codes_BKT = torch.cat([coarse_BKT, codes_BKT[:, coarse_BKT.shape[1] :]], 1)
        known = window.known - window.start
        if known:
            codes_BKT = torch.cat([torch.from_numpy(inputs["reads"]).long(), codes_BKT[..., known:]], 2)
        padding = self._length(nodes[0]) - codes_BKT.shape[2]
        padded_BKT: Tensor = torch.nn.functional.pad(codes_BKT, (0, padding))
        return padded_BKT.to(self.model.device)

    def _mask(self, node: Node, steps: int) -> Tensor:
        """Returns the mask [K, T]; steps beyond the end of the piece, in parity, are generated."""
        window, sizes = node.window, self.model.config
        mask_KT = np.ones((sizes.n_codebooks, steps), np.bool_)
        mask_KT[:, : window.stop - window.start] = unpacked(
            node.causes["mask"], sizes.n_codebooks, window.stop - window.start
        )
        mask_KT[: sizes.n_conditioning_codebooks] = False
        return torch.from_numpy(mask_KT).to(self.model.device)

    def _length(self, node: Node) -> int:
        """Returns the steps that the transformer sees: upstream pads those of the coarse-to-fine one."""
        before = node.causes.get("before")
        return before["chunks"][1] if before else node.window.stop - node.window.start


def _to_bytes(chunk: Chunk) -> bytes:
    state = chunk.state
    books, steps = state.codes_BKT.shape[1:]
    head = _HEAD.pack(_MARK, _VERSION, state.done, int(state.masked_B[0]), books, steps)
    generator = b"" if chunk.generator is None else chunk.generator.get_state().numpy().tobytes()
    return head + state.codes_BKT[0].cpu().numpy().astype("<i4").tobytes() + generator


def _from_bytes(chunk: Chunk, data: bytes) -> None:
    """Continues a chunk from its stored state; one of another version or shape is ignored, and its passes repeated."""
    if len(data) < _HEAD.size:
        return
    mark, version, done, masked, books, steps = _HEAD.unpack_from(data)
    state = chunk.state
    end = _HEAD.size + 4 * books * steps
    if (mark, version) != (_MARK, _VERSION) or (books, steps) != state.codes_BKT.shape[1:] or len(data) < end:
        return
    codes_KT = np.frombuffer(data, "<i4", books * steps, _HEAD.size).reshape(books, steps).astype(np.int64)
    if chunk.generator is not None:
        chunk.generator.set_state(torch.frombuffer(bytearray(data[end:]), dtype=torch.uint8))
    codes_BKT = torch.from_numpy(codes_KT)[None].to(state.codes_BKT.device)
    chunk.state = GridState(codes_BKT, state.given_BCT, torch.full_like(state.masked_B, masked), done)
