"""What a family implements besides `jukebox_core.family.Family` if its models can be exported. Imports no torch."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Protocol, runtime_checkable

if TYPE_CHECKING:
    from collections.abc import Mapping

    from jukebox_core.export.graph import Graph
    from jukebox_core.protocols import WeightFile


@runtime_checkable
class ExportFamily(Protocol):
    """A family whose models have graphs."""

    def graphs(self, config: Any) -> Mapping[str, tuple[str, ...]]:
        """Returns the names of a model's graphs, and the roles of the files that each is made from."""
        ...

    def open_graph(self, config: Any, name: str, files: Mapping[str, WeightFile]) -> Graph:
        """Returns a graph of a model, with its weights in float32.

        Args:
            config: the model.
            name: of the graph.
            files: by role, at least those that `graphs` names.
        """
        ...
