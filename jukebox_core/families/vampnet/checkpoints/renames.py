"""Names of tensors in upstream's files, as (pattern, our name)."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from jukebox_core.families.vampnet.config import CodecConfig

Renames = tuple[tuple[str, str], ...]

_CONV = r"(weight_g|weight_v|bias)"
_RESIDUAL = (("0", "snake_1", "alpha"), ("1", "conv_1", _CONV), ("2", "snake_2", "alpha"), ("3", "conv_2", _CONV))

TRANSFORMER: Renames = (
    (r"embedding\.special\.MASK", "embedding.mask_KD"),
    (r"embedding\.out_proj\.(weight|bias)", r"embedding.project.\1"),
    (r"transformer\.layers\.0\.self_attn\.relative_attention_bias\.weight", "positions.weight"),
    (r"transformer\.layers\.(\d+)\.self_attn\.(.+)", r"layers.\1.attention.\2"),
    (r"transformer\.layers\.(\d+)\.(norm_1|norm_3|feed_forward)\.(.+)", r"layers.\1.\2.\3"),
    (r"transformer\.norm\.weight", "norm.weight"),
    (rf"classifier\.layers\.0\.{_CONV}", r"classifier.\1"),
)

_THEIRS: Renames = (
    (r"embedding\.mask_KD", "embedding.special.MASK"),
    (r"embedding\.project\.(.+)", r"embedding.out_proj.\1"),
    (r"positions\.weight", "transformer.layers.0.self_attn.relative_attention_bias.weight"),
    (r"layers\.(\d+)\.attention\.(.+)", r"transformer.layers.\1.self_attn.\2"),
    (r"layers\.(.+)", r"transformer.layers.\1"),
    (r"norm\.weight", "transformer.norm.weight"),
    (r"classifier\.(.+)", r"classifier.layers.0.\1"),
)


def upstream_name(name: str) -> str:
    """Returns upstream's name of a transformer's tensor."""
    matches = ((re.fullmatch(pattern, name), theirs) for pattern, theirs in _THEIRS)
    return next(match.expand(theirs) for match, theirs in matches if match)


def codec_renames(config: CodecConfig) -> Renames:
    """Returns the names of a codec's tensors; upstream numbers the stages together with what is around them."""
    made: list[tuple[str, str]] = [
        (rf"quantizer\.quantizers\.(\d+)\.(in_proj|out_proj)\.{_CONV}", r"quantizers.\1.\2.\3"),
        (r"quantizer\.quantizers\.(\d+)\.codebook\.weight", r"quantizers.\1.codebook.weight"),
    ]
    for stack, prefix, count in (
        ("encoder", r"encoder\.block", len(config.encoder_rates)),
        ("decoder", r"decoder\.model", len(config.decoder_rates)),
    ):
        made += [
            (rf"{prefix}\.0\.{_CONV}", rf"{stack}.first.\1"),
            (rf"{prefix}\.{count + 1}\.alpha", f"{stack}.snake.alpha"),
            (rf"{prefix}\.{count + 2}\.{_CONV}", rf"{stack}.last.\1"),
        ]
        for stage in range(count):
            made += _stage(stack, rf"{prefix}\.{stage + 1}\.block", f"{stack}.stages.{stage}")
    return tuple(made)


def _stage(stack: str, theirs: str, ours: str) -> list[tuple[str, str]]:
    if stack == "encoder":
        outer = [(rf"{theirs}\.3\.alpha", f"{ours}.snake.alpha"), (rf"{theirs}\.4\.{_CONV}", rf"{ours}.conv.\1")]
        unit, mine = rf"{theirs}\.([012])\.block", rf"{ours}.units.\1"
        own = r"\2"
    else:
        outer = [(rf"{theirs}\.0\.alpha", f"{ours}.snake.alpha"), (rf"{theirs}\.1\.{_CONV}", rf"{ours}.conv.\1")]
        unit, mine = rf"{theirs}\.2\.mrf_blocks\.([012])\.block\.([012])\.layer", rf"{ours}.branches.\1.units.\2"
        own = r"\3"
    parts = [
        (rf"{unit}\.{number}\.{leaf}", f"{mine}.{name}.{'alpha' if leaf == 'alpha' else own}")
        for number, name, leaf in _RESIDUAL
    ]
    return outer + parts
