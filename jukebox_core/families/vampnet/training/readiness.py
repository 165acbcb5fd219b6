"""Checks before the codec is trained. Imports no torch before it is needed."""

from __future__ import annotations

from typing import TYPE_CHECKING

from jukebox_core.base.checks import require

if TYPE_CHECKING:
    from jukebox_core.families.vampnet.config import CodecConfig, VampNetConfig
    from jukebox_core.families.vampnet.training.config import CodecTraining


def check_codec_training(config: VampNetConfig, training: CodecTraining) -> None:
    """Checks that a new codec makes the model's tokens, and that the losses' windows fit into a clip.

    Raises:
        ConfigError: one does not.
    """
    sizes = training.networks.config(config.network.codec)
    if training.initial == "lapped_transform":
        check_lapped(sizes)
    longest, samples = max(training.loss.resolutions.windows), int(training.seconds * sizes.sample_rate)
    require(
        samples > longest // 2,
        f"training.codec.seconds is {training.seconds:g}, which is {samples} samples; a window of {longest} needs more "
        f"than {longest // 2}: make the clips longer, or training.codec.loss.resolutions.windows shorter",
    )
    tokens, entries = int(training.fitted_seconds * sizes.sample_rate) // sizes.hop, sizes.codebook_size
    require(
        tokens >= entries,
        f"training.codec.fitted_seconds is {training.fitted_seconds:g}, which is {tokens} tokens; {entries} entries "
        f"are fitted to at least as many, so raise it to {entries * sizes.hop / sizes.sample_rate:.1f}",
    )


def check_lapped(config: CodecConfig) -> None:
    """Checks that a codec has room for a lapped transform.

    Raises:
        ConfigError: a stride is odd, or a stage has too few channels.
    """
    rates = (*config.encoder_rates, *config.decoder_rates)
    require(
        not any(rate % 2 for rate in rates),
        f"strides are {list(rates)}; for initial=lapped_transform all must be even, or set initial=random",
    )
    block = 1
    for stage, rate in enumerate(config.encoder_rates[:-1]):
        block *= rate
        _require_room("encoder_dim", config.encoder_dim, config.encoder_dim * 2 ** (stage + 1), block)
    block = config.hop
    for stage, rate in enumerate(config.decoder_rates):
        block //= rate
        _require_room("decoder_dim", config.decoder_dim, config.decoder_dim >> (stage + 1), block)
    require(
        min(config.book_dims) > 1,
        f"codebook_dim is {config.codebook_dim}; for initial=lapped_transform each needs 2 or more",
    )


def _require_room(name: str, value: int, channels: int, block: int) -> None:
    require(
        channels >= block,
        f"{name} is {value}, which gives a stage {channels} channels for {block} samples; for initial=lapped_transform "
        "make it larger, or set initial=random",
    )
