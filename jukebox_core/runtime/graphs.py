"""CUDA graphs: the launches of a step, recorded once and replayed as one."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

import torch

if TYPE_CHECKING:
    from collections.abc import Callable

    from torch import Tensor

log = logging.getLogger("jukebox")

_WARM_UPS = 3  # calls before recording: libraries choose their kernels and take their memory in the first ones


class GraphedStep:
    """A function of tensors that is recorded as a CUDA graph at its first call, and replayed from then on.

    Whatever else it reads and writes stays where it is. It may be called several times in a row with equal arguments
    before it counts, and must not mind. Where recording fails, one line says so and the function is called plainly.
    """

    def __init__(self, function: Callable[[Tensor, Tensor], Tensor]) -> None:
        self._function = function
        self._graph: torch.cuda.CUDAGraph | None = None
        self._arguments: tuple[Tensor, Tensor]
        self._result: Tensor
        self._plain = False

    def __call__(self, x: Tensor, at: Tensor) -> Tensor:
        """Returns ``function(x, at)``; arguments have the shapes of the first call."""
        if self._graph is None and not self._plain:
            try:
                self._graph = self._record(x, at)
            except torch.OutOfMemoryError:
                raise  # fewer songs may fit
            except (RuntimeError, AssertionError) as error:
                log.warning("steps are not replayed as a CUDA graph, which would be faster: %s", error)
                self._plain = True
        if self._graph is None:
            return self._function(x, at)
        for kept, given in zip(self._arguments, (x, at), strict=True):
            if kept is not given:
                kept.copy_(given)
        self._graph.replay()
        return self._result.clone()  # the next call overwrites it

    def _record(self, x: Tensor, at: Tensor) -> torch.cuda.CUDAGraph:
        self._arguments = (x.clone(), at)
        stream = torch.cuda.Stream()  # type: ignore[no-untyped-call]
        stream.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(stream):
            for _ in range(_WARM_UPS):
                self._function(*self._arguments)
        torch.cuda.current_stream().wait_stream(stream)
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph):
            self._result = self._function(*self._arguments)
        return graph
