"""One call of `Model.generate`: windows are sampled into a token store, and what is there can be read at any time."""

from __future__ import annotations

import math
import uuid
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from jukebox_core.base.hashing import digest, digest_bytes
from jukebox_core.errors import ConfigError
from jukebox_core.sampling.schedule import Schedule, plan_units
from jukebox_core.sampling.windows import FlushPolicy, Unobserved, sample_nodes
from jukebox_core.store.store import TokenStore
from jukebox_core.tokens.graph import Track

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

    from numpy.typing import ArrayLike, NDArray

    from jukebox_core.family import Family
    from jukebox_core.protocols import SongPlan, TokenModel
    from jukebox_core.tokens.graph import Take

    Codes = NDArray[np.int64]

_IN_MEMORY = "memory://"


class Progress(NamedTuple):
    """How far sampling is, as `on_progress` receives it after every step."""

    level: int  # that is sampled
    tokens: int  # sampled at that level, all samples together
    total: int  # to be sampled at that level


@dataclass(frozen=True, kw_only=True)
class Generation:
    """The plans of the songs and the store that receives their windows."""

    family: Family
    config: Any
    sampling: Any
    plans: Sequence[SongPlan]
    store: TokenStore
    batch: int  # songs sampled at once
    open_network: Callable[[str], TokenModel]  # by role

    def windows(self, on_progress: Callable[[Progress], None] | None = None) -> Iterator[int]:
        """Samples every window that is not stored, level by level; yields the level after each batch of windows."""
        nodes = {node.key: node for plan in self.plans for node in plan.nodes}
        missing = self.store.missing(set(nodes))
        observer = _Reporting(on_progress, [node for key, node in nodes.items() if key in missing])
        kept = FlushPolicy() if self.is_kept else FlushPolicy(tokens=2**62, seconds=math.inf)
        schedule = Schedule(plan_units(self.plans, self.batch), missing, "by_level")
        while (unit := schedule.take()) is not None:
            role = self.family.role_of(unit.level)
            sample_nodes(
                lambda role=role: self.open_network(role),  # type: ignore[misc]
                unit.nodes,
                self.store,
                self.sampling,
                kept,
                observer,
                work=f"{self.config.name}, level {unit.level}",
            )
            schedule.finish(unit)
            yield unit.level

    @property
    def is_kept(self) -> bool:
        """Whether the tokens outlast this process."""
        return is_kept(self.store)

    def codes(self) -> dict[int, Codes]:
        """Returns the codes so far by level, int64 [samples, ..., tokens]: those of every sample; no empty ones."""
        found = {}
        for level in range(self.sampling.stop_level, self.config.top + 1):
            tracks = [self._read(plan.take[level]) for plan in self.plans]
            length = min(track.shape[-1] for track in tracks)
            if length:
                found[level] = np.stack([track[..., :length] for track in tracks]).astype(np.int64)
        return found

    def _read(self, track: Track) -> NDArray[Any]:
        """Returns the tokens of a track up to the first window that is neither sealed nor begun."""
        pieces: list[NDArray[Any]] = []
        for span in track:
            stored = self.store.find(span.key)
            partial = self.store.read_partial(span.key) if stored is None else None
            tokens = stored.tokens if stored is not None else None if partial is None else partial.tokens
            if tokens is None or not tokens.size:
                break
            first = (stored or partial).first  # type: ignore[union-attr]
            pieces.append(np.clip(tokens[..., max(0, span.start - first) : span.stop - first], 0, self.config.bins - 1))
            if stored is None:
                break
        return np.concatenate(pieces, axis=-1) if pieces else np.empty(0, np.int32)

    def close(self) -> None:
        """Frees the tokens, unless they are kept."""
        free(self.store)


class _Reporting(Unobserved):
    """An observer that reports how far sampling is."""

    def __init__(self, report: Callable[[Progress], None] | None, nodes: Sequence[Any]) -> None:
        self._report, self._done = report, dict.fromkeys({node.level for node in nodes}, 0)
        self._total = dict.fromkeys(self._done, 0)
        for node in nodes:
            self._total[node.level] += node.window.new

    def drew(self, level: int, tokens: int) -> None:
        """Counts the tokens of a step."""
        if self._report is not None:
            self._done[level] += tokens
            self._report(Progress(level, self._done[level], max(self._total[level], self._done[level])))


def is_kept(store: TokenStore) -> bool:
    """Whether the tokens in a store outlast this process."""
    return not store.uri.startswith(_IN_MEMORY)


def free(store: TokenStore) -> None:
    """Removes everything from a store in memory."""
    if not is_kept(store):
        store.remove(*store.keys(), *store.partials())


def open_store(uri: str | None) -> TokenStore:
    """Returns the token store at `uri`; None: one in memory, of this call alone."""
    return TokenStore(uri or f"{_IN_MEMORY}jukebox-{uuid.uuid4().hex}")


def seal_start(store: TokenStore, config: Any, start: Mapping[int, ArrayLike], length: int, samples: int) -> list[Take]:
    """Seals the codes that each song starts with; returns their takes, with empty tracks for the other levels.

    Args:
        store: receives them.
        config: the model.
        start: by level, int [samples, tokens] or [tokens].
        length: of the music, in audio samples.
        samples: songs.

    Raises:
        ConfigError: the codes do not fit the model or the music.
    """
    hops = config.hops
    for level in start:
        if level not in range(len(hops)):
            raise ConfigError(f"start has level {level}; its levels are {', '.join(map(str, range(len(hops))))}")
    tracks = [[Track()] * len(hops) for _ in range(samples)]
    for level, given in start.items():
        for sample, codes in enumerate(_checked_start(config, given, level, length, samples)):
            if len(codes):
                causes = {"start": digest_bytes(codes.tobytes()), "level": level}
                store.seal(digest(causes), codes, first=0, causes=causes)
                tracks[sample][level] = Track().extend(digest(causes), len(codes))
    return [tuple(each) for each in tracks]


def _checked_start(config: Any, given: ArrayLike, level: int, length: int, samples: int) -> NDArray[np.int32]:
    codes, bins = np.atleast_2d(integers(given, f"start[{level}]")), config.bins
    most = length // config.hops[level]
    if codes.ndim != 2 or codes.shape[0] not in (1, samples):
        raise ConfigError(
            f"start[{level}] has shape {codes.shape}; give [{samples}, tokens], or [tokens] for all samples"
        )
    if codes.shape[1] > most:
        raise ConfigError(f"start[{level}] has {codes.shape[1]} tokens but the music only {most}; make more seconds")
    if codes.size and not 0 <= codes.min() <= codes.max() < bins:
        raise ConfigError(f"start[{level}] holds {codes.min()} to {codes.max()}; codes are from 0 to {bins - 1}")
    return np.broadcast_to(codes, (samples, codes.shape[1])).astype(np.int32)


def integers(values: ArrayLike, name: str) -> Codes:
    """Returns whole numbers as int64; ConfigError if they are others."""
    found = np.asarray(values)
    if found.size and not np.issubdtype(found.dtype, np.integer):
        raise ConfigError(f"{name} holds {found.dtype} values; codes are integers")
    return found.astype(np.int64)
