"""How the threads of torch and of our kernels wait for each other: set before torch is imported. Imports no torch."""

from __future__ import annotations

import os
import sys

SPINS = 2000
"""Looks of a waiting thread at what it waits for, some 50 microseconds, until it sleeps."""


def share_cores() -> None:
    """Lets threads of OpenMP that wait give their core to others soon, unless the environment says how they wait.

    GNU's OpenMP looks 300,000 times, for milliseconds, at the end of every parallel part. Beside other programs that
    took two thirds of the processor time of a small model. It reads the variable when torch is imported; later this
    does nothing.
    """
    if "torch" not in sys.modules and not {"OMP_WAIT_POLICY", "GOMP_SPINCOUNT"} & set(os.environ):
        os.environ["GOMP_SPINCOUNT"] = str(SPINS)
