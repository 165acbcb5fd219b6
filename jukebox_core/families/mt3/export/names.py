"""Names of the graphs of an MT3 model. Imports no torch."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from jukebox_core.families.mt3.config import MT3Network

ENCODER, MEMORY, START, STEP = "encoder", "memory", "start", "step"


def graph_names(network: MT3Network) -> tuple[str, ...]:
    """Returns the names of the graphs that a model has.

    A Perceiver computes segments one by one, and its experts those rows that it chooses by value, so that tracing it
    fixes batch and length: of YourMT3 the decoder alone has graphs.
    """
    encoder = () if network.perceiver is not None else (ENCODER,)
    memory = (MEMORY,) if network.memory is not None and network.memory.length else ()
    return (*encoder, *memory, START, STEP)
