"""Where segments begin in time, as integers. Imports no torch."""

from __future__ import annotations

from fractions import Fraction
from typing import TYPE_CHECKING

from jukebox_core.families.mt3.config import LinearFrontEndConfig

if TYPE_CHECKING:
    from jukebox_core.families.mt3.config import AnyFrontEnd, FrontEndConfig


def frame_count(samples: int, hop: int) -> int:
    """Returns the frames of audio: upstream pads at least one sample, so whole frames are followed by an empty one."""
    return samples // hop + 1


def segment_count(samples: int, front_end: AnyFrontEnd) -> int:
    """Returns the number of segments of audio of `samples` samples; at least one."""
    if isinstance(front_end, LinearFrontEndConfig):
        return max(1, -(-samples // front_end.segment_samples))
    return -(-frame_count(samples, front_end.hop) // front_end.segment_frames)


def start_step(frame: int, front_end: FrontEndConfig, steps_per_second: int) -> int:
    """Returns the last step of time at or before a frame."""
    return steps_per_second * frame * front_end.hop // front_end.sample_rate


def start_seconds(frame: int, front_end: FrontEndConfig, steps_per_second: int, *, parity: bool) -> float:
    """Returns the time of a segment that begins at a frame, rounded down to a step.

    Upstream rounds in floating point, by which every fifth segment or so begins a step early (D4).
    """
    if not parity:
        return start_step(frame, front_end, steps_per_second) / steps_per_second
    seconds = frame / (front_end.sample_rate / front_end.hop)
    return seconds - seconds % (1 / steps_per_second)


def segment_start(index: int, front_end: AnyFrontEnd, steps_per_second: int, *, parity: bool) -> float:
    """Returns the time at which a segment begins, in seconds, as a whole number of steps.

    MT3 rounds down; YourMT3, whose segments end between steps, to the nearest step.
    """
    if not isinstance(front_end, LinearFrontEndConfig):
        return start_seconds(index * front_end.segment_frames, front_end, steps_per_second, parity=parity)
    return (
        round(Fraction(steps_per_second * index * front_end.segment_samples, front_end.sample_rate)) / steps_per_second
    )
