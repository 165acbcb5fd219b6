"""Checks before the codec is trained. Imports no torch before it is needed."""

from __future__ import annotations

from typing import TYPE_CHECKING

from jukebox_core.base.checks import require
from jukebox_core.families.vampnet.training.initialise import check_lapped

if TYPE_CHECKING:
    from jukebox_core.families.vampnet.config import VampNetConfig
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
