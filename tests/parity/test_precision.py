"""The cost of lower precision: bits per token with teacher forcing, and changes of the argmax.

The golden priors are small and their weights random, which is hard on rounding: nothing is predictable, so that many
codes are about as likely as the likeliest. The embedded model is trained, and evaluated on held-out songs.
"""

from __future__ import annotations

from itertools import product
from typing import TYPE_CHECKING

import pytest
import torch

from benchmarks import precision as trained
from jukebox_core.families.jukebox.engines.engines import quantise_projections
from tests.helpers.engines import prepared
from tests.helpers.models.golden_priors import FILES, condition, read_bundle, read_plain_prior

if TYPE_CHECKING:
    from pathlib import Path

KINDS = pytest.mark.parametrize("kind", FILES)
# By how much the bits a token may change, as a share of float32's, and the least share of equal likeliest codes.
LIMITS = {"bfloat16": (0.005, 0.90), "float16": (0.005, 0.95), "int8": (0.02, 0.85)}


@KINDS
@pytest.mark.parametrize("precision", LIMITS)
@torch.no_grad()
def test_bits_per_token(golden: Path, kind: str, precision: str, record_property: pytest.RecordProperty) -> None:
    bundle = read_bundle(golden, f"prior_{kind}/teacher_forced")
    codes = bundle.arrays["z"]
    exact, rounded = read_plain_prior(golden, kind), read_plain_prior(golden, kind)
    if precision == "int8":
        quantise_projections(rounded.body.transformer)
    rounded.set_compute_dtype(torch.float16 if precision == "float16" else torch.bfloat16)
    rounded = prepared(rounded)
    bits = [prior.losses(codes, condition(prior, bundle.arrays)).music.item() for prior in (exact, rounded)]
    best = [prior(codes, condition(prior, bundle.arrays)).argmax(-1) for prior in (exact, rounded)]
    change, agreement = abs(bits[1] - bits[0]) / bits[0], (best[0] == best[1]).float().mean().item()
    record_property("change", change)
    print(f"{kind} {precision}: bits change by {change:.4%}, {agreement:.1%} of the likeliest codes agree")
    most, least = LIMITS[precision]
    assert change < most
    assert agreement > least


@pytest.mark.slow
@pytest.mark.endurance
def test_bits_per_token_of_a_trained_model(record_property: pytest.RecordProperty) -> None:
    result = trained.run("mini", songs=3)
    print(trained.table(result))
    assert {(row["level"], row["dtype"]) for row in result["rows"]} == {*product(range(3), LIMITS)}
    for row in result["rows"]:
        record_property(f"change_{row['level']}_{row['dtype']}", row["change"])
        assert row["tokens"] >= 3000
        most, least = LIMITS[row["dtype"]]
        assert abs(row["change"]) < most
        assert row["agreement"] > least
