"""Untrained checkpoints in OpenAI's format: its names and structure, in either of torch's file formats.

Names are mapped in the opposite direction of `jukebox_core.families.jukebox.checkpoints.renames`; tests compare them
with recorded checkpoints.
"""

from __future__ import annotations

import re
import zlib
from typing import TYPE_CHECKING, Any

import torch

from jukebox_core.families.jukebox.checkpoints.loading import build_prior, build_vqvae
from jukebox_core.families.jukebox.config import JukeboxConfig, PriorConfig, TransformerConfig, VQVAEConfig, level_of

if TYPE_CHECKING:
    from pathlib import Path

    from torch import Tensor, nn


_PREFIXED = "level_0"  # the role whose file has `module.` before every name, as data-parallel training leaves it
_STD = 0.02

# Each pair is a part of our name and its replacement upstream, applied to the whole name in order.
_TRANSFORMER = (
    (r"transformer\.blocks\.(\d+)\.", r"transformer._attn_mods.\1."),
    (r"attention\.project_in\.", "attn.c_attn."),
    (r"attention\.project_encoder\.", "attn.c_enc_kv."),
    (r"attention\.project_out\.", "attn.c_proj."),
    (r"feed_forward\.project_in\.", "mlp.c_fc."),
    (r"feed_forward\.project_out\.", "mlp.c_proj."),
    (r"norm_attention\.", "ln_0."),
    (r"norm_feed_forward\.", "ln_1."),
    (r"(c_\w+)\.([wb])\w+$", r"\1.\2"),
)
_PRIOR = (
    (r"^lyric_encoder\.body\.", "prime_prior."),
    (r"^lyric_encoder\.start_1W$", "prime_prior.start_token"),
    (r"^lyric_encoder\.project\.([wb])\w+$", r"prime_state_proj.\1"),
    (r"^lyric_encoder\.norm\.", "prime_state_ln."),
    (r"^lyric_encoder\.output\.", "prime_x_out."),
    (r"^body\.", "prior."),
    (r"^output\.", "prior.x_out."),
    (r"^start_1W$", "prior.start_token"),
    (r"^(prior|prime_prior)\.embedding\.", r"\1.x_emb."),
    (r"position_PW$", "pos_emb.pos_emb"),
    (r"^labels\.artist\.", "y_emb.artist_emb.emb."),
    (r"^labels\.genre\.", "y_emb.bow_genre_emb.emb."),
    (r"^timing\.total\.", "y_emb.total_length_emb.emb."),
    (r"^timing\.(absolute|relative)\.", r"y_emb.\1_pos_emb.emb."),
    (r"^above\.embedding\.", "conditioner_blocks.0.x_emb."),
    (r"^above\.norm\.", "conditioner_blocks.0.ln."),
    (r"^above\.upsampler\.layers\.(\d+)\.strided\.", r"conditioner_blocks.0.cond.model.\1.1."),
    (r"^above\.upsampler\.layers\.(\d+)\.stack\.blocks\.", r"conditioner_blocks.0.cond.model.\1.0.blocks."),
    (r"^above\.upsampler\.layers\.", "conditioner_blocks.0.cond.model."),
    *_TRANSFORMER,
)
_VQVAE = (
    (r"^levels\.(\d+)\.codebook$", r"bottleneck.level_blocks.\1.k"),
    (r"^levels\.(\d+)\.output\.", r"decoders.\1.out."),
    (r"^levels\.(\d+)\.(encoder|decoder)\.(\d+)\.layers\.", r"\2s.\1.level_blocks.\3.model."),
    (r"^(encoders.*)\.strided\.", r"\1.0."),
    (r"^(encoders.*)\.stack\.blocks\.", r"\1.1.model."),
    (r"^(decoders.*)\.strided\.", r"\1.1."),
    (r"^(decoders.*)\.stack\.blocks\.", r"\1.0.model."),
)
_RESIDUAL = ((r"\.dilated\.", ".model.1."), (r"\.pointwise\.", ".model.3."))


def upstream_name(name: str, *, vqvae: bool) -> str:
    """Returns the name in OpenAI's files of the tensor `name` of our VQ-VAE or priors (docs/upstream.md, Layers)."""
    for pattern, replacement in (*(_VQVAE if vqvae else _PRIOR), *_RESIDUAL):
        name = re.sub(pattern, replacement, name)
    return name


def build(config: JukeboxConfig, role: str) -> nn.Module:
    """Returns the network of `role` on the meta device."""
    return build_vqvae(config) if role == "vqvae" else build_prior(config, level_of(role))


