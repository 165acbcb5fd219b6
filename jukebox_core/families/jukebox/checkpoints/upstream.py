"""OpenAI's hyperparameters in checkpoints, as our records (docs/upstream.md, Hyperparameters). Imports no torch."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from jukebox_core.errors import CheckpointError
from jukebox_core.families.jukebox.config import (
    LabelConfig,
    LyricsConfig,
    PriorConfig,
    TimingConfig,
    TransformerConfig,
    UpsampleConfig,
    VQVAEConfig,
)

Hyperparameters = Mapping[str, Any]


def setting(hps: Hyperparameters, name: str) -> Any:
    """Returns one hyperparameter.

    Raises:
        CheckpointError: it is missing.
    """
    if name not in hps:
        raise CheckpointError(f"hyperparameter {name!r} is not in the checkpoint; use a checkpoint of Jukebox's own")
    return hps[name]


def vqvae_config(hps: Hyperparameters) -> VQVAEConfig:
    """Returns the VQ-VAE's configuration from its checkpoint's `hps`.

    Raises:
        CheckpointError: a hyperparameter is missing.
        ConfigError: they do not agree with each other.
    """
    return VQVAEConfig(
        sample_rate=setting(hps, "sr"),
        downs=tuple(setting(hps, "downs_t")),
        strides=tuple(setting(hps, "strides_t")),
        multipliers=tuple(setting(hps, "hvqvae_multipliers")),
        width=setting(hps, "width"),
        depth=setting(hps, "depth"),
        embedding_width=setting(hps, "emb_width"),
        bins=setting(hps, "l_bins"),
        dilation_growth=setting(hps, "dilation_growth_rate"),
        dilation_cycle=setting(hps, "dilation_cycle"),
        hidden_factor=setting(hps, "m_conv"),
        reverse_decoder_dilation=setting(hps, "vqvae_reverse_decoder_dilation"),
    )


def prior_config(hps: Hyperparameters, vqvae_hps: Hyperparameters) -> PriorConfig:
    """Returns a prior's configuration from its checkpoint's `hps` and the VQ-VAE's, which give the number of levels.

    Raises:
        CheckpointError: a hyperparameter is missing.
        ConfigError: they do not agree with each other.
    """
    level = setting(hps, "level")
    top = level == len(setting(vqvae_hps, "downs_t")) - 1
    return PriorConfig(
        level=level,
        context=setting(hps, "n_ctx"),
        transformer=_transformer_config(hps, prefix="prior_", shared_prefix=""),
        labels=_label_config(hps) if setting(hps, "labels") else None,
        timing=_timing_config(hps) if top and setting(hps, "labels") else None,
        lyrics=_lyrics_config(hps) if setting(hps, "use_tokens") else None,
        upsample=None if top else _upsample_config(hps),
        merged_decoder=setting(hps, "merged_decoder"),
    )


def _transformer_config(hps: Hyperparameters, *, prefix: str, shared_prefix: str) -> TransformerConfig:
    """Width and depth carry one prefix; the other settings have none for the decoder (`heads`, `blocks` ...)."""
    return TransformerConfig(
        width=setting(hps, f"{prefix}width"),
        depth=setting(hps, f"{prefix}depth"),
        heads=setting(hps, f"{shared_prefix}heads"),
        attention_order=setting(hps, f"{shared_prefix}attn_order"),
        blocks=setting(hps, f"{shared_prefix}blocks"),
        attention_factor=setting(hps, f"{shared_prefix}m_attn"),
        mlp_factor=setting(hps, f"{shared_prefix}m_mlp"),
        residual_scale=setting(hps, f"{shared_prefix}res_scale"),
        spread=setting(hps, f"{shared_prefix}spread"),
    )


def _label_config(hps: Hyperparameters) -> LabelConfig:
    genres, artists = setting(hps, "y_bins")
    return LabelConfig(
        vocabulary="v3" if setting(hps, "labels_v3") else "v2",
        artists=artists,
        genres=genres,
        max_genre_words=setting(hps, "max_bow_genre_size"),
    )


def _timing_config(hps: Hyperparameters) -> TimingConfig:
    return TimingConfig(
        bins=setting(hps, "t_bins"), min_seconds=setting(hps, "min_duration"), max_seconds=setting(hps, "max_duration")
    )


def _lyrics_config(hps: Hyperparameters) -> LyricsConfig:
    one_sequence = setting(hps, "single_enc_dec")
    return LyricsConfig(
        tokens=setting(hps, "n_tokens"),
        characters=setting(hps, "n_vocab"),
        loss_fraction=setting(hps, "prime_loss_fraction"),
        encoder=None if one_sequence else _transformer_config(hps, prefix="prime_", shared_prefix="prime_"),
        alignment_layer=setting(hps, "alignment_layer"),
        alignment_head=setting(hps, "alignment_head"),
    )


def _upsample_config(hps: Hyperparameters) -> UpsampleConfig:
    return UpsampleConfig(
        width=setting(hps, "cond_width"),
        depth=setting(hps, "cond_depth"),
        dilation_growth=setting(hps, "cond_dilation_growth_rate"),
        dilation_cycle=setting(hps, "cond_dilation_cycle"),
        hidden_factor=setting(hps, "cond_m_conv"),
        residual_scale=setting(hps, "cond_res_scale"),
    )
