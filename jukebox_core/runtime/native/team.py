"""How many threads compute a step: as many as its size is worth, and fewer while other programs need the cores.

The threads of a step wait for each other several times in every layer. Where a core is shared with another program, all
of them wait for the one that does not run: a step of two threads can take a hundred times as long as on one. So the
times of steps are watched, and another number of threads is tried now and then. Sums have one order for any number of
threads (weights.h): the choice changes no token.
"""

from __future__ import annotations

from collections import deque
from statistics import median

BYTES_A_SECOND = 10e9  # that one core reads
OPERATIONS_A_SECOND = 40e9  # that one core computes
SHARE_SECONDS = 1.5e-3  # of one core: the least that a thread of a step is worth
CALL_SECONDS = 1e-4  # of one core: the same for a call of one product, whose threads wait for each other once

_TRIAL = 3  # steps of a trial
_LATELY = 7  # steps whose median is the present time of a step
_SLOWER = 1.4  # times the best: steps are slower than they were, and fewer threads are tried
_BETTER = 0.93  # of the present time: another number of threads is worth it
_HOPELESS = 2.0  # times the present time: a trial ends at once
_FIRST_WAIT, _LONGEST_WAIT = 1.0, 30.0  # seconds of steps between two trials; doubled by each that fails


def useful_threads(most: int, *, weight_bytes: float, operations: float, share: float = SHARE_SECONDS) -> int:
    """Returns how many threads, at most `most`, a computation is worth that reads weights and computes with them."""
    alone = max(weight_bytes / BYTES_A_SECOND, operations / OPERATIONS_A_SECOND)
    return max(1, min(most, int(alone / share)))


class Team:
    """The number of threads of the next step, chosen from the times of those before."""

    def __init__(self, useful: int, most: int) -> None:
        """Begins with all `useful` threads, and tries one less at once: other programs may be busy already.

        Args:
            useful: threads that the size of a step is worth.
            most: threads that there may be, for any step.
        """
        self.most = most
        self.count = self._base = self._most = useful
        self._lately: deque[float] = deque(maxlen=_LATELY)
        self._trial: list[float] = []
        self._best = float("inf")  # present time of a step, the shortest so far with this number of threads
        self._waited, self._wait = 0.0, 0.0
        self._trials = 0

    def record(self, seconds: float) -> None:
        """Counts a step of `count` threads that took `seconds`, and chooses the number for the next one."""
        if self._most == 1:
            return
        if self.count != self._base:
            self._judge(seconds)
            return
        self._lately.append(seconds)
        self._waited += seconds
        if len(self._lately) < _TRIAL:
            return
        now = median(self._lately)
        self._best = min(self._best * 1.0005, now)  # steps become longer as a window grows
        if self._base > 1 and now > _SLOWER * self._best and self._waited >= _FIRST_WAIT:
            self._try([self._base // 2])
        elif self._waited >= self._wait:
            self._try([self._base // 2, self._base - 1, self._base + 1, 2 * self._base])

    def _try(self, counts: list[int]) -> None:
        """Begins a trial of one of these numbers, in turn: halves go where one thread less gains nothing."""
        possible = sorted({min(count, self._most) for count in counts if count >= 1} - {self._base})
        self.count = possible[self._trials % len(possible)]
        self._trial, self._waited = [], 0.0
        self._trials += 1

    def _judge(self, seconds: float) -> None:
        """Counts a step of a trial; at its end, keeps the number of threads if it was faster."""
        self._trial.append(seconds)
        now = median(self._lately)
        if len(self._trial) < _TRIAL and seconds < _HOPELESS * now:
            return
        if median(self._trial) < _BETTER * now:
            self._base, self._wait = self.count, _FIRST_WAIT
            self._lately.clear()
            self._lately.extend(self._trial)
            self._best = float("inf")
        else:
            self.count = self._base
            self._wait = min(_LONGEST_WAIT, max(_FIRST_WAIT, 2 * self._wait))
