"""CUDA graphs: the kernel launches of a step, captured once and replayed as one."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

import torch

if TYPE_CHECKING:
    from collections.abc import Callable

    from torch import Tensor

log = logging.getLogger("jukebox")

_WARM_UPS = 3  # calls before the capture, in which libraries choose kernels and allocate workspaces


class GraphedStep:
    """A function of tensors that is captured as a CUDA graph at its first call, and replayed from then on.

    All other tensors that it reads and writes must keep their addresses. It must be idempotent: the warm-up calls it
    several times with the same arguments. Where the capture fails, one warning is logged and the function is called
    without a graph.

    Args:
        function: Of x and a position, both tensors; returns a tensor.
    """

    def __init__(self, function: Callable[[Tensor, Tensor], Tensor]) -> None:
        self._function = function
        self._graph: torch.cuda.CUDAGraph | None = None
        self._arguments: tuple[Tensor, Tensor]
        self._result: Tensor
        self._eager = False

    def __call__(self, x: Tensor, at: Tensor) -> Tensor:
        """Returns ``function(x, at)``; arguments must have the shapes of the first call."""
        if self._graph is None and not self._eager:
            try:
                self._graph = self._capture(x, at)
            except torch.OutOfMemoryError:
                raise  # a smaller batch may fit
            except (RuntimeError, AssertionError) as error:
                log.warning("steps are not replayed as a CUDA graph, which would be faster: %s", error)
                self._eager = True
        if self._graph is None:
            return self._function(x, at)
        for captured, given in zip(self._arguments, (x, at), strict=True):
            if captured is not given:
                captured.copy_(given)
        self._graph.replay()
        return self._result.clone()  # the next call overwrites it

    def _capture(self, x: Tensor, at: Tensor) -> torch.cuda.CUDAGraph:
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