def draw(name: str, shape: torch.Size) -> Tensor:
    """Returns the weights of our tensor `name`: a function of the name, so that loaded weights can be checked.

    Weights of norms are ones; all others are small, so that half precision does not overflow.
    """
    if re.search(r"norm\w*\.weight$", name):
        return torch.ones(shape)
    return torch.empty(shape).normal_(std=_STD, generator=torch.Generator().manual_seed(zlib.crc32(name.encode())))


def write_upstream(config: JukeboxConfig, role: str, path: Path, *, legacy: bool) -> int:
    """Writes an untrained checkpoint of `role` in OpenAI's format; returns the size of the weights in bytes.

    `legacy` is the sequence of pickles that torch wrote before 1.6; otherwise it is torch's zip. Tied tensors share
    storage, as upstream: the file holds them once, under both names.
    """
    prefix = "module." if role == _PREFIXED else ""
    drawn: dict[int, Tensor] = {}
    model = {}
    for name, target in build(config, role).state_dict(keep_vars=True).items():
        if id(target) not in drawn:
            drawn[id(target)] = draw(name, target.shape)
        model[prefix + upstream_name(name, vqvae=role == "vqvae")] = drawn[id(target)]
    hps = vqvae_hps(config.vqvae) if role == "vqvae" else prior_hps(config.priors[level_of(role)])
    content = {"model": model, "hps": hps, "step": 0, "opt": None}
    torch.save(content, path, _use_new_zipfile_serialization=not legacy)
    return sum(tensor.nbytes for tensor in drawn.values())


def vqvae_hps(config: VQVAEConfig) -> dict[str, Any]:
    """Returns the VQ-VAE's hyperparameters under OpenAI's names, as `upstream.vqvae_config` reads them."""
    return {
        "sr": config.sample_rate,
        "downs_t": config.downs,
        "strides_t": config.strides,
        "hvqvae_multipliers": config.multipliers,
        "width": config.width,
        "depth": config.depth,
        "emb_width": config.embedding_width,
        "l_bins": config.bins,
        "dilation_growth_rate": config.dilation_growth,
        "dilation_cycle": config.dilation_cycle,
        "m_conv": config.hidden_factor,
        "vqvae_reverse_decoder_dilation": config.reverse_decoder_dilation,
    }


def prior_hps(config: PriorConfig) -> dict[str, Any]:
    """Returns a prior's hyperparameters under OpenAI's names, as `upstream.prior_config` reads them."""
    hps: dict[str, Any] = {"level": config.level, "n_ctx": config.context, "merged_decoder": config.merged_decoder}
    hps |= _transformer_hps(config.transformer, prefix="prior_", shared_prefix="")
    hps |= {"labels": config.labels is not None, "use_tokens": config.lyrics is not None}
    if labels := config.labels:
        hps |= {"labels_v3": labels.vocabulary == "v3", "y_bins": (labels.genres, labels.artists)}
        hps |= {"max_bow_genre_size": labels.max_genre_words}
    if timing := config.timing:
        hps |= {"t_bins": timing.bins, "min_duration": timing.min_seconds, "max_duration": timing.max_seconds}
    if lyrics := config.lyrics:
        hps |= {"n_tokens": lyrics.tokens, "n_vocab": lyrics.characters, "prime_loss_fraction": lyrics.loss_fraction}
        hps |= {"alignment_layer": lyrics.alignment_layer, "alignment_head": lyrics.alignment_head}
        hps |= {"single_enc_dec": lyrics.encoder is None}
        if lyrics.encoder is not None:
            hps |= _transformer_hps(lyrics.encoder, prefix="prime_", shared_prefix="prime_")
    if upsample := config.upsample:
        hps |= {"cond_width": upsample.width, "cond_depth": upsample.depth, "cond_m_conv": upsample.hidden_factor}
        hps |= {"cond_dilation_growth_rate": upsample.dilation_growth, "cond_dilation_cycle": upsample.dilation_cycle}
        hps |= {"cond_res_scale": upsample.residual_scale}
    return hps


def _transformer_hps(config: TransformerConfig, *, prefix: str, shared_prefix: str) -> dict[str, Any]:
    shared = {
        "heads": config.heads,
        "attn_order": config.attention_order,
        "blocks": config.blocks,
        "m_attn": config.attention_factor,
        "m_mlp": config.mlp_factor,
        "res_scale": config.residual_scale,
        "spread": config.spread,
    }
    own = {f"{prefix}width": config.width, f"{prefix}depth": config.depth}
    return own | {shared_prefix + name: value for name, value in shared.items()}
