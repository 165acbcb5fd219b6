"""Whole models in the layout of the Hugging Face hub: their key names, and the extraction of one network.

In that layout a model is one set of files (shards) with a flat dict of tensors each; names begin with ``vqvae.`` or
``priors.0.`` (the top level), ``priors.1.``, ``priors.2.``. Tables as in `renames.py`.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING

from jukebox_core.errors import CheckpointError
from jukebox_core.families.jukebox.checkpoints.loading import build_prior, build_vqvae
from jukebox_core.families.jukebox.config import JukeboxConfig, level_of
from jukebox_core.models.checkpoints.checkpoint import Checkpoint, matched_names, open_checkpoint, save_safetensors

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from torch import Tensor, nn

    from jukebox_core.families.jukebox.checkpoints.renames import Renames

_CONVOLUTIONS = (("1", "dilated"), ("2", "pointwise"))
_MOST_STEPS = 6  # of a stack; the released models have up to 3


def _steps(theirs: str, ours: str, *, strided_first: bool) -> Renames:
    """Returns the table of a stack: theirs is a flat list of alternating strided convolutions and residual stacks.

    Regular expressions cannot divide by two, so each step has its own lines. `ours` counts steps from 0 in an encoder
    and from 1 in a decoder, whose layer 0 is the convolution before them.
    """
    lines: list[tuple[str, str]] = []
    for step in range(_MOST_STEPS):
        strided, stack = (2 * step, 2 * step + 1) if strided_first else (2 * step + 1, 2 * step)
        layer = step if strided_first else step + 1
        lines.append((rf"{theirs}\.{strided}\.(?P<what>weight|bias)", rf"{ours}.{layer}.strided.\g<what>"))
        lines += [
            (
                rf"{theirs}\.{stack}\.resnet_block\.(?P<block>\d+)\.conv1d_{number}\.(?P<what>\w+)",
                rf"{ours}.{layer}.stack.blocks.\g<block>.{convolution}.\g<what>",
            )
            for number, convolution in _CONVOLUTIONS
        ]
    return tuple(lines)


_ENCODER = r"encoders\.(?P<level>\d+)\.level_blocks\.(?P<part>\d+)"
_DECODER = r"decoders\.(?P<level>\d+)\.level_blocks\.(?P<part>\d+)"
_OUR_ENCODER = r"levels.\g<level>.encoder.\g<part>.layers"
_OUR_DECODER = r"levels.\g<level>.decoder.\g<part>.layers"


def vqvae_renames(downs: Sequence[int]) -> Renames:
    """Returns the table for a VQ-VAE whose level blocks each halve the length `downs` times."""
    inner = tuple(
        (
            rf"encoders\.(?P<level>\d+)\.level_blocks\.{part}\.proj_out\.(?P<what>\w+)",
            rf"levels.\g<level>.encoder.{part}.layers.{count}.\g<what>",
        )
        for part, count in enumerate(downs)
    )
    return (
        *_steps(rf"{_ENCODER}\.downsample_block", _OUR_ENCODER, strided_first=True),
        *inner,
        *_steps(rf"{_DECODER}\.upsample_block", _OUR_DECODER, strided_first=False),
        (rf"{_DECODER}\.proj_in\.(?P<what>\w+)", rf"{_OUR_DECODER}.0.\g<what>"),
        (r"decoders\.(?P<level>\d+)\.out\.(?P<what>\w+)", r"levels.\g<level>.output.\g<what>"),
        (r"bottleneck\.level_blocks\.(?P<level>\d+)\.codebook", r"levels.\g<level>.codebook"),
    )


def _body(theirs: str, ours: str) -> Renames:
    """Returns the table of embeddings and transformer: decoder and lyric encoder have the same parts."""
    layer, block = rf"{theirs}\.transformer\._attn_mods\.(\d+)", rf"{ours}.transformer.blocks.\1"
    projections = (
        ("attn.c_attn", "attention.project_in"),
        ("attn.c_enc_kv", "attention.project_encoder"),
        ("attn.c_proj", "attention.project_out"),
        ("mlp.c_fc", "feed_forward.project_in"),
        ("mlp.c_proj", "feed_forward.project_out"),
        ("layer_norm_0", "norm_attention"),
        ("layer_norm_1", "norm_feed_forward"),
    )
    return (
        (rf"{theirs}\.embed_tokens\.weight", rf"{ours}.embedding.weight"),
        (rf"{theirs}\.pos_emb\.pos_emb", rf"{ours}.position_PW"),
        *((rf"{layer}\.{re.escape(name)}\.(\w+)", rf"{block}.{mine}.\2") for name, mine in projections),
    )


HUB_PRIOR_RENAMES: Renames = (
    *_body("prior", "body"),
    (r"prior\.fc_proj_out\.weight", "output.weight"),
    (r"prior\.start_token", "start_1W"),
    (r"metadata_embedding\.artist_emb\.weight", "labels.artist.weight"),
    (r"metadata_embedding\.bow_genre_emb\.weight", "labels.genre.weight"),
    (r"metadata_embedding\.total_length_emb\.emb\.weight", "timing.total.weight"),
    (r"metadata_embedding\.(absolute|relative)_pos_emb\.emb\.weight", r"timing.\1.weight"),
    (r"conditioner_blocks\.embed_tokens\.weight", "above.embedding.weight"),
    (r"conditioner_blocks\.layer_norm\.(\w+)", r"above.norm.\1"),
    (r"conditioner_blocks\.upsampler\.proj_in\.(\w+)", r"above.upsampler.layers.0.\1"),
    *_steps(r"conditioner_blocks\.upsampler\.upsample_block", "above.upsampler.layers", strided_first=False),
    *_body("encoder", "lyric_encoder.body"),
    (r"encoder\.start_token", "lyric_encoder.start_1W"),
    (r"encoder\.proj_in\.(\w+)", r"lyric_encoder.project.\1"),
    (r"encoder\.final_layer_norm\.(\w+)", r"lyric_encoder.norm.\1"),
    (r"encoder\.lm_head\.weight", "lyric_encoder.output.weight"),
)


def write_network(config: JukeboxConfig, role: str, shards: Sequence[Path], target: Path) -> None:
    """Writes the network of one role of a whole model to a safetensors file, under our names.

    Raises:
        CheckpointError: a shard is no checkpoint, or they hold another model.
    """
    opened = [open_checkpoint(shard) for shard in shards]
    network: nn.Module
    if role == "vqvae":
        prefix, network, renames = "vqvae.", build_vqvae(config), vqvae_renames(config.vqvae.downs)
    else:
        prefix, network = f"priors.{config.top - level_of(role)}.", build_prior(config, level_of(role))
        renames = HUB_PRIOR_RENAMES
    names = [(shard, name) for shard in opened for name in shard.tensors if name.startswith(prefix)]
    stored = {name.removeprefix(prefix): (shard, name) for shard, name in names}
    if not stored:
        files = ", ".join(shard.name for shard in shards)
        raise CheckpointError(f"{files} hold no {prefix}*; give all shards of a whole Jukebox model from the hub")
    whole = Checkpoint(shards[0].parent, _Network(stored), {})
    ours = matched_names(network, whole, renames)
    save_safetensors(_Network({name: stored[theirs] for name, theirs in ours.items()}), target)


class _Network(Mapping[str, "Tensor"]):
    """Tensors of several files under our names, each read when it is accessed."""

    def __init__(self, stored: Mapping[str, tuple[Checkpoint, str]]) -> None:
        self._stored = stored

    def __getitem__(self, name: str) -> Tensor:
        shard, theirs = self._stored[name]
        return shard.tensors[theirs]

    def __iter__(self) -> Iterator[str]:
        return iter(self._stored)

    def __len__(self) -> int:
        return len(self._stored)
