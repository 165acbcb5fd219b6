"""Loads codec and transformers from files, strictly: built on the meta device, then filled tensor by tensor."""

from __future__ import annotations

from functools import lru_cache
from typing import TYPE_CHECKING

import torch
from torch import nn

from jukebox_core.errors import CheckpointError
from jukebox_core.families.vampnet.checkpoints.metadata import codec_config, transformer_config
from jukebox_core.families.vampnet.checkpoints.renames import TRANSFORMER, codec_renames
from jukebox_core.families.vampnet.config import CODEC, check_codec
from jukebox_core.families.vampnet.model.codec import Codec
from jukebox_core.families.vampnet.model.lora import LoRALinear, is_lora, merge_lora
from jukebox_core.families.vampnet.model.transformer import VampTransformer
from jukebox_core.models.checkpoints.checkpoint import Checkpoint, load_into, open_checkpoint
from jukebox_core.models.checkpoints.shapes import shapes_only
from jukebox_core.runtime.allocator import release_freed_memory

if TYPE_CHECKING:
    from pathlib import Path

    from jukebox_core.families.vampnet.config import CodecConfig, TransformerConfig, VampNetConfig

Device = torch.device | str | None


def build_codec(config: CodecConfig) -> Codec:
    """Returns a codec on the meta device: shapes without memory."""
    with shapes_only():
        return Codec(config)


def build_transformer(config: TransformerConfig, rank: int = 0) -> VampTransformer:
    """Returns a transformer on the meta device, with low-rank updates of `rank` (0: none)."""
    with shapes_only():
        return VampTransformer(config, rank)


def load_codec(path: Path, *, device: Device = None) -> Codec:
    """Returns the codec in `path`, in float32; its sizes are those that the file states.

    Raises:
        CheckpointError: the file is no codec of VampNet; missing and extra tensors are named.
    """
    checkpoint = open_checkpoint(path)
    config = codec_config(checkpoint)
    codec = build_codec(config)
    load_into(codec, checkpoint, codec_renames(config), device=device, label="the codec")
    return codec.float().eval().requires_grad_(requires_grad=False)


def stored_codec(path: Path) -> CodecConfig:
    """Returns the sizes of the codec in `path`, without its weights; those of one file are read once.

    Raises:
        CheckpointError: the file is no codec of VampNet.
    """
    status = path.stat()
    return _stored_codec(path, status.st_size, status.st_mtime_ns)


@lru_cache(maxsize=8)
def _stored_codec(path: Path, size: int, modified_ns: int) -> CodecConfig:  # noqa: ARG001 - they distinguish versions of the file
    return codec_config(open_checkpoint(path))


def load_transformer(
    path: Path, codec: Codec, *, lora: Path | None = None, merge: bool = True, device: Device = None
) -> VampTransformer:
    """Returns the transformer in `path`, in float32, over the codebooks of `codec`.

    Low-rank updates that the file holds are always added to the weights, as upstream does; a file that was written
    after it had merged them already sounds as it does there (docs/vamp.md).

    Args:
        path: a file of upstream: a model, or a fine-tune in its published form, which is a whole model.
        codec: of which the codes are.
        lora: a file of low-rank updates alone, which replace those of `path`; its rank may be another.
        merge: add the updates to the weights, for sampling; otherwise they stay apart, as training needs them.
        device: where the weights go; None leaves them in main memory.

    Raises:
        CheckpointError: a file is of another kind; missing and extra tensors are named.
        ConfigError: the transformer belongs to another codec.
    """
    checkpoint = open_checkpoint(path)
    config = transformer_config(checkpoint)
    check_codec(config, codec.config, str(path))
    model = build_transformer(config, lora_rank(checkpoint))
    with release_freed_memory():
        load_into(model, checkpoint, TRANSFORMER, device=device, label="the transformer")
        if lora is not None:
            load_lora(model, lora, device=device)
        model.float()
        if merge:
            merge_lora(model)
    model.codebooks_KVD = codec.codebooks(config.n_codebooks).detach().to(device or "cpu")
    return model.eval().requires_grad_(requires_grad=not merge)


def check_file(model: VampNetConfig, role: str, path: Path) -> None:
    """Checks that a file holds the network `role` of a model: every tensor in its shape, and nothing else.

    Raises:
        CheckpointError: it does not, or is of a model of other sizes.
    """
    checkpoint = open_checkpoint(path)
    if role == CODEC:
        config = codec_config(checkpoint)
        _check_sizes(path, config.codebooks, model.network.codec)
        load_into(build_codec(config), checkpoint, codec_renames(config), device="meta", label="the codec")
        return
    sizes = transformer_config(checkpoint)
    _check_sizes(path, sizes, model.sizes(role))
    made = build_transformer(sizes, lora_rank(checkpoint))
    load_into(made, checkpoint, TRANSFORMER, device="meta", label="the transformer")


def _check_sizes(path: Path, found: object, wanted: object) -> None:
    if found != wanted:
        raise CheckpointError(f"{path} has other sizes than the model: {found}, not {wanted}; choose its own files")


def load_lora(model: VampTransformer, path: Path, *, device: Device = None) -> None:
    """Replaces the low-rank updates of a transformer by those in `path`, a file of nothing else.

    Raises:
        CheckpointError: tensors are missing, left over or of another model, or it is no file of updates.
    """
    checkpoint = open_checkpoint(path)
    rank = lora_rank(checkpoint)
    others = [name for name in checkpoint.tensors if not is_lora(name)]
    if not rank or others:
        held = f"other tensors, such as {others[0]}" if others else "no low-rank updates"
        raise CheckpointError(f"{path} holds {held}; give a file of low-rank updates alone (lora.pth)")
    with shapes_only():
        wanted = VampTransformer(model.config, rank)
    updates = _Updates(wanted)
    load_into(updates, checkpoint, TRANSFORMER, device=device, label="the low-rank updates")
    for name, module in model.named_modules():
        found = updates.get_submodule(name) if isinstance(module, LoRALinear) else None
        if isinstance(module, LoRALinear) and isinstance(found, LoRALinear) and found.lora_A is not None:
            module.lora_A, module.lora_B = found.lora_A, found.lora_B


def lora_rank(checkpoint: Checkpoint) -> int:
    """Returns the rank of the low-rank updates in a file, from their shapes; 0 if it has none.

    Raises:
        CheckpointError: they have several ranks.
    """
    ranks = {checkpoint.tensors[name].shape[0] for name in checkpoint.tensors if name.endswith(".lora_A")}
    if len(ranks) > 1:
        raise CheckpointError(f"{checkpoint.path} holds low-rank updates of ranks {sorted(ranks)}; one is expected")
    return ranks.pop() if ranks else 0


class _Updates(nn.Module):
    """The low-rank updates of a transformer on the meta device, and nothing else of it."""

    def __init__(self, model: VampTransformer) -> None:
        super().__init__()
        self.layers = model.layers
        for module in self.modules():
            for name in [each for each, _ in module.named_parameters(recurse=False) if not is_lora(f".{each}")]:
                module.register_parameter(name, None)
