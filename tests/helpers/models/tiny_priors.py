"""Small priors of every kind, with weights that make a difference."""

from __future__ import annotations

import torch

from jukebox_core.families.jukebox.config import (
    LabelConfig,
    LyricsConfig,
    PriorConfig,
    TimingConfig,
    TransformerConfig,
    UpsampleConfig,
    VQVAEConfig,
)
from jukebox_core.families.jukebox.model.prior import Condition, Prior

VQVAE = VQVAEConfig(
    sample_rate=1000,
    downs=(1, 2, 2),
    strides=(2, 2, 2),
    multipliers=(1, 1, 1),
    width=4,
    depth=1,
    embedding_width=4,
    bins=23,
    dilation_growth=2,
)
LABELS = LabelConfig(vocabulary="v2", artists=7, genres=5, max_genre_words=2)
TIMING = TimingConfig(bins=8, min_seconds=1.0, max_seconds=20.0)


def transformer(**changes: object) -> TransformerConfig:
    settings: dict[str, object] = {"width": 16, "depth": 4, "heads": 2, "attention_order": 2, "blocks": 4}
    return TransformerConfig(**{**settings, **changes})  # type: ignore[arg-type]


CONFIGS = {
    "upsampler": PriorConfig(
        level=1,
        context=32,
        transformer=transformer(residual_scale=True),
        labels=LABELS,
        upsample=UpsampleConfig(width=8, depth=2, dilation_growth=3, dilation_cycle=8, residual_scale=True),
    ),
    "top": PriorConfig(
        level=2, context=32, transformer=transformer(), labels=LABELS, timing=TIMING, merged_decoder=True
    ),
    "lyrics": PriorConfig(
        level=2,
        context=32,
        transformer=transformer(attention_order=6),
        labels=LABELS,
        timing=TIMING,
        lyrics=LyricsConfig(
            tokens=8, characters=11, loss_fraction=0.4, encoder=transformer(width=8, attention_order=2, depth=3)
        ),
        merged_decoder=True,
    ),
    "one_sequence": PriorConfig(
        level=2,
        context=32,
        transformer=transformer(attention_order=12, depth=17),
        labels=LABELS,
        timing=TIMING,
        lyrics=LyricsConfig(tokens=8, characters=11, loss_fraction=0.4),
    ),
    "unlabelled": PriorConfig(level=2, context=32, transformer=transformer(attention_order=0, blocks=None)),
}


def tiny_prior(kind: str) -> Prior:
    torch.manual_seed(0)
    prior = Prior(CONFIGS[kind], VQVAE).eval()
    for name, parameter in prior.named_parameters():
        if "norm" not in name:
            torch.nn.init.normal_(parameter, std=0.3)
    return prior.requires_grad_(requires_grad=False)


def label_rows(prior: Prior, songs: int) -> torch.Tensor:
    config = prior.config
    rows = []
    for song in range(songs):
        row = [5000 + song, 100 * song, config.context * VQVAE.hops[config.level]]
        if config.labels:
            row += [song % config.labels.artists, 1 + song % 3, -1]
        if config.lyrics:
            row += [(song + place) % config.lyrics.characters for place in range(config.lyrics.tokens)]
        rows.append(row)
    return torch.tensor(rows)


def codes_above(prior: Prior, songs: int) -> torch.Tensor | None:
    if prior.above is None:
        return None
    generator = torch.Generator().manual_seed(1)
    return torch.randint(VQVAE.bins, (songs, prior.above_tokens), generator=generator)


def tiny_condition(prior: Prior, songs: int = 2) -> Condition:
    return prior.condition(label_rows(prior, songs), codes_above(prior, songs))


def tiny_codes(prior: Prior, songs: int = 2, length: int | None = None) -> torch.Tensor:
    generator = torch.Generator().manual_seed(2)
    return torch.randint(VQVAE.bins, (songs, length or prior.config.context), generator=generator)
