"""Lengths: from seconds of the settings to whole tokens and audio samples. Imports no torch.

Messages begin with the name of the argument concerned, so that a caller can prefix a dotted key.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, NamedTuple

from jukebox_core.errors import ConfigError
from jukebox_core.tokens.plan import whole_tokens

if TYPE_CHECKING:
    from jukebox_core.families.jukebox.config import JukeboxConfig

_ENDLESS = 1e12  # seconds; what is longer, up to the largest float, is out of every range in the same way
_ROUNDING = 1e-6  # of a sample or token: rounding error of a decimal number of seconds


class SongTimes(NamedTuple):
    """Position of the music in its song, the timing labels of a top prior; in audio samples."""

    total_length: int  # of the whole song
    offset: int  # where in it the music begins


def whole_samples(config: JukeboxConfig, seconds: float) -> int:
    """Returns how many audio samples fit into `seconds`."""
    return math.floor(min(seconds, _ENDLESS) * config.vqvae.sample_rate + _ROUNDING)


def top_level_samples(config: JukeboxConfig, seconds: float) -> int:
    """Returns the audio samples of the whole top-level tokens in `seconds`, where all levels end together."""
    return whole_tokens(seconds, config.sample_rate, config.hops[-1]) * config.hops[-1]


def window_hop(config: JukeboxConfig, level: int, hop_fraction: float) -> int:
    """Returns how many tokens of `level` a window starts after the one before (docs/upstream.md, Windows).

    At least one, and whole tokens of the upper level, because the window is conditioned on those.
    """
    step = 1 if level == config.top else config.upsampling_factor(level)
    return max(1, int(hop_fraction * config.priors[level].context) // step) * step


def music_length(config: JukeboxConfig, seconds: float, *, stop_level: int) -> int:
    """Returns the length of `seconds` of music in audio samples, rounded down to whole top-level tokens.

    Args:
        config: the model.
        seconds: the requested length.
        stop_level: the last level that is sampled.

    Raises:
        ConfigError: `seconds` is not positive and finite, or below a top-level token or an upsampler's full context.
    """
    if not 0 < seconds < math.inf:
        raise ConfigError(f"seconds is {seconds}; it must be above 0 and finite")
    length, token = top_level_samples(config, seconds), config.seconds(config.top, 1)
    if not length:
        raise ConfigError(f"seconds is {seconds}, shorter than one top-level token ({token:.4f} s); ask for more")
    for level in reversed(range(stop_level, config.top)):  # upper levels need the longest music
        context = config.priors[level].context
        if length < config.context_length(level):
            least = math.ceil(config.seconds(level, context) / token - _ROUNDING) * token
            raise ConfigError(
                f"seconds is {seconds}, but the upsampler of level {level} needs a full context of {context} tokens; "
                f"set seconds={math.ceil(least * 100) / 100:g} or more, "
                f"or stop above it with sampling.stop_level={level + 1}"
            )
    return length


def song_seconds(
    config: JukeboxConfig, *, seconds: float, offset_seconds: float, usual_seconds: float | None
) -> float | None:
    """Returns the length of the whole song that conditions the model where the song has none, in seconds.

    It is `usual_seconds`, moved into the range of the model, or the end of the music if that is later. A model that is
    conditioned on a song as short as an excerpt makes what no song of its training was: often one held tone.

    Args:
        config: the model.
        seconds: length of the music.
        offset_seconds: where in the song the music begins.
        usual_seconds: length of a usual song of the model; None: the music ends the song.

    Returns:
        None if lengths are invalid, or the music ends after the longest song: `song_times` raises the error.
    """
    if not (0 < seconds < math.inf and 0 <= offset_seconds < math.inf):
        return None
    rate, shortest, longest = config.sample_rate, *_song_range(config)
    end = whole_samples(config, offset_seconds) + top_level_samples(config, seconds)
    top = config.priors[config.top]
    if top.timing is None and top.lyrics is None:
        usual_seconds = None  # no length conditions the model
    usual = shortest if usual_seconds is None else whole_samples(config, usual_seconds)
    total = max(end, min(max(usual, shortest), longest))
    return total / rate if total <= longest else None


def song_times(
    config: JukeboxConfig, *, seconds: float, total_seconds: float | None, offset_seconds: float
) -> SongTimes:
    """Returns the position of the music in its song (docs/upstream.md, Conditioning).

    Args:
        config: the model.
        seconds: length of the music.
        total_seconds: length of the whole song; None: to the end of the music, or the model's minimum if longer.
        offset_seconds: where in the song the music begins.

    Raises:
        ConfigError: a negative length, a song that ends before the music, or one outside the range of the model.
    """
    if not 0 <= offset_seconds < math.inf:
        raise ConfigError(f"offset_seconds is {offset_seconds}; it cannot be negative or infinite")
    if total_seconds is not None and not 0 < total_seconds < math.inf:
        raise ConfigError(f"total_seconds is {total_seconds}; it must be above 0 and finite")
    rate, timing = config.vqvae.sample_rate, config.priors[config.top].timing
    offset, (shortest, longest) = whole_samples(config, offset_seconds), _song_range(config)
    end = offset + top_level_samples(config, seconds)
    total = max(end, shortest) if total_seconds is None else whole_samples(config, total_seconds)
    if end > total:
        raise ConfigError(
            f"total_seconds is {total_seconds}, but the music ends at {end / rate:g} s "
            f"(offset_seconds={offset_seconds} + seconds={seconds}); set it to at least that, or to null"
        )
    if timing is not None and not shortest <= total <= longest:
        raise ConfigError(
            (f"offset_seconds + seconds is {offset_seconds + seconds:g}" if total_seconds is None else "")
            + (f"total_seconds is {total_seconds:g}" if total_seconds is not None else "")
            + f", but {config.name} knows songs from {timing.min_seconds:g} s to just under {timing.max_seconds:g} s; "
            + ("make seconds smaller" if total_seconds is None else "set it within that, or to null")
        )
    return SongTimes(total, offset)


def _song_range(config: JukeboxConfig) -> tuple[int, float]:
    """Returns the shortest and the longest song that the top prior was trained on, in audio samples."""
    timing, rate = config.priors[config.top].timing, config.sample_rate
    if timing is None:
        return 1, math.inf
    return math.ceil(timing.min_seconds * rate - _ROUNDING), math.ceil(timing.max_seconds * rate) - 1
