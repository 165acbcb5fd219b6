"""Weights of a graph's matrix products in eight bits, one scale a channel; activations are quantised as they come."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Any

import numpy as np

from jukebox_core.export.session import data_file

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

_PRODUCTS = ["MatMul", "Gemm"]


def quantise(path: Path, convolutions: Sequence[str], *, inline_bytes: int) -> None:
    """Replaces the graph in `path` by one with int8 weights.

    Args:
        path: of the graph; the file of its weights is replaced too.
        convolutions: modules with a convolution of kernel 1, which become matrix products first: only these are
            quantised.
        inline_bytes: weights of more bytes are written to a file beside the graph.
    """
    import onnx
    from onnxruntime.quantization import QuantType, quantize_dynamic

    model = onnx.load(path)
    for name in convolutions:
        _as_product(model, name)
    whole = path.with_name(path.name + ".float32")
    onnx.save(model, whole, save_as_external_data=data_file(path).exists(), location=whole.name + ".data")
    del model
    root = logging.getLogger()
    level = root.level
    root.setLevel(logging.ERROR)  # onnxruntime advises on stderr
    try:
        quantize_dynamic(
            whole,
            path,
            op_types_to_quantize=_PRODUCTS,
            per_channel=True,
            weight_type=QuantType.QUInt8,  # signed ones saturate on CPUs without VNNI: a fifth of the codes changes
            use_external_data_format=False,
        )
    finally:
        root.setLevel(level)
    for each in (whole, data_file(whole), data_file(path)):
        each.unlink(missing_ok=True)
    if path.stat().st_size > inline_bytes:
        onnx.save(onnx.load(path), path, save_as_external_data=True, location=data_file(path).name)


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
