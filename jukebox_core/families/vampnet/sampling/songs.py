"""The variations of a run as graphs: each has a recording, whose codes are its initial take, and a mask."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch

from jukebox_core.families.vampnet.config import CODEC, FINE_LEVEL, varies_only
from jukebox_core.families.vampnet.engine import check_parity
from jukebox_core.families.vampnet.masks import parts
from jukebox_core.families.vampnet.masks.build import build_mask
from jukebox_core.families.vampnet.masks.draws import GeneratorDraws
from jukebox_core.families.vampnet.sampling.graph import Variation, VariationPlan, plan_variation

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    import numpy as np
    from numpy.typing import NDArray

    from jukebox_core.families.vampnet.config import VampNetConfig
    from jukebox_core.families.vampnet.masks.config import MaskConfig
    from jukebox_core.families.vampnet.sampling.config import VampSampling
    from jukebox_core.families.vampnet.sampling.song import Varied
    from jukebox_core.tokens.graph import Take


def mask_of(config: VampNetConfig, mask: MaskConfig, sampling: VampSampling, steps: int) -> NDArray[np.bool_]:
    """Returns the mask [K, T] of a recording of `steps` tokens, stretched, true where tokens are generated.

    All variations of a recording have the same one: the seed decides its random parts.

    Raises:
        ConfigError: a beat or a time is outside the recording, or a drawn mask has another shape.
    """
    codec = config.network.codec
    draws = GeneratorDraws.of_seed(sampling.seed)
    made_1KT = build_mask((1, codec.n_codebooks, steps), mask, codec, draws, parity=sampling.parity)
    slowed: NDArray[np.bool_] = parts.stretched(torch.zeros_like(made_1KT), made_1KT, mask.stretch)[1][0].numpy()
    return slowed.copy()


def plan_songs(
    config: VampNetConfig,
    sampling: VampSampling,
    dtype: str,
    songs: Sequence[Varied],
    weights: Mapping[str, str],
    have: Sequence[Take],
) -> list[VariationPlan]:
    """Returns the plan of each variation.

    Args:
        config: the model.
        sampling: of the run.
        dtype: precision of the weights.
        songs: the variations.
        weights: identities by role.
        have: the codes of the recording of each variation.

    Raises:
        ConfigError: a variation has no recording, or its mask does not fit it, or parity in another precision.
    """
    check_parity(dtype, parity=sampling.parity)
    masks: dict[Any, NDArray[np.bool_]] = {}
    plans = []
    for song, take in zip(songs, have, strict=True):
        source = take[FINE_LEVEL]
        if not len(source):
            raise varies_only()
        place = (song.mask, len(source))
        if place not in masks:
            masks[place] = mask_of(config, song.mask, sampling, len(source))
        plans.append(
            plan_variation(
                Variation(
                    config=config,
                    weights={CODEC: weights[CODEC], **weights},
                    sampling=sampling,
                    dtype=dtype,
                    sample=song.variation,
                    source=source,
                    mask_KT=masks[place],
                    stretch=song.mask.stretch,
                )
            )
        )
    return plans
