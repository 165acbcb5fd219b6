"""A model, and songs composed from a seed that no training set uses, with their codes and labels."""

from __future__ import annotations

from copy import copy
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

from jukebox_core import Jukebox, load_model
from jukebox_core.composer.album import plan_album, render_score
from jukebox_core.composer.config import AlbumConfig
from jukebox_core.families.jukebox.conditioning.labels import label_song, window_row
from jukebox_core.families.jukebox.conditioning.vocabulary import load_vocabularies
from jukebox_core.models.config import WeightsConfig
from jukebox_core.models.presets import load_preset
from jukebox_core.models.resolve import obtain_vocabularies, obtain_weights
from jukebox_core.runtime.config import HardwareConfig

if TYPE_CHECKING:
    from collections.abc import Sequence

    import numpy as np
    from numpy.typing import NDArray

    from jukebox_core.composer.score import Score
    from jukebox_core.families.jukebox.conditioning.vocabulary import Vocabulary, VocabularyKind

HELD_OUT_SEED = 271_828  # of an album that no training set uses
WEIGHTS = WeightsConfig()
SONG_SECONDS = 24.0  # as in mini's training set
DRAWN = 3  # songs with pictures


@dataclass(frozen=True)
class HeldOut:
    """Held-out songs: scores, and audio at the model's rate, float32 [time]."""

    scores: Sequence[Score]
    audio: Sequence[NDArray[np.float32]]

    @classmethod
    def compose(cls, songs: int, rate: int) -> HeldOut:
        """Returns an album of songs of the length of mini's training set."""
        album = AlbumConfig(songs=songs, seconds=SONG_SECONDS, seed=HELD_OUT_SEED, sample_rate=rate)
        scores = [track.compose() for track in plan_album(album)]
        return cls(scores, [render_score(score, album)[:, 0] for score in scores])


class Subject:
    """A model, and the held-out songs with their codes."""

    def __init__(self, model: str, songs: int, threads: int) -> None:
        """Composes the songs; weights are loaded lazily."""
        self.model, self.threads = model, threads
        self.settings = load_preset(model)
        self.jukebox: Jukebox = load_model(model, hardware=HardwareConfig(device="cpu", threads=threads))
        self.config = self.settings.config
        self.held_out = HeldOut.compose(songs, self.config.vqvae.sample_rate)

    def first(self, songs: int) -> Subject:
        """Returns the same model with the first `songs` of the held-out songs."""
        found = copy(self)
        found.__dict__.pop("top_codes", None)  # of all songs
        found.held_out = HeldOut(self.held_out.scores[:songs], self.held_out.audio[:songs])
        return found

    @property
    def digests(self) -> dict[str, str]:
        """The first digits of every weight file's sha256, by role."""
        files = obtain_weights(self.settings, WEIGHTS)
        return {role: file.sha256[:16] for role, file in files.items()}

    @cached_property
    def vocabularies(self) -> dict[VocabularyKind, Vocabulary]:
        """The model's names, by kind."""
        files = obtain_vocabularies(self.settings.files, WEIGHTS)
        return load_vocabularies({role: file.path for role, file in files.items()})

    @cached_property
    def top_codes(self) -> list[NDArray[np.int64]]:
        """The top level's codes of every song."""
        return self.codes(self.config.top)

    def codes(self, level: int) -> list[NDArray[np.int64]]:
        """Returns a level's codes of every song."""
        return [self.jukebox.encode(audio, [level])[level] for audio in self.held_out.audio]


def window_starts(subject: Subject, tokens: int, level: int | None = None) -> range:
    """Returns the starts of whole windows, without overlap, of a level, by default the top."""
    context = subject.config.priors[subject.config.top if level is None else level].context
    return range(0, tokens - context + 1, context)


def label_row(subject: Subject, number: int, start: int, level: int | None = None, **changed: str) -> tuple[int, ...]:
    """Returns the label row of a window of a held-out song, by default of the top level, with some labels changed."""
    top = subject.config.top
    level = top if level is None else level
    config, score = subject.config.priors[level], subject.held_out.scores[number]
    total = len(subject.top_codes[number]) * subject.config.vqvae.hops[top]
    labels = label_song(
        subject.vocabularies,
        artist=changed.get("artist", score.artist),
        genre=changed.get("genre", score.genre),
        lyrics=changed.get("lyrics", score.lyrics),
        total_length=total,
        offset=0,
        config=config,
    )
    return window_row(labels, config, sample_length=subject.config.context_length(level), start=start).row
