"""Weights of a graph that are stored in fewer bits; the graph computes in float32, as it did.

A conversion stands where the weight was. onnxruntime makes it once, when it loads the graph: a smaller file, and the
speed and memory of float32. A DequantizeLinear in its place would let onnxruntime quantise activations as well.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from jukebox_core.export.session import data_file

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from numpy.typing import NDArray

_SMALLEST = 1024  # numbers of a tensor that is worth a conversion
_LARGEST = 127  # of eight bits with a sign


def store_halves(path: Path, *, inline_bytes: int) -> None:
    """Stores the weights of the graph in `path` as float16; those that exceed its range stay."""
    import onnx
    from onnx import TensorProto, helper, numpy_helper

    model = onnx.load(path)
    for weight in _large(model):
        with np.errstate(over="ignore"):
            half = numpy_helper.to_array(weight).astype(np.float16)
        if np.isfinite(half).all():
            stored = f"{weight.name}.float16"
            cast = helper.make_node("Cast", [stored], [weight.name], to=TensorProto.FLOAT)
            _replace(model, weight, {stored: half}, [cast])
    _write(model, path, inline_bytes)


def store_bytes(path: Path, convolutions: Sequence[str] = (), *, inline_bytes: int) -> None:
    """Stores the weights of matrix products, and tables, of the graph in `path` in eight bits, one scale a channel.

    A channel is what one output of a product, or one row of a table, is computed with; a table that is also the
    matrix of a product is stored once.

    Args:
        path: of the graph; the file of its weights is replaced too.
        convolutions: modules with a convolution of kernel 1, which become matrix products first.
        inline_bytes: weights of more bytes are written to a file beside the graph.
    """
    import onnx
    from onnx import TensorProto, helper, numpy_helper

    model = onnx.load(path)
    for name in convolutions:
        _as_product(model, name)
    axes = _channels(model)
    for weight in _large(model):
        if weight.name in axes and len(weight.dims) == 2:
            integers, scales = _rounded(numpy_helper.to_array(weight), axes[weight.name])
            stored, scale, whole = (f"{weight.name}.{part}" for part in ("int8", "scale", "float32"))
            nodes = [
                helper.make_node("Cast", [stored], [whole], to=TensorProto.FLOAT),
                helper.make_node("Mul", [whole, scale], [weight.name]),
            ]
            _replace(model, weight, {stored: integers, scale: scales}, nodes)
    _write(model, path, inline_bytes)


def _large(model: Any) -> list[Any]:
    from onnx import TensorProto

    return [
        each
        for each in model.graph.initializer
        if each.data_type == TensorProto.FLOAT and np.prod(each.dims) >= _SMALLEST
    ]


def _channels(model: Any) -> dict[str, int]:
    """Returns the axis of the channels of each constant that is a matrix of a product, or a table."""
    axes: dict[str, int] = {}
    tables: dict[str, int] = {}
    for node in model.graph.node:
        if node.op_type == "MatMul":
            axes[node.input[1]] = 1
        if node.op_type == "Gemm":
            axes[node.input[1]] = 0 if any(each.name == "transB" and each.i for each in node.attribute) else 1
        if node.op_type == "Gather":
            tables[node.input[0]] = 0
    return tables | axes


def _rounded(weight_2: NDArray[np.float32], axis: int) -> tuple[NDArray[np.int8], NDArray[np.float32]]:
    """Returns integers, and what one of them is worth in each channel along `axis`, which broadcasts."""
    scales_2 = np.abs(weight_2).max(axis=1 - axis, keepdims=True) / _LARGEST
    scales_2[scales_2 == 0] = 1
    return np.rint(weight_2 / scales_2).astype(np.int8), scales_2


def _replace(model: Any, weight: Any, constants: dict[str, NDArray[Any]], nodes: list[Any]) -> None:
    """Replaces a constant by what `nodes` make of others."""
    from onnx import numpy_helper

    model.graph.initializer.remove(weight)
    model.graph.initializer.extend(numpy_helper.from_array(each, name) for name, each in constants.items())
    for node in reversed(nodes):
        model.graph.node.insert(0, node)


def _write(model: Any, path: Path, inline_bytes: int) -> None:
    import onnx

    beside = data_file(path)
    path.unlink()
    beside.unlink(missing_ok=True)
    size = sum(len(each.raw_data) for each in model.graph.initializer)
    onnx.save(model, path, save_as_external_data=size > inline_bytes, location=beside.name)


def _as_product(model: Any, name: str) -> None:
    """Replaces a convolution of kernel 1, [B, I, T] to [B, O, T], by a matrix product between two transpositions."""
    from onnx import helper, numpy_helper

    weights = {each.name: each for each in model.graph.initializer}
    (place, conv), *others = [
        (place, node)
        for place, node in enumerate(model.graph.node)
        if node.op_type == "Conv" and node.input[1] == f"{name}.weight"
    ]
    assert not others, f"{name} is used once"
    weight = numpy_helper.to_array(weights[conv.input[1]])
    assert weight.shape[2] == 1, f"{name} has kernel 1"
    turned = np.ascontiguousarray(weight[:, :, 0].T)
    model.graph.initializer.remove(weights[conv.input[1]])
    model.graph.initializer.append(numpy_helper.from_array(turned, f"{name}.weight_IO"))
    bias = list(conv.input[2:3])  # none where it was zeros
    product = f"{name}.product" if bias else f"{name}.y_BTO"
    made = [
        helper.make_node("Transpose", [conv.input[0]], [f"{name}.x_BTI"], perm=[0, 2, 1]),
        helper.make_node("MatMul", [f"{name}.x_BTI", f"{name}.weight_IO"], [product]),
        *([helper.make_node("Add", [product, *bias], [f"{name}.y_BTO"])] if bias else []),
        helper.make_node("Transpose", [f"{name}.y_BTO"], [conv.output[0]], perm=[0, 2, 1]),
    ]
    model.graph.node.remove(conv)
    for offset, node in enumerate(made):
        model.graph.node.insert(place + offset, node)
