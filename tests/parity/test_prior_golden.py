"""Priors on whole windows, against the original's numbers (docs/upstream.md, Priors; bundles `teacher_forced`)."""

from __future__ import annotations

import math
import re
from typing import TYPE_CHECKING

import pytest
import torch

from jukebox_core.families.jukebox.checkpoints.renames import PRIOR_RENAMES
from jukebox_core.families.jukebox.model.attention_patterns import AttentionType, attention_types
from tests.helpers.models.golden_priors import (
    FILES,
    FLOAT16,
    FLOAT32,
    close,
    condition,
    read_bundle,
    read_plain_prior,
    read_prior,
    read_vqvae,
)

if TYPE_CHECKING:
    from pathlib import Path

    from jukebox_core.families.jukebox.model.prior import Losses

LOSS_ATOL = {torch.float32: 1e-5, torch.float16: 2e-3}  # a mean over all positions, where rounding averages out
KINDS = pytest.mark.parametrize("kind", FILES)


def same_losses(losses: Losses, expected: dict[str, float], atol: float) -> None:
    found = {"loss": losses.total.item(), "prime_loss": losses.lyrics.item(), "gen_loss": losses.music.item()}
    for name, value in found.items():
        assert math.isclose(value, expected[name], abs_tol=atol), (name, value, expected[name])


@KINDS
@torch.no_grad()
def test_condition(golden: Path, kind: str) -> None:
    arrays = read_bundle(golden, f"prior_{kind}/teacher_forced").arrays
    prior = read_prior(golden, kind)
    found = condition(prior, arrays)
    close(found.start_B1W, arrays["y_cond"], "y_cond", **FLOAT32)
    assert found.signal_BTW is not None
    close(found.signal_BTW, arrays["x_cond"], "x_cond", **FLOAT32)
    assert (found.lyrics_BN is not None) == ("prime_tokens" in arrays)
    if found.lyrics_BN is not None:
        assert found.lyrics_BN.equal(arrays["prime_tokens"])
    assert (found.encoder_BNW is not None) == ("encoder_kv" in arrays)
    if found.encoder_BNW is not None and prior.lyric_encoder is not None:
        close(found.encoder_BNW, arrays["encoder_kv"], "encoder_kv", **FLOAT32)
        close(found.encoder_BNW.half(), arrays["encoder_kv_fp16"], "encoder_kv_fp16", **FLOAT16)
        close(prior.lyric_encoder.output(found.encoder_BNW), arrays["prime_logits"], "prime_logits", **FLOAT32)


@KINDS
@torch.no_grad()
def test_teacher_forced(golden: Path, kind: str) -> None:
    bundle = read_bundle(golden, f"prior_{kind}/teacher_forced")
    z, cases = bundle.arrays["z"], ((torch.float32, "", FLOAT32), (torch.float16, "_fp16", FLOAT16))
    for dtype, suffix, tolerance in cases:
        prior = read_prior(golden, kind, dtype)
        conditioning = condition(prior, bundle.arrays)
        close(prior(z, conditioning), bundle.arrays[f"logits{suffix}"], f"logits{suffix}", **tolerance)
        same_losses(prior.losses(z, conditioning), bundle.info[f"loss{suffix}"], LOSS_ATOL[dtype])


@KINDS
@torch.no_grad()
def test_attention_weights(golden: Path, kind: str) -> None:
    bundle = read_bundle(golden, f"prior_{kind}/teacher_forced")
    prior, attributes = read_prior(golden, kind), bundle.info["attrs"]
    config = prior.config.transformer
    assert list(attention_types(config.attention_order, config.depth)) == attributes["attn_funcs"]
    layers = attributes["attn_w_layers"]
    found = prior.attention_weights(bundle.arrays["z"][:1], condition(prior, bundle.arrays, 1), layers)
    assert list(found) == layers
    for layer, weights in found.items():
        close(weights, bundle.arrays[f"attn_w_layer{layer}_item0"], f"layer {layer}", **FLOAT32)


