"""What `Model.generate` is asked for, and how its music is asked for again: longer, or with its lower levels."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from jukebox_core.audio.tags import song_tags
from jukebox_core.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from numpy.typing import NDArray

    from jukebox_core.api.model import Model
    from jukebox_core.api.music import Audio, Codes, Music
    from jukebox_core.audio.files import Tag
    from jukebox_core.models.presets import ModelSettings


@dataclass(frozen=True, kw_only=True, slots=True)
class Request:
    """A `RunRequest` of `Model.generate`."""

    config: Any
    sampling: Any
    seconds: float
    dtype: str
    songs: Sequence[Any]  # one a sample, completed
    asked: Sequence[Any]  # the same as the user gave them

    def song_of(self, sample: int) -> Any:
        """Returns the completed song of one sample."""
        return self.songs[sample]


def make_request(
    settings: ModelSettings,
    dtype: str,
    *,
    songs: Any,
    seconds: float,
    n_samples: int | None,
    seed: int | None,
    sampling: Any,
    whole_song: bool = False,
) -> Request:
    """Returns what is asked for, checked; with `whole_song`, a song without a length ends with the music.

    Raises:
        ConfigError: numbers of songs and samples differ, or a song does not fit the model.
    """
    family, config = settings.opened, settings.config
    kind = family.song_type
    asked = (songs if songs is not None else kind(),) if songs is None or isinstance(songs, kind) else tuple(songs)
    how = sampling or settings.usual_sampling
    count = n_samples if n_samples is not None else len(asked) if len(asked) != 1 else how.n_samples
    if len(asked) not in (1, count):
        raise ConfigError(f"there are {len(asked)} songs but n_samples is {count}; give one song, or one for each")
    how = replace(how, n_samples=count, seed=how.seed if seed is None else seed)
    asked = asked if len(asked) == count else asked * count
    usual = None if whole_song else settings.usual_seconds
    completed = {song: family.complete_song(config, song, seconds, usual) for song in dict.fromkeys(asked)}
    for song in completed.values():
        family.check_song(config, song, seconds)
    full = tuple(completed[song] for song in asked)
    return Request(config=config, sampling=how, seconds=seconds, dtype=dtype, songs=full, asked=asked)


@dataclass(frozen=True, slots=True)
class ModelMaker:
    """The `Maker` of a model's music."""

    model: Model
    settings: ModelSettings
    request: Request

    def decode(self, codes: Codes, level: int) -> Audio:
        """Returns the sound of one level's codes."""
        return self.model.decode(codes, level)

    def tags(self, sample: int, title: str) -> dict[Tag, str]:
        """Returns the tags of the sound of one sample of the request."""
        song = self.settings.opened.describe(self.request.song_of(sample))
        return song_tags(song, title=title, model=self.settings.name, licence=self.settings.files.licence)

    def again(self, music: Music, changes: Mapping[str, Any], *, keep_seconds: float | None, finer: bool) -> Music:
        """Returns music that starts with `music`; errors as of `Model.generate`."""
        request, config = self.request, self.request.config
        rows = music.samples or tuple(range(len(music)))
        start: dict[int, NDArray[Any]] = dict(music.codes)
        if keep_seconds is not None:
            start = _cut(start, config.hops, keep_seconds, config.sample_rate)
        sampling = replace(request.sampling, stop_level=0) if finer else request.sampling
        songs = [request.asked[row] for row in rows]
        same: dict[str, Any] = {
            "songs": songs[0] if len(set(songs)) == 1 else songs,
            "seconds": request.seconds,
            "n_samples": len(rows),
            "sampling": sampling,
            "start": start,
        }
        made: Music = self.model.generate(**{**same, **changes})
        return made


def _cut(codes: Mapping[int, Codes], hops: Sequence[int], seconds: float, rate: int) -> dict[int, Codes]:
    """Returns the codes of the first seconds, rounded down to whole tokens of the top level."""
    if not 0 < seconds < math.inf:
        raise ConfigError(f"keep_seconds is {seconds}; it must be above 0 and finite")
    top = max(codes)
    kept = int(seconds * rate) // hops[top] * hops[top]
    return {level: each[..., : kept // hops[level]] for level, each in codes.items()}
