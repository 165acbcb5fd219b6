"""From a recording to clips and windows, as a recipe has them: integers and numpy alone. Imports no torch."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from jukebox_core.errors import AudioError
from jukebox_core.features.plan import ROUNDING, fixed_total
from jukebox_core.tokens.plan import window_starts

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from jukebox_core.features.config import FeatureConfig, FeatureSizes

    Audio = NDArray[np.float32]


class FeatureWindow(NamedTuple):
    """One forward pass: codes [start, stop) of a clip, of whose rows those of codes [first, last) are kept."""

    start: int
    stop: int
    first: int
    last: int


class Timing(NamedTuple):
    """Position of a window in its song, as the network is conditioned on it; in audio samples."""

    total: int
    offset: int


def cut_clips(audio_T: Audio, config: FeatureConfig, rate: int) -> list[Audio]:
    """Returns the clips of a recording: cut, rounded to 16 bits and normalised as the recipe says.

    Raises:
        AudioError: the recording is shorter than one slice.
    """
    clips = [audio_T]
    if config.slice_seconds is not None:
        length = int(config.slice_seconds * rate + ROUNDING)
        hop = max(1, int((config.slice_hop_seconds or config.slice_seconds) * rate + ROUNDING))
        clips = [audio_T[start : start + length] for start in range(0, len(audio_T) - length + 1, hop)]
        if not clips:
            raise AudioError(
                f"{len(audio_T) / rate:.2f} s are shorter than one slice of {config.slice_seconds:g} s; "
                "choose longer audio, or a recipe without slice_seconds"
            )
    if config.sixteen_bit:
        clips = [sixteen_bit(clip).astype(np.float32) / np.float32(32768) for clip in clips]
    return [peak_normalised(clip) for clip in clips] if config.normalise else clips


def sixteen_bit(audio_T: Audio) -> NDArray[np.int16]:
    """Returns 16-bit samples as libsndfile writes them with clipping: rounded down."""
    rounded: Audio = np.floor(audio_T.astype(np.float32) * np.float32(32768))
    return rounded.clip(-32768, 32767).astype(np.int16)


def peak_normalised(audio_T: Audio) -> Audio:
    """Returns audio divided by its largest absolute value; silence is returned as it is."""
    peak = np.abs(audio_T).max(initial=0)
    return audio_T / peak if peak > 0 else audio_T


def encoded_part(clip_T: Audio, config: FeatureConfig, sizes: FeatureSizes) -> tuple[Audio, int]:
    """Returns the audio of a clip that is encoded, padded as the recipe says, and how many of its codes are real.

    Raises:
        AudioError: the clip is shorter than one code, or than a window that the recipe demands.
    """
    window, hop = sizes.context * sizes.hop, sizes.hop
    if config.encode_seconds is not None:
        clip_T = clip_T[: int(config.encode_seconds * sizes.rate + ROUNDING)]
    if config.encode == "window" and config.windows == "first":
        clip_T = clip_T[:window]
    check_length(len(clip_T), config, sizes)
    codes = len(clip_T) // hop
    wanted = len(clip_T)
    if config.short == "pad_window":
        wanted = max(window, -(-wanted // window) * window if config.encode == "window" else wanted)
    elif config.short == "pad_minimum":
        wanted = max(wanted, sizes.shortest)
    if wanted > len(clip_T):
        clip_T = np.pad(clip_T, (0, wanted - len(clip_T)))
    return clip_T, codes if config.trim else len(clip_T) // hop


def check_length(samples: int, config: FeatureConfig, sizes: FeatureSizes) -> None:
    """Checks that so many audio samples are enough for a recipe.

    Raises:
        AudioError: they are less than one code, or than a window that the recipe demands.
    """
    codes = samples // sizes.hop
    if codes < 1:
        raise AudioError(
            f"the audio has {max(0, samples)} samples, less than one code of {sizes.hop}; choose longer audio"
        )
    if config.short == "refuse" and codes < sizes.context:
        raise AudioError(
            f"the audio has {codes} codes ({codes / sizes.code_rate:.2f} s), less than the full window of "
            f"{sizes.context} that this recipe needs; choose longer audio, or a recipe that takes short clips"
        )


def plan_windows(
    codes: int, kept: int, config: FeatureConfig, sizes: FeatureSizes, *, align: int = 1
) -> list[FeatureWindow]:
    """Returns the windows over `codes` codes, of which the first `kept` are real; their rows follow each other.

    The last window of a clip that is encoded as a whole is moved back to be full. Where windows overlap, rows are those
    of the earlier one, whose network has seen more codes before them. Starts are multiples of `align`, the codes for
    each code of the level above.
    """
    context = sizes.context
    if config.windows == "first":
        stop = min(codes, context)
        return [FeatureWindow(0, stop, 0, min(stop, kept))]
    if config.encode == "window":
        starts = list(range(0, codes, context))
    else:
        step = max(1, int(config.hop * context) // align) * align
        starts = [0] if codes <= context else window_starts(codes, context, step)
        starts = [-(-start // align) * align for start in starts]
    windows, done = [], 0
    for start in starts:
        stop = min(start + context, codes)
        windows.append(FeatureWindow(start, stop, done, max(done, min(stop, kept))))
        done = windows[-1].last
    return [window for window in windows if window.last > window.first]


def song_timing(
    config: FeatureConfig, sizes: FeatureSizes, *, start: int, total_seconds: float, offset_seconds: float
) -> Timing:
    """Returns the timing of the window that starts at code `start` of a clip.

    ``song``: the true position, as far as the network knows songs of that length. ``chunks``: total and offset in whole
    codes, and no window claimed to end after its song (docs/features.md has what follows). ``fixed``: always the same.

    Args:
        config: the recipe.
        sizes: of the network.
        start: code of the clip.
        total_seconds: length of the whole song.
        offset_seconds: start of the clip in it.
    """
    window = sizes.context * sizes.hop
    if config.timing == "fixed":
        return Timing(fixed_total(config, sizes), 0)
    low, high = _bounds(config, sizes)
    if config.timing == "chunks":
        total = sizes.whole(min(max(int(total_seconds * sizes.rate), low), high))
        offset = sizes.whole(int(offset_seconds * sizes.rate)) + start * sizes.hop
        return Timing(total, max(0, min(offset, total - window)))
    total = math.floor(min(max(total_seconds * sizes.rate + ROUNDING, low), high))
    offset = math.floor(offset_seconds * sizes.rate + ROUNDING) + start * sizes.hop
    latest = total - 1 if math.isinf(high) else min(total - 1, int(high) - window)
    return Timing(total, max(0, min(offset, latest)))


def _bounds(config: FeatureConfig, sizes: FeatureSizes) -> tuple[float, float]:
    """Returns the shortest and the longest total length that is claimed, in samples of whole codes."""
    hop = sizes.hop
    shortest, longest = config.shortest_seconds, config.longest_seconds
    low = float(sizes.shortest if shortest is None else max(sizes.shortest, shortest * sizes.rate))
    high = sizes.longest if longest is None else min(sizes.longest, longest * sizes.rate)
    low = math.ceil(low / hop - ROUNDING) * hop
    if math.isfinite(high):
        high = math.floor(high / hop + ROUNDING) * hop
        high -= hop if high >= sizes.longest else 0
    return low, high
