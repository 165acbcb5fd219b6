"""Previews of a run in progress: ``audio/preview/sample_<k>.wav``, refreshed as windows are sealed.

Each moment of a preview has the audio of the lowest level that is sealed so far, or, with `refresh_partial`, stored.
Previews take a small share of the time, and are removed once the final audio is decoded.
"""

from __future__ import annotations

import logging
import shutil
import time
from typing import TYPE_CHECKING

from jukebox_core.errors import AudioError, DamagedError, StoreError
from jukebox_core.runtime.oom import is_out_of_memory
from jukebox_core.store.spooled import open_store
from stages import stopping
from stages.sound.preview import Preview

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping, Sequence
    from pathlib import Path

    from jukebox_core.tokens.graph import Node, Take
    from pipelines.runs.folder import RunFolder
    from stages.resident import CodecSpec

log = logging.getLogger("jukebox")

SHARE = 0.05  # of the run's time that previews may take: the cost of one decides when the next is due


class Previews:
    """The previews of a run."""

    def __init__(
        self, codec: CodecSpec, store: str, every: float | None, run: RunFolder, takes: list[Take], began: float
    ) -> None:
        """Prepares the previews of a run.

        Args:
            codec: decodes them.
            store: URI of the token store.
            every: minimum seconds between two refreshes; None: no previews.
            run: the run's folder.
            takes: the final takes of the songs.
            began: the run's start, by `time.monotonic`.
        """
        self._hops, self._store, self._partial = codec.config.hops, store, True
        self._run, self._takes, self._began, self._every = run, takes, began, every
        self._songs = [
            Preview(codec, store, preview_folder(run) / f"sample_{sample}.wav") for sample in range(len(takes))
        ]
        self._written = [[0] * len(take) for take in takes]  # tokens of each sample's levels in its preview
        self._first: dict[int, float] = {}  # by level: seconds until its first sound
        self._due = 0.0

    def refresh(self, unsealed: Collection[str], partial: Mapping[str, int] | None = None) -> None:
        """Writes the previews that have grown, if a refresh is due.

        Args:
            unsealed: keys of the windows that are not sealed yet.
            partial: of some of these, the position up to which their tokens are stored.

        Raises:
            DamagedError: a stored window is damaged; it was set aside.
        """
        if self._every is None or stopping.stop_requested():
            return
        began = time.monotonic()
        partial = partial or {}
        reach = [self._reach(take, unsealed, partial) for take in self._takes]
        grown = [sample for sample, there in enumerate(reach) if any(there) and there != self._written[sample]]
        first = any(lowest_level(reach[sample]) not in self._first for sample in grown)
        if not grown or not (first or began >= self._due):
            return
        try:
            for sample in grown:
                self._write(sample, reach[sample], partial)
        except DamagedError:
            raise
        except (AudioError, StoreError, OSError) as error:  # a run must not fail because of a preview
            log.warning("no preview: %s", error)
        now = time.monotonic()
        self._due = now + max(self._every, (now - began) / SHARE)

    def refresh_partial(self, nodes: Sequence[Node], unsealed: Collection[str]) -> None:
        """Writes the previews of windows that are being sampled, as far as they are stored, if a refresh is due.

        It may be called in the middle of a window, where memory is scarce: without enough of it this is done no more.
        """
        known = nodes[0].level in self._first
        if self._every is None or not self._partial or (known and time.monotonic() < self._due):
            return
        store, partial = open_store(self._store), {}
        for node in nodes:
            stored = store.read_partial(node.key)
            if stored is not None and stored.state is None and stored.tokens.ndim == 1:  # a prefix of what it will be
                partial[node.key] = stored.first + len(stored.tokens)
        try:
            self.refresh(unsealed, partial)
        except (MemoryError, RuntimeError) as error:
            if not is_out_of_memory(error):
                raise
            self._partial = False
            log.warning("no preview of unfinished windows: there is not enough memory")

    def _reach(self, take: Take, unsealed: Collection[str], partial: Mapping[str, int]) -> list[int]:
        """Returns the tokens of each level that are there; of a lower level whole tokens of the level above."""
        reach = [track.reach(unsealed, partial) for track in take]
        if partial:
            hops = self._hops
            reach = [tokens - tokens % (hops[-1] // hops[level]) for level, tokens in enumerate(reach)]
        return reach

    def _write(self, sample: int, sealed: list[int], partial: Collection[str]) -> None:
        seconds, level = self._songs[sample].write(self._takes[sample], sealed, partial), lowest_level(sealed)
        self._written[sample] = sealed
        if level not in self._first:
            self._first[level] = round(time.monotonic() - self._began, 3)
            log.info(
                "preview  first %s sound after %.1f s: %.1f s of sample %d in %s",
                "final" if level == 0 else f"level {level}",
                self._first[level],
                seconds,
                sample,
                preview_folder(self._run),
            )
            self._run.update(first_sound_seconds={str(each): since for each, since in self._first.items()})


def lowest_level(sealed: Sequence[int]) -> int:
    """Returns the lowest level with tokens; `sealed` counts those of each level, bottom level first."""
    return next(level for level, tokens in enumerate(sealed) if tokens)


def preview_folder(run: RunFolder) -> Path:
    """Returns the folder of a run's previews."""
    return run.path / "audio" / "preview"


def drop_previews(run: RunFolder) -> None:
    """Removes a run's previews; idempotent."""
    shutil.rmtree(preview_folder(run), ignore_errors=True)
