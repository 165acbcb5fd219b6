"""mini with shorter windows, so that a fraction of a second has several of them."""

from __future__ import annotations

from typing import TYPE_CHECKING

import yaml

from tests.helpers.paths import ROOT

if TYPE_CHECKING:
    from pathlib import Path


def write_small_model(path: Path) -> None:
    """mini with shorter upsampler windows, which its trained weights do not fit; it draws its own."""
    model = yaml.safe_load((ROOT / "conf" / "model" / "mini.yaml").read_text())
    priors = model["network"]["priors"]
    priors["level_0"]["context"], priors["level_1"]["context"] = 256, 128
    files, empty = model["files"], {"bytes": None, "sha256": None, "sources": []}
    files["weight_sources"] = ["seed:1"]
    files["weights"] = {
        role: entry | empty | {"path": "small/seeded.safetensors"} for role, entry in files["weights"].items()
    }
    path.write_text(yaml.safe_dump(model | {"name": "small", "trained": False}))
