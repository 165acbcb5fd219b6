"""A variation as a graph of chunks: planned with integers, masks and hashes, before any model is loaded. No torch.

Each round of the coarse transformer, and then the coarse-to-fine one, are chunks in time. A chunk reads what it varies,
the last tokens of the chunk before it (`VampSampling.overlap`), and its part of the mask, which is among its causes.
Legend: K codebooks, T time.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from jukebox_core.base.checks import require
from jukebox_core.base.hashing import digest
from jukebox_core.families.vampnet.config import C2F, COARSE, COARSE_LEVEL, CODEC, FINE_LEVEL, ROLE_OF
from jukebox_core.tokens.graph import Node, Span, Take, Track, make_node
from jukebox_core.tokens.plan import Window, plan_windows

if TYPE_CHECKING:
    from collections.abc import Mapping

    from numpy.typing import NDArray

    from jukebox_core.families.vampnet.config import VampNetConfig
    from jukebox_core.families.vampnet.sampling.config import VampSampling

ALGORITHM = 1  # part of every key; raised by a change that alters sampled tokens


@dataclass(frozen=True, slots=True)
class Variation:
    """Everything that decides the tokens of one variation of one piece."""

    config: VampNetConfig
    weights: Mapping[str, str]  # digest of each file by role
    sampling: VampSampling
    dtype: str
    sample: int  # index of the variation
    source: Track  # stored codes of the piece, a grid of all codebooks
    mask_KT: NDArray[np.bool_]  # tokens that are generated; with `stretch`, of the music that is slowed down
    stretch: int = 1  # each step of the source is repeated so often

    @property
    def steps(self) -> int:
        """The length of the variation."""
        return len(self.source) * self.stretch


@dataclass(frozen=True, slots=True)
class VariationPlan:
    """The chunks to sample, in order, and the take that they complete: all codebooks, and the coarse ones.

    The first track is empty if the coarse codebooks alone are made (`VampSampling.stop_level`).
    """

    nodes: tuple[Node, ...]
    take: Take

    def level(self, level: int) -> tuple[Node, ...]:
        """Returns the nodes of one level, in order."""
        return tuple(node for node in self.nodes if node.level == level)


def plan_variation(variation: Variation) -> VariationPlan:
    """Returns the graph of a variation.

    Raises:
        ConfigError: the mask is not of the shape of the codes.
    """
    network, sampling = variation.config.network, variation.sampling
    check_mask(variation.mask_KT, network.codec.n_codebooks, variation.steps)
    nodes: list[Node] = []
    track, mask_KT, read = variation.source, variation.mask_KT, variation.stretch
    for index in range(sampling.feedback):
        coarse_KT = mask_KT[: network.coarse.n_codebooks]
        track = _chunks(variation, COARSE_LEVEL, index, {"source": (track, read)}, coarse_KT, nodes)
        read = 1
        if not sampling.parity:
            mask_KT = np.roll(mask_KT, (index + 1) % sampling.feedback, axis=1)
    if network.c2f is None or sampling.stop_level == COARSE_LEVEL:
        return VariationPlan(tuple(nodes), (Track(), track))
    fine_KT = mask_KT[: network.c2f.n_codebooks].copy()
    fine_KT[: network.c2f.n_conditioning_codebooks] = False
    inputs = {"source": (variation.source, variation.stretch), "coarse": (track, 1)}
    fine = _chunks(variation, FINE_LEVEL, 0, inputs, fine_KT, nodes)
    return VariationPlan(tuple(nodes), (fine, track))


def check_mask(mask_KT: NDArray[np.bool_], books: int, steps: int) -> None:
    """Checks that a mask has the shape of the codes.

    Raises:
        ConfigError: it has other codebooks, or is longer or shorter.
    """
    require(
        mask_KT.shape == (books, steps),
        f"the mask has {' x '.join(map(str, mask_KT.shape))} places, but the codes {books} codebooks x {steps} steps; "
        "make it of the same shape",
    )


def packed(mask_KT: NDArray[np.bool_]) -> str:
    """Returns a mask as text, as it is among the causes of a node."""
    return np.packbits(mask_KT).tobytes().hex()


def unpacked(text: str, books: int, steps: int) -> NDArray[np.bool_]:
    """Returns the mask [K, T] of `packed` text."""
    bits = np.unpackbits(np.frombuffer(bytes.fromhex(text), np.uint8), count=books * steps)
    return bits.reshape(books, steps).astype(np.bool_)


def _chunks(
    variation: Variation,
    level: int,
    feedback_round: int,
    read: Mapping[str, tuple[Track, int]],
    mask_KT: NDArray[np.bool_],
    nodes: list[Node],
) -> Track:
    """Adds the nodes of one transformer over the whole piece; returns the track that they make.

    `read` has the tracks that a chunk reads, each with the number of times that its steps are repeated.
    """
    causes = _causes(variation, level, feedback_round)
    made = Track()
    for window in _windows(variation, level):
        chunk_KT = mask_KT[:, window.start : window.stop].copy()
        chunk_KT[:, : window.known - window.start] = False
        if variation.sampling.parity and level == COARSE_LEVEL and not chunk_KT.all():
            chunk_KT[:, [0, -1]] = False
        inputs = {name: _repeated(track, window, factor) for name, (track, factor) in read.items()}
        node = make_node(
            level=level,
            sample=variation.sample,
            window=window,
            inputs={**inputs, "reads": made.slice(window.start, window.known)},
            output="grid",
            mask=packed(chunk_KT),
            **({"stretch": read["source"][1]} if read["source"][1] > 1 else {}),
            **causes,
        )
        nodes.append(node)
        made = made.extend(node.key, window.stop)
    return made


def _repeated(track: Track, window: Window, factor: int) -> tuple[Span, ...]:
    """Returns the spans that hold the steps of a window, where each step of the track is repeated `factor` times."""
    return track.slice(window.start // factor, -(-window.stop // factor))


def _windows(variation: Variation, level: int) -> list[Window]:
    """Returns the chunks of a level; in parity they do not overlap, and the last one may be short."""
    chunk, total = variation.config.network.chunk(ROLE_OF[level]), variation.steps
    if variation.sampling.parity:
        return [Window(at, at, min(at + chunk, total)) for at in range(0, total, chunk)]
    return plan_windows(total, chunk, chunk - int(chunk * variation.sampling.overlap))


def _causes(variation: Variation, level: int, feedback_round: int) -> dict[str, Any]:
    """Returns the causes that all chunks of a level and round share."""
    config, sampling, role = variation.config, variation.sampling, ROLE_OF[level]
    causes: dict[str, Any] = {
        "family": "vampnet",
        "network": digest(asdict(config.sizes(role))),
        "weights": [variation.weights[role], variation.weights[CODEC]],
        "passes": asdict(sampling.coarse if role == COARSE else sampling.c2f),
        "round": feedback_round,
        "parity": sampling.parity,
        "seed": sampling.seed,
        "numerics": {"dtype": variation.dtype, "algorithm": ALGORITHM},
    }
    if sampling.parity and role == C2F:  # its noise goes on where the generator stopped before (docs/vamp.md)
        chunks = [config.network.chunk(COARSE), config.network.chunk(C2F)]
        causes["before"] = {"chunks": chunks, "total": variation.steps, "passes": asdict(sampling.coarse)}
    return causes
