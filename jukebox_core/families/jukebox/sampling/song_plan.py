"""The graph of windows that makes one song: planned with integers and hashes alone, before any model is loaded."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

from jukebox_core.base.hashing import digest
from jukebox_core.families.jukebox.conditioning.labels import window_row
from jukebox_core.families.jukebox.conditioning.lengths import window_hop
from jukebox_core.runtime.config import ENGINE_VERSION
from jukebox_core.tokens.graph import Node, Take, Track, make_node
from jukebox_core.tokens.plan import plan_windows

if TYPE_CHECKING:
    from collections.abc import Sequence

    from jukebox_core.families.jukebox.conditioning.labels import SongLabels
    from jukebox_core.families.jukebox.config import JukeboxConfig
    from jukebox_core.families.jukebox.sampling.config import SamplingConfig
    from jukebox_core.tokens.graph import Span
    from jukebox_core.tokens.plan import Window


@dataclass(frozen=True, kw_only=True, slots=True)
class SongSpec:
    """Everything that decides the tokens of one song."""

    config: JukeboxConfig
    weights: Sequence[str]  # digest of each prior's weights, bottom level first; "" of levels that are not sampled
    sampling: SamplingConfig
    dtype: str
    sample: int  # global index of the song in its run
    labels: Sequence[SongLabels]  # of each level, bottom first
    length: int  # audio samples, a multiple of the top level's hop


@dataclass(frozen=True, slots=True)
class SongPlan:
    """The windows to sample, top level first and in order within a level, and the take that they complete."""

    nodes: tuple[Node, ...]
    take: Take

    def level(self, level: int) -> tuple[Node, ...]:
        """Returns the nodes of one level, in order."""
        return tuple(node for node in self.nodes if node.level == level)


def plan_song(spec: SongSpec, have: Take | None = None) -> SongPlan:
    """Returns the graph that brings a song from `have` (a prompt, an earlier take, or nothing) to its full length.

    Levels run from the top down to ``sampling.stop_level``. Tracks that are already longer than the song keep their
    length.
    """
    config = spec.config
    tracks = list(have or (Track(),) * config.vqvae.levels)
    nodes: list[Node] = []
    for level in range(config.top, spec.sampling.stop_level - 1, -1):
        prior, sampling = config.priors[level], spec.sampling.level(level)
        hop = window_hop(config, level, sampling.hop_fraction)
        total = spec.length // config.vqvae.hops[level]
        causes = _level_causes(spec, level)
        for window in plan_windows(total, prior.context, hop, have=len(tracks[level])):
            node = _window_node(spec, level, window, tracks, causes)
            nodes.append(node)
            tracks[level] = tracks[level].extend(node.key, window.stop)
    return SongPlan(tuple(nodes), tuple(tracks))


def _level_causes(spec: SongSpec, level: int) -> dict[str, Any]:
    """Returns the causes that all windows of a level share."""
    sampling = spec.sampling.level(level)
    return {
        "family": "jukebox",
        "prior": digest(asdict(spec.config.priors[level])),
        "weights": spec.weights[level],
        "sampling": {"temperature": sampling.temperature, "top_k": sampling.top_k, "top_p": sampling.top_p},
        "seed": spec.sampling.seed,
        "numerics": {"dtype": spec.dtype, "engine": ENGINE_VERSION},
    }


def _window_node(spec: SongSpec, level: int, window: Window, tracks: Sequence[Track], causes: dict[str, Any]) -> Node:
    config = spec.config
    above: tuple[Span, ...] = ()
    if level < config.top:
        factor = config.upsampling_factor(level)
        above = tracks[level + 1].slice(window.start // factor, window.stop // factor)
    labels = window_row(
        spec.labels[level],
        config.priors[level],
        sample_length=config.context_length(level),
        start=window.start,
    )
    return make_node(
        level=level,
        sample=spec.sample,
        window=window,
        inputs={"reads": tracks[level].slice(window.start, window.known), "above": above},
        labels=labels.row,
        **causes,
    )
