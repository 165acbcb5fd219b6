"""Where segments begin in time, as integers. Imports no torch."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from jukebox_core.families.mt3.config import FrontEndConfig


def frame_count(samples: int, hop: int) -> int:
    """Returns the frames of audio: upstream pads at least one sample, so whole frames are followed by an empty one."""
    return samples // hop + 1


def segment_count(samples: int, front_end: FrontEndConfig) -> int:
    """Returns the number of segments of audio of `samples` samples; at least one."""
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
