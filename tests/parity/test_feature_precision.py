"""Features in lower precision: the error of every layer against float32, on golden models and on mini."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
import torch

from benchmarks.features import rounding
from benchmarks.full_size import label_row
from jukebox_core.families.jukebox.family import JukeboxFamily
from jukebox_core.families.jukebox.features.activations import layer_outputs
from jukebox_core.runtime.config import HardwareConfig
from tests.helpers.models import zoo

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    import numpy as np
    from numpy.typing import NDArray

    Errors = dict[str, dict[str, tuple[float, float]]]  # by precision and layer: of rows, and of their mean

ERRORS = {"bfloat16": (0.01, 0.005), "float16": (0.002, 0.001), "int8": (0.04, 0.02)}  # of rows, and of their mean


def check_errors(found: Errors) -> None:
    """Each precision has errors, except where weights are rounded to it already, and they are within its limits."""
    assert set(found) == set(ERRORS)
    for dtype, of_layers in found.items():
        for layer, errors in of_layers.items():
            for error, limit in zip(errors, ERRORS[dtype], strict=True):
                assert error < limit, f"{layer} in {dtype}"
            assert errors[0] > (1e-4 if dtype != "float16" else -1), f"{layer} in {dtype} is float32"


def test_errors_of_lower_precision_on_mini_are_bounded() -> None:
    found: Errors = {}
    for row in rounding.run("mini", songs=1, seconds=1.0)["rows"]:
        found.setdefault(row["dtype"], {})[f"layer {row['layer']}"] = (row["error"], row["mean_error"])
        assert row["cosine"] > 0.999
    check_errors(found)


@pytest.mark.parametrize("kind", ["5b", "5b_lyrics", "1b_lyrics"])
def test_errors_of_lower_precision_on_golden_models_are_bounded(
    golden: Path, kind: str, record_property: Callable[[str, object], None]
) -> None:
    config, files = zoo.config(golden, kind), zoo.files(golden, kind)
    top = config.priors[config.top]
    depth = top.transformer.depth
    codes_BT = torch.randint(config.bins, (1, top.context), generator=torch.Generator().manual_seed(0))

    def activations(dtype: str) -> dict[int, NDArray[np.float64]]:
        hardware = HardwareConfig(device="cpu", dtype=dtype, threads=1)  # type: ignore[arg-type]
        opened = JukeboxFamily().open_features(
            config, config.top, files[f"level_{config.top}"], "0" * 64, hardware, None, deepest=depth
        )
        row = torch.tensor([label_row(config, config.top)])
        condition = opened.prior.condition(row)
        outputs = layer_outputs(opened.prior, codes_BT, condition, range(1, depth + 1))
        return {each.layer: each.x_BTW[0].double().numpy() for each in outputs}

    exact = activations("float32")
    found: Errors = {}
    for dtype in ERRORS:
        for layer, rows in activations(dtype).items():
            error, cosine = rounding.compare(rows, exact[layer])
            mean_error, _ = rounding.compare(rows.mean(0)[None], exact[layer].mean(0)[None])
            found.setdefault(dtype, {})[f"layer {layer}"] = (error, mean_error)
            assert cosine > 0.999
        record_property(f"{kind} {dtype}", str({key: f"{a:.2%} {b:.2%}" for key, (a, b) in found[dtype].items()}))
    check_errors(found)
