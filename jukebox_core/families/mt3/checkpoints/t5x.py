"""Magenta's own parameter names, of files converted from t5x: renamed and transposed to those of the torch ports.

Such a file holds parameters like ``decoder/layers_0/self_attention/query/kernel``, separated by ``/`` or ``.``, perhaps
below ``params`` or ``target``. Positions are no parameters there; Magenta's formula gives them (D1).
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from typing import TYPE_CHECKING

from torch import Tensor

from jukebox_core.families.mt3.model.transformer import frequencies

if TYPE_CHECKING:
    from jukebox_core.models.checkpoints.checkpoint import Checkpoint

_ABOVE = r"(?:params[/.]|target[/.])*"
_LAYER = rf"{_ABOVE}(encoder|decoder)[/.]layers_(\d+)[/.]"
_PROJECTIONS = {"query": "q", "key": "k", "value": "v", "out": "o"}
_PARTS = {
    ("encoder", "attention"): "0.SelfAttention",
    ("encoder", "pre_attention_layer_norm"): "0.layer_norm",
    ("encoder", "mlp"): "1.DenseReluDense",
    ("encoder", "pre_mlp_layer_norm"): "1.layer_norm",
    ("decoder", "self_attention"): "0.SelfAttention",
    ("decoder", "pre_self_attention_layer_norm"): "0.layer_norm",
    ("decoder", "encoder_decoder_attention"): "1.EncDecAttention",
    ("decoder", "pre_cross_attention_layer_norm"): "1.layer_norm",
    ("decoder", "mlp"): "2.DenseReluDense",
    ("decoder", "pre_mlp_layer_norm"): "2.layer_norm",
}
_OUTER = {
    ("encoder", "encoder_norm", "scale"): "encoder.final_layer_norm.weight",
    ("encoder", "continuous_inputs_projection", "kernel"): "proj.weight",
    ("decoder", "token_embedder", "embedding"): "decoder_embed_tokens.weight",
    ("decoder", "logits_dense", "kernel"): "lm_head.weight",
    ("decoder", "decoder_norm", "scale"): "decoder.final_layer_norm.weight",
}


def is_t5x(checkpoint: Checkpoint) -> bool:
    """Whether a file has Magenta's names."""
    return any(re.match(_LAYER, name) for name in checkpoint.tensors)


def as_port(checkpoint: Checkpoint, width: int) -> Checkpoint:
    """Returns the checkpoint under the names of the torch ports, each tensor turned when it is accessed.

    Names that are no parameter of MT3 are kept, so that loading reports them.
    """
    names = {_port_name(name): name for name in checkpoint.tensors}

    def turned(name: str) -> Tensor:
        tensor, kernel = checkpoint.tensors[names[name]], names[name].endswith("kernel")
        if not kernel:
            return tensor
        # Kernels map rows to columns; those of attention may have a heads axis of their own.
        flat = tensor.flatten(0, -2) if name.endswith(".o.weight") else tensor.flatten(1)
        return flat.T

    made: dict[str, Callable[[], Tensor]] = {name: lambda name=name: turned(name) for name in names}  # type: ignore[misc]
    for stack in ("encoder", "decoder"):
        made[f"{stack}.pos_emb.inv_freq"] = lambda: frequencies(width, "magenta")
    return replace(checkpoint, tensors=_Made(made))


class _Made(Mapping[str, Tensor]):
    """Tensors that are made when they are accessed."""

    def __init__(self, made: Mapping[str, Callable[[], Tensor]]) -> None:
        self._made = made

    def __getitem__(self, name: str) -> Tensor:
        return self._made[name]()

    def __iter__(self) -> Iterator[str]:
        return iter(self._made)

    def __len__(self) -> int:
        return len(self._made)


def _port_name(name: str) -> str:
    path = re.split(r"[/.]", re.sub(rf"^{_ABOVE}", "", name))
    if tuple(path) in _OUTER:
        return _OUTER[path[0], path[1], path[2]]
    layer = re.fullmatch(r"layers_(\d+)", path[1]) if len(path) in (4, 5) else None
    part = _PARTS.get((path[0], path[2])) if layer else None
    if layer is None or part is None:
        return name
    leaf = path[3] if len(path) == 5 else ""
    middle = f".{_PROJECTIONS.get(leaf, leaf)}" if leaf else ""
    return f"{path[0]}.block.{layer[1]}.layer.{part}{middle}.weight"
