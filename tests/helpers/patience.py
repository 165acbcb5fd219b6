"""How long to wait for something before it counts as hung."""

from __future__ import annotations

import math
import os


def patience(seconds: float) -> int:
    """The time that a step of at most `seconds` on an idle machine may take on this one: more, the busier it is."""
    waiting = os.getloadavg()[0] / (os.cpu_count() or 1)  # processes for each core
    return math.ceil(seconds * max(1.0, waiting))