@KINDS
@torch.no_grad()
def test_derived_sizes(golden: Path, kind: str) -> None:
    attributes = read_bundle(golden, f"prior_{kind}/teacher_forced").info["attrs"]
    prior, vqvae = read_prior(golden, kind), read_vqvae(golden)
    config = prior.config
    assert config.context == attributes["n_ctx"]
    assert vqvae.config.hops[config.level] == attributes["raw_to_tokens"]
    assert (config.lyrics.tokens if config.lyrics else 0) == attributes["n_tokens"]
    if prior.above is not None:
        assert config.context // prior.above_tokens == attributes["cond_downsample"]
    if "prime_len_rounded" in attributes:
        prime = prior.body.transformer.blocks[attributes["attn_funcs"].index(AttentionType.PRIME)]
        assert prime.attention.keys == attributes["prime_len_rounded"]
        assert prior.shift == attributes["prior_bins_shift"][-1]


@KINDS
@torch.no_grad()
def test_from_audio(golden: Path, kind: str) -> None:
    bundle = read_bundle(golden, f"prior_{kind}/teacher_forced")
    raw = {key.removeprefix("raw."): value for key, value in bundle.arrays.items() if key.startswith("raw.")}
    prior, vqvae = read_prior(golden, kind), read_vqvae(golden)
    level = prior.config.level
    codes = vqvae.encode(raw["x"][..., 0])
    for index in range(vqvae.config.levels - level):
        assert codes[level + index].equal(raw[f"z{index}"])
    close(vqvae.decode(codes[level], level), raw["x_out"][..., 0], "x_out", atol=1e-4, rtol=0.0)
    conditioning = prior.condition(raw["y"], codes[level + 1] if prior.above is not None else None)
    logits = prior(codes[level], conditioning)
    last = raw["logits_last8"]
    close(logits[:, -last.shape[1] :], last, "logits_last8", **FLOAT32)
    same_losses(prior.losses(codes[level], conditioning), bundle.info["raw_loss"], LOSS_ATOL[torch.float32])


@KINDS
def test_gradients(golden: Path, kind: str) -> None:
    """Norms of the loss's gradient: training differentiates the plain forward."""
    bundle = read_bundle(golden, f"training/prior_{kind}")
    prior = read_plain_prior(golden, kind)
    conditioning = condition(prior, bundle.arrays)
    losses = prior.losses(bundle.arrays["z"], conditioning)
    close(prior(bundle.arrays["z"], conditioning), bundle.arrays["logits"], "logits", **FLOAT32)
    same_losses(losses, bundle.info, LOSS_ATOL[torch.float32])
    names, tensors = zip(*prior.named_parameters(), strict=True)
    gradients = dict(zip(names, torch.autograd.grad(losses.total, tensors), strict=True))
    every = torch.stack([gradient.double().norm() for gradient in gradients.values()]).norm().item()
    assert math.isclose(every, bundle.info["grad_norm"], rel_tol=1e-3)
    checked = set()
    for theirs, expected in bundle.info["grads"].items():
        plain = theirs.removeprefix("module.")
        ours = next(re.sub(old, new, plain) for old, new in PRIOR_RENAMES if re.fullmatch(old, plain))
        norm = gradients[ours].double().norm().item()
        # Half storage of a weight rounds its gradient to 11 bits.
        tolerance = 1e-3 if gradients[ours].dtype == torch.float16 else 1e-4
        assert math.isclose(norm, expected["norm"], rel_tol=tolerance, abs_tol=1e-6), (theirs, norm, expected)
        total = gradients[ours].double().sum().item()
        slack = tolerance * norm * gradients[ours].numel() ** 0.5  # the sum of the rounding of single elements
        assert math.isclose(total, expected["sum"], rel_tol=tolerance, abs_tol=max(slack, 1e-6)), (theirs, total)
        checked.add(ours)
    assert checked == set(names)
