"""Previews of a run in progress: ``audio/preview/sample_<k>.wav``, refreshed as windows are sealed.

Each moment of a preview has the audio of the lowest level that is sealed so far. Previews take a small share of the
time, and are removed once the final audio is decoded.
"""

from __future__ import annotations

import logging
import shutil
import time
from typing import TYPE_CHECKING

from jukebox_core.errors import AudioError, DamagedError, StoreError
from stages import stopping
from stages.sound.preview import Preview

if TYPE_CHECKING:
    from collections.abc import Collection, Sequence
    from pathlib import Path

    from jukebox_core.tokens.graph import Take
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
        self._run, self._takes, self._began, self._every = run, takes, began, every
        self._songs = [
            Preview(codec, store, preview_folder(run) / f"sample_{sample}.wav") for sample in range(len(takes))
        ]
        self._written = [[0] * len(take) for take in takes]  # tokens of each sample's levels in its preview
        self._first: dict[int, float] = {}  # by level: seconds until its first sound
        self._due = 0.0

    def refresh(self, unsealed: Collection[str]) -> None:
        """Writes the previews that have grown, if a refresh is due; `unsealed` are the keys of windows not sealed yet.

        Raises:
            DamagedError: a stored window is damaged; it was set aside.
        """
        if self._every is None or stopping.stop_requested():
            return
        began = time.monotonic()
        reach = [[track.reach(unsealed) for track in take] for take in self._takes]
        grown = [sample for sample, sealed in enumerate(reach) if sealed != self._written[sample]]
        first = any(lowest_level(reach[sample]) not in self._first for sample in grown)
        if not grown or not (first or began >= self._due):
            return
        try:
            for sample in grown:
                self._write(sample, reach[sample])
        except DamagedError:
            raise
        except (AudioError, StoreError, OSError) as error:  # a run must not fail because of a preview
            log.warning("no preview: %s", error)
        now = time.monotonic()
        self._due = now + max(self._every, (now - began) / SHARE)

    def _write(self, sample: int, sealed: list[int]) -> None:
        seconds, level = self._songs[sample].write(self._takes[sample], sealed), lowest_level(sealed)
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
