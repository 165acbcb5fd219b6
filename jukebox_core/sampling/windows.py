"""The recipe by which nodes are sampled into any store, shared by flows, the Python API and remote workers.

1) Read the inputs of the nodes, and the partial windows of an interrupted attempt.
2) Start the window; restore the cache where a snapshot fits.
3) Step until the window is full; store the progress every so often, and the cache on the local disk.
4) Seal every song's output under its own key.
"""

from __future__ import annotations

import logging
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np

from jukebox_core.runtime.oom import BatchSizes
from jukebox_core.sampling.snapshots import Snapshots
from jukebox_core.store.spans import read_spans

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from numpy.typing import NDArray

    from jukebox_core.protocols import TokenModel, WindowState
    from jukebox_core.store.store import TokenStore
    from jukebox_core.tokens.graph import Node

log = logging.getLogger("jukebox")

_batch_sizes = BatchSizes()


@dataclass(frozen=True, kw_only=True, slots=True)
class FlushPolicy:
    """How often the progress of an unfinished window is stored, and where its cache is kept."""

    tokens: int = 512  # of each song that a kill may lose at most; a step of the model is the least ...
    seconds: float = 10.0  # ... and store after so many seconds, whichever comes first
    scratch: str | None = None  # local folder for snapshots of caches; None keeps none
    snapshot_share: float = 0.005  # of the sampling time that writing snapshots may take


class Observer(Protocol):
    """Callbacks while windows are sampled."""

    def check_stop(self) -> None:
        """Raises if sampling is to stop; called after every step."""
        ...

    def check_lock(self) -> None:
        """Raises if the run's lock was lost to another process; called before every write."""
        ...

    def started(self, level: int) -> None:
        """Called before the first step of a window of `level`."""
        ...

    def drew(self, level: int, tokens: int) -> None:
        """Called after a step that drew `tokens` tokens over the whole batch."""
        ...

    def stored(self, nodes: Sequence[Node]) -> None:
        """Called when the progress of the unfinished window of these nodes was stored, and it goes on."""
        ...

    def sealed(self, nodes: Sequence[Node], seconds: float) -> None:
        """Called when the window of these nodes is sealed, `seconds` after its start."""
        ...


class Unobserved:
    """An observer that does nothing."""

    def check_stop(self) -> None:
        """Never stops."""

    def check_lock(self) -> None:
        """Holds no lock."""

    def started(self, level: int) -> None:
        """Does nothing."""

    def drew(self, level: int, tokens: int) -> None:
        """Does nothing."""

    def stored(self, nodes: Sequence[Node]) -> None:
        """Does nothing."""

    def sealed(self, nodes: Sequence[Node], seconds: float) -> None:
        """Does nothing."""


def sample_nodes(
    open_model: Callable[[], TokenModel],
    nodes: Sequence[Node],
    store: TokenStore,
    sampling: Any,
    policy: FlushPolicy,
    observer: Observer,
    *,
    work: str,
) -> None:
    """Samples one window of a batch of songs, and seals each song's output under its own key.

    Songs whose window is sealed already are skipped. Where memory runs out, half as many songs continue from the
    progress that is stored by then.

    Args:
        open_model: returns the model; called again after memory ran out.
        nodes: one a song, all of one level and window.
        store: the token store that is read and written.
        sampling: the run's `SamplingSettings`.
        policy: how often progress is stored.
        observer: its methods are called while sampling.
        work: names the work in messages about memory; later calls of the same name start at a batch size that fitted.

    Raises:
        DeviceError: memory runs out with a single song.
        DamagedError: a stored window that is read is damaged; it was set aside.
    """
    unsealed = [node for node in nodes if not store.sealed(node.key)]
    if unsealed:
        _batch_sizes.run_with_oom_retry(
            work, unsealed, lambda batch: _sample_batch(open_model(), batch, store, sampling, policy, observer)
        )


def _sample_batch(
    model: TokenModel, nodes: Sequence[Node], store: TokenStore, sampling: Any, policy: FlushPolicy, observer: Observer
) -> None:
    began, level = time.monotonic(), nodes[0].level
    inputs = {name: _stacked(store, nodes, name) for name in nodes[0].inputs}
    state = model.start(nodes, inputs, [store.read_partial(node.key) for node in nodes], sampling)
    writer = _WindowWriter(nodes, store, state, policy, observer)
    writer.resume()
    observer.started(level)
    try:
        while (drawn := state.step()) is not None:
            writer.drew(drawn)
            observer.drew(level, drawn * len(nodes))
            observer.check_stop()
    except BaseException:
        writer.flush()
        raise
    writer.seal()
    observer.sealed(nodes, time.monotonic() - began)


class _WindowWriter:
    """Writes one window while it is sampled: its progress to the store, and its cache to the local disk."""

    def __init__(
        self, nodes: Sequence[Node], store: TokenStore, state: WindowState, policy: FlushPolicy, observer: Observer
    ) -> None:
        self._nodes, self._store, self._state = nodes, store, state
        self._policy, self._observer = policy, observer
        self._unsaved, self._steps, self._flushed = 0, 0, time.monotonic()
        self._snapshots = Snapshots(policy.scratch, nodes, policy.snapshot_share)

    def resume(self) -> None:
        """Restores the cache of an interrupted attempt, if a snapshot fits the progress that every song has."""
        progress = self._state.save()
        tokens, state = progress[0].tokens, progress[0].state
        if state is None and (tokens is None or not tokens.size):
            return
        saved = self._snapshots.read(progress)
        if saved is not None:
            self._state.restore_cache(saved)
        drawn = "a saved state" if tokens is None else f"{tokens.shape[-1]} tokens"
        log.info("level %d: resumed at %s of an interrupted window", self._nodes[0].level, drawn)

    def drew(self, tokens: int) -> None:
        """Counts the tokens of a step, and stores the progress if that is due."""
        self._steps += 1
        tokens = max(tokens, 1)  # a pass over a grid may finish none, and is work to be kept all the same
        self._unsaved += tokens
        next_step = self._unsaved + tokens  # a kill during it must not cost more than the policy says
        if next_step > self._policy.tokens or time.monotonic() - self._flushed >= self._policy.seconds:
            self.flush()
            self._observer.stored(self._nodes)
            if self._snapshots.due(self._policy.seconds):
                self._snapshots.write(self._state.save_cache(), self._state.save())

    def flush(self) -> None:
        """Stores the progress of every song, unless it is stored already."""
        self._observer.check_lock()
        if self._steps:
            with self._store.parallel_writes():
                for node, progress in zip(self._nodes, self._state.save(), strict=True):
                    self._store.write_partial(
                        node.key, progress.tokens, first=node.window.known, causes=node.causes, state=progress.state
                    )
        self._unsaved, self._steps, self._flushed = 0, 0, time.monotonic()

    def seal(self) -> None:
        """Seals the finished window, every song's output under its own key."""
        self._observer.check_lock()
        if len(self._nodes) > 1:
            self.flush()  # a kill between two seals must not leave a song to be finished in a smaller batch
        with self._store.parallel_writes():
            for node, output in zip(self._nodes, self._state.results(), strict=True):
                self._store.seal(node.key, output, first=node.window.known, causes=node.causes)
        self._snapshots.remove()


def _stacked(store: TokenStore, nodes: Sequence[Node], name: str) -> NDArray[np.int32]:
    """Returns the tokens that one input of each node covers, [batch, ..., tokens]."""
    return np.stack([read_spans(store, node.inputs[name]) for node in nodes])
