"""Modules on the meta device: shapes without memory, to be filled from a file."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import torch
from torch import nn
from torch.overrides import TorchFunctionMode

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator


@contextmanager
def shapes_only() -> Iterator[None]:
    """Within the block, modules are made on the meta device, and not initialised."""
    with torch.device("meta"), Uninitialised():
        yield


class Uninitialised(TorchFunctionMode):
    """Skips random initialisation, for which the meta device would import sympy and more: 80 MB, and seconds."""

    def __torch_function__(
        self, function: Callable[..., Any], _types: Any, arguments: tuple[Any, ...] = (), named: Any = None
    ) -> Any:
        if getattr(function, "__module__", None) == nn.init.__name__:
            return None  # initialisers write in place; their result is not used
        return function(*arguments, **(named or {}))
