"""Attention layers and transformers against the original's numbers (docs/upstream.md, Attention)."""

from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import torch

from jukebox_core.families.jukebox.checkpoints.renames import PRIOR_RENAMES
from jukebox_core.families.jukebox.config import ATTENTION_ORDERS, TransformerConfig
from jukebox_core.families.jukebox.model.attention import make_attention
from jukebox_core.families.jukebox.model.attention_patterns import AttentionType, Fold, attention_types
from jukebox_core.families.jukebox.model.transformer import Transformer
from tests.helpers.models.golden_priors import FLOAT16, FLOAT32, close, need

if TYPE_CHECKING:
    from pathlib import Path

    from torch import Tensor, nn

    from jukebox_core.families.jukebox.model.cache import LayerCache

CPU = torch.device("cpu")
LAYERS = [f"func_{kind.value}" for kind in AttentionType]
STACKS = [f"order_{order}" for order in ATTENTION_ORDERS]


def open_case(golden: Path, name: str) -> tuple[dict[str, Tensor], dict[str, Any]]:
    info = json.loads(need(golden / "attention/attention.json").read_text())
    if name not in info:
        pytest.skip(f"{name} is absent from attention.json")
    arrays = np.load(need(golden / "attention" / f"{name}.npz"))
    return {key: torch.from_numpy(value) for key, value in arrays.items()}, info[name]


def load(module: nn.Module, arrays: dict[str, Tensor], theirs: str, ours: str) -> None:
    """Loads the arrays p.*, whose names begin `theirs` in a whole checkpoint, as ours are without `ours`."""
    state = {}
    for key, value in arrays.items():
        if key.startswith("p."):
            name = theirs + key.removeprefix("p.")
            renamed = next(re.sub(old, new, name) for old, new in PRIOR_RENAMES if re.fullmatch(old, name))
            state[renamed.removeprefix(ours)] = value
    module.load_state_dict(state, assign=True)


def chunk_sizes(arrays: dict[str, Tensor]) -> dict[str, int]:
    prefix = "y_sample_chunk"
    return {key: int(key.removeprefix(prefix)) for key in arrays if key.startswith(prefix)}


def keys_in_order(cache: LayerCache, kind: AttentionType, fold: Fold) -> Tensor:
    """The keys of a cache as [batch, positions, heads * head width], oldest first, after a whole sequence."""
    if kind is AttentionType.COLUMN:
        return cache.k.permute(1, 3, 0, 2, 4).flatten(1, 2).flatten(2)
    k_BHTD = cache.k
    if kind is AttentionType.PREVIOUS_BLOCK and fold.rows % 2:
        k_BHTD = k_BHTD.roll(fold.columns, dims=2)  # the last row is in the first half
    return k_BHTD.transpose(1, 2).flatten(2)


def test_every_case_is_tested(golden: Path) -> None:
    info = json.loads(need(golden / "attention/attention.json").read_text())
    assert set(info) <= {*LAYERS, *STACKS}


@pytest.mark.parametrize("name", LAYERS)
@torch.no_grad()
def test_layer(golden: Path, name: str) -> None:
    arrays, info = open_case(golden, name)
    kind = AttentionType(info["attn_func"])
    fold = Fold(info["n_ctx"], info["blocks"], info["prime_len"] or 0, info["spread"])
    layer = make_attention(kind, info["n_in"], info["n_state"], info["n_head"], fold)
    load(layer, arrays, "prior.transformer._attn_mods.0.attn.", "body.transformer.blocks.0.attention.")
    x, encoder = arrays["x"], arrays.get("encoder_kv")
    for expected in ("y", "y_trainmode"):
        close(layer(x, encoder)[0], arrays[expected], expected, **FLOAT32)
        close(layer(x, encoder, record=True)[0], arrays[expected], f"{expected}, recorded", **FLOAT32)
    half_encoder = None if encoder is None else encoder.half()
    close(layer(x.half(), half_encoder)[0], arrays["y_half"], "y_half", **FLOAT16)

    sizes = chunk_sizes(arrays)
    assert bool(sizes) == info["sample_supported"]
    for key, size in sizes.items():
        cache = layer.new_cache(x.shape[0], x.dtype, CPU, encoder)
        pieces = [layer.extend(x[:, at : at + size], cache, at) for at in range(0, x.shape[1], size)]
        close(torch.cat(pieces, dim=1), arrays[key], key, **FLOAT32)
        kept = arrays.get(f"cache_key_after_chunk{size}")
        if kept is not None:
            close(keys_in_order(cache, kind, fold), kept, f"cache after {key}", **FLOAT32)


@pytest.mark.parametrize("name", STACKS)
@torch.no_grad()
def test_stack(golden: Path, name: str) -> None:
    arrays, info = open_case(golden, name)
    config = TransformerConfig(
        width=info["n_in"],
        depth=info["n_depth"],
        heads=info["n_head"],
        attention_order=info["attn_order"],
        blocks=info["blocks"],
        attention_factor=info["m_attn"],
        mlp_factor=info["m_mlp"],
        residual_scale=info["res_scale"],
        spread=info["spread"],
    )
    assert list(attention_types(config.attention_order, config.depth)) == info["attn_funcs"]
    stack = Transformer(config, info["n_ctx"], info["prime_len"] or 0)
    load(stack, arrays, "prior.transformer.", "body.transformer.")
    x, encoder = arrays["x"], arrays.get("encoder_kv")
    close(stack(x, encoder)[0], arrays["y"], "y", **FLOAT32)
    close(stack(x.half(), encoder)[0], arrays["y_fp16"], "y_fp16", **FLOAT16)
    for key, size in chunk_sizes(arrays).items():
        cache = stack.new_cache(x.shape[0], dtype=x.dtype, device=CPU, encoder_BNW=encoder)
        pieces = [stack.extend(piece, cache) for piece in x.split(size, dim=1)]
        close(torch.cat(pieces, dim=1), arrays[key], key, **FLOAT32)
