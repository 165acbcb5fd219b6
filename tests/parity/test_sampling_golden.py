"""Sampled tokens and the logits of every step against the original's (docs/upstream.md, Sampling, Windows)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
import torch

from jukebox_core.families.jukebox.conditioning.labels import window_row
from jukebox_core.families.jukebox.sampling.config import LevelSampling
from jukebox_core.families.jukebox.sampling.decoder import WindowDecoder, clamp_codes, decode_window
from jukebox_core.sampling.loop import prefill
from jukebox_core.sampling.noise import GeneratorNoise
from jukebox_core.tokens.plan import append_window
from tests.helpers.models.golden_priors import (
    FILES,
    FLOAT16,
    FLOAT32,
    Bundle,
    close,
    condition,
    read_bundle,
    read_prior,
    read_vqvae,
    song_labels,
)

if TYPE_CHECKING:
    from pathlib import Path

    from torch import Tensor

    from jukebox_core.families.jukebox.model.prior import Prior

DEEP = {"p5bl", "p1bl"}  # tens of layers: their steps take long
KINDS = pytest.mark.parametrize(
    "kind", [pytest.param(kind, marks=pytest.mark.slow) if kind in DEEP else kind for kind in FILES]
)


def how_drawn(case: dict[str, Any]) -> LevelSampling:
    return LevelSampling(temperature=case["temp"], top_k=case.get("top_k"), top_p=case.get("top_p"))


def sample(prior: Prior, bundle: Bundle, case: dict[str, Any]) -> Tensor:
    songs = case["n_samples"]
    known = bundle.arrays["z"][:songs, : case["z_len"] or 0]
    new = case.get("sample_tokens", prior.config.context) - known.shape[1]
    conditioning = condition(prior, bundle.arrays, songs)
    torch.manual_seed(case["seed"])
    blocks = decode_window(
        prior,
        conditioning,
        known,
        new,
        how_drawn(case),
        GeneratorNoise(songs),
        start=0,
        prefill_chunk=case.get("chunk_size"),
    )
    return torch.cat([known, clamp_codes(torch.cat([*blocks], dim=1))], dim=1)


@KINDS
@torch.no_grad()
def test_sampled_tokens(golden: Path, kind: str) -> None:
    """Every float32 case token for token; half precision rounds differently, so that its tokens are not comparable."""
    bundle = read_bundle(golden, f"prior_{kind}/sampling")
    prior = read_prior(golden, kind)
    different = []
    for name, case in bundle.info.items():
        if case.get("fp16"):
            continue
        tokens = sample(prior, bundle, case)
        assert [*tokens.shape] == case["out_shape"], name
        if not tokens.equal(bundle.arrays[f"{name}.tokens"]):
            different.append(name)
    assert not different


@KINDS
@torch.no_grad()
def test_step_logits(golden: Path, kind: str) -> None:
    """Logits of every position: known tokens in chunks, the rest in steps, with the original's tokens fed back."""
    bundle = read_bundle(golden, f"prior_{kind}/sampling")
    cases = {name: case for name, case in bundle.info.items() if f"{name}.logits" in bundle.arrays}
    assert cases
    for name, case in cases.items():
        dtype, tolerance = (torch.float16, FLOAT16) if case.get("fp16") else (torch.float32, FLOAT32)
        prior = read_prior(golden, kind, dtype)
        expected = bundle.arrays[f"{name}.logits"]
        tokens = bundle.arrays.get(f"{name}.raw_tokens", bundle.arrays[f"{name}.tokens"])
        first = prior.config.lyric_positions + (case["z_len"] or 0)
        model = WindowDecoder(prior, condition(prior, bundle.arrays, case["n_samples"]))
        pieces = torch.split(tokens[:, :first], case.get("chunk_size") or 2**20, dim=1) if first else ()
        features = [model.read(piece) for piece in pieces]
        for position in range(first, tokens.shape[1]):
            features.append(model.predict())
            model.feed(tokens[:, position])
        close(model.logits(torch.cat(features, dim=1)), expected, name, **tolerance)


@KINDS
@torch.no_grad()
def test_partial_windows(golden: Path, kind: str) -> None:
    """Windows that add a few tokens to existing ones, looking back as far as the context allows."""
    bundle = read_bundle(golden, f"prior_{kind}/partial_window")
    prior, info, rows = read_prior(golden, kind), bundle.info, bundle.arrays["labels_y"]
    hop = read_vqvae(golden).config.hops[prior.config.level]
    songs = [song_labels(prior, row, meta["lyrics"]) for row, meta in zip(rows.tolist(), info["metas"], strict=True)]
    codes = torch.zeros(len(songs), 0, dtype=torch.int64)
    kwargs = info["sampling_kwargs"]
    assert len(songs) <= kwargs["max_batch_size"]  # the batch is one part
    for call, seed in enumerate(info["seeds"]):
        window = append_window(codes.shape[1], info["tokens_to_sample"], prior.config.context)
        length = prior.config.context * hop
        labels = [window_row(song, prior.config, sample_length=length, start=window.start).row for song in songs]
        torch.manual_seed(seed)
        blocks = decode_window(
            prior,
            prior.condition(torch.tensor(labels)),
            codes[:, window.start :],
            window.new,
            how_drawn(kwargs),
            GeneratorNoise(len(songs)),
            start=window.start,
            prefill_chunk=kwargs["chunk_size"],
        )
        codes = torch.cat([codes, clamp_codes(torch.cat([*blocks], dim=1))], dim=1)
        assert codes.equal(bundle.arrays[f"after_call{call}"]), call


@KINDS
@torch.no_grad()
def test_known_codes_in_chunks_of_any_size(golden: Path, kind: str) -> None:
    """Chunks that straddle rows give the logits that one chunk gives."""
    bundle = read_bundle(golden, f"prior_{kind}/sampling")
    prior = read_prior(golden, kind)
    conditioning = condition(prior, bundle.arrays)
    tokens = prior.sequence(bundle.arrays["z"], conditioning)
    whole = prior(bundle.arrays["z"], conditioning)
    for size in (13, 50):
        model = WindowDecoder(prior, conditioning)
        prefill(model, tokens[:, :-1], size)
        close(model.logits(model.predict()[:, 0]), whole[:, -1], f"chunks of {size}", **FLOAT32)
