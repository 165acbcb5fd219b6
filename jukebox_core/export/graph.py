"""A graph as a family describes it: the network's own modules, the names of inputs and outputs, and how to test it.

    Graph(name="decoder", module=..., inputs=(Port("codes", ("batch", 14, "frames"), "int64"),),
          outputs=(Port("audio", ("batch", 1, "768*frames"), "float32", "sound"),), ...)

An axis is a number, or the name of a size that may be any, or a multiple of one. Imports no torch.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal

if TYPE_CHECKING:
    from torch import Generator, Tensor, nn

Axis = int | str
Sizes = Mapping[str, int]
Measure = Literal["tokens", "logits", "sound", "values"]
"""How an output is compared: equal numbers; error and likeliest number; ratio of signal to noise; error."""


@dataclass(frozen=True, slots=True)
class Port:
    """One input or output of a graph."""

    name: str
    axes: tuple[Axis, ...]
    dtype: Literal["int64", "float32"]
    measure: Measure = "values"  # of an output

    def shape(self, sizes: Sizes) -> tuple[int, ...]:
        """Returns its shape where the named sizes are `sizes`."""
        return tuple(length(axis, sizes) for axis in self.axes)

    def described(self) -> dict[str, Any]:
        """Returns it as plain data."""
        return {"name": self.name, "shape": list(self.axes), "dtype": self.dtype}


@dataclass(frozen=True, kw_only=True, slots=True)
class Graph:
    """A part of a model that is exported as one file."""

    name: str  # of the file, without its suffix
    module: nn.Module  # in float32, for inference; its forward takes and returns the ports in their order
    inputs: tuple[Port, ...]
    outputs: tuple[Port, ...]
    example: Sizes  # of the inputs with which the module is traced; above 1, so that no size is taken for a constant
    cases: tuple[Sizes, ...]  # of the inputs on which the graph and the module are compared
    counted: tuple[Sizes, ...] = ()  # more of them, if differences are counted over all cases together
    draw: Callable[[Sizes, Generator], tuple[Tensor, ...]]  # inputs of these sizes
    least: Mapping[str, int] = field(default_factory=dict)  # smallest value of a named size, where it is not 1
    limits: Mapping[str, int] = field(default_factory=dict)  # largest value, where it has one
    quantised: tuple[str, ...] | None = None  # int8: convolutions to store as matrices too; None: stays float32
    facts: Mapping[str, Any] = field(default_factory=dict)  # what an application has to know


def parsed(axis: str) -> tuple[int, str]:
    """Returns factor and name of an axis, of ``768*frames`` 768 and ``frames``."""
    factor, _, name = axis.rpartition("*")
    return int(factor or 1), name


def length(axis: Axis, sizes: Sizes) -> int:
    """Returns the length of an axis where the named sizes are `sizes`."""
    if isinstance(axis, int):
        return axis
    factor, name = parsed(axis)
    return factor * sizes[name]
