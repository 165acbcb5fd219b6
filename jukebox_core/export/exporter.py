"""Writes a graph's module as a file of onnx, by torch's exporter."""

from __future__ import annotations

import inspect
import logging
import warnings
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import torch

from jukebox_core.export.graph import parsed
from jukebox_core.export.weights import find_tensors, tensors_of

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from jukebox_core.export.config import ExportConfig
    from jukebox_core.export.graph import Graph
    from jukebox_core.export.weights import Found

_SEED = 1
_SMALL = 16  # numbers of a constant that may be computed with before: weights stay as they are in the model
_MOST = 2**24  # of a size without a limit of its own


def write_graph(graph: Graph, path: Path, config: ExportConfig) -> Found:
    """Writes a graph to `path`, and to a file beside it what is too large for one; returns its tensors.

    A tensor that no output depends on, such as a projection after the last codebook, is not in the graph.
    """
    from onnxscript.optimizer import optimize

    example = graph.draw(graph.example, torch.Generator().manual_seed(_SEED))
    with torch.no_grad(), _quiet():
        program = torch.export.export(graph.module, example, dynamic_shapes=_dynamic(graph), strict=False)
        used = _used(program)
        made = torch.onnx.export(
            program,
            dynamo=True,
            opset_version=config.opset,
            input_names=[port.name for port in graph.inputs],
            output_names=[port.name for port in graph.outputs],
            verbose=False,
            optimize=False,
        )
        assert made is not None
        made.model = optimize(made.model, input_size_limit=_SMALL)
    for node in made.model.graph.all_nodes():
        node.metadata_props.clear()  # lines of the sources, which are most of a small file
        node.doc_string = None
    _name_axes(made.model, graph)
    constants = (value.const_value.numpy() for value in made.model.graph.initializers.values() if value.const_value)
    found = find_tensors({name: each for name, each in tensors_of(graph.module).items() if name in used}, constants)
    size = sum(value.const_value.nbytes for value in made.model.graph.initializers.values() if value.const_value)
    made.save(str(path), external_data=size > config.inline_bytes)
    return found


def _dynamic(graph: Graph) -> tuple[Any, ...]:
    dims: dict[str, Any] = {}

    def dim(axis: str) -> Any:
        factor, name = parsed(axis)
        if name not in dims:
            dims[name] = torch.export.Dim(name, min=graph.least.get(name, 1), max=graph.limits.get(name, _MOST))
        return dims[name] if factor == 1 else factor * dims[name]

    shapes = [
        {place: dim(axis) for place, axis in enumerate(port.axes) if isinstance(axis, str)} for port in graph.inputs
    ]
    kinds = [each.kind for each in inspect.signature(graph.module.forward).parameters.values()]
    if inspect.Parameter.VAR_POSITIONAL in kinds:  # the inputs that one parameter takes are one tuple
        first = kinds.index(inspect.Parameter.VAR_POSITIONAL)
        return (*shapes[:first], tuple(shapes[first:]))
    return tuple(shapes)


def _used(program: torch.export.ExportedProgram) -> set[str]:
    """Returns the names of the tensors that outputs depend on."""
    targets = {spec.arg.name: spec.target for spec in program.graph_signature.input_specs if spec.target is not None}
    needed: set[Any] = set()
    waiting = [node for node in program.graph.nodes if node.op == "output"]
    while waiting:
        node = waiting.pop()
        if node not in needed:
            needed.add(node)
            waiting += node.all_input_nodes
    return {targets[node.name] for node in needed if node.op == "placeholder" and node.name in targets}


def _name_axes(model: Any, graph: Graph) -> None:
    """Names the axes of inputs and outputs as the ports do; the exporter makes up formulas."""
    for value, port in zip((*model.graph.inputs, *model.graph.outputs), (*graph.inputs, *graph.outputs), strict=True):
        import onnx_ir

        value.shape = onnx_ir.Shape(port.axes)


@contextmanager
def _quiet() -> Iterator[None]:
    """Hides what the exporter warns of: packages that it could use, and its own future."""
    loggers = [logging.getLogger(name) for name in ("torch.onnx", "onnxscript", "onnx_ir")]
    levels = [each.level for each in loggers]
    try:
        for each in loggers:
            each.setLevel(logging.ERROR)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        for each, level in zip(loggers, levels, strict=True):
            each.setLevel(level)
